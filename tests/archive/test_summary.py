"""What an archive's rows say together."""

import numpy as np
import pytest
from PIL import Image

from pneumo.archive.rows import COLUMNS
from pneumo.archive.summary import OTHER, REASONS, Summary, expect_shares, summarise, tabulate
from pneumo.model.card import read_card
from tests.support.cli import run
from tests.support.films import TwoPopulations


def row(label="", probability="", error="", triage="", population="", warnings=""):
    return dict(zip(COLUMNS, ("f", label, probability, "0.5", warnings, error, triage, population), strict=True))


ROWS = [
    row("NORMAL", "0.049", triage="rule-out", population="child"),
    row("NORMAL", "0.05", triage="uncertain", population="child", warnings="Odd."),
    row("PNEUMONIA", "1.0", triage="rule-in", population="child"),
    row("PNEUMONIA", "0.999", triage="unfamiliar", population="child"),
    row("NORMAL", "0.5", triage="uncertain", population="adult"),
    row(error="Expected one frame, received 12 frames."),
    row(error="Expected one frame, received 3 frames."),
    row(error="No such file or directory."),
]


def test_rows_are_counted():
    summary = summarise(ROWS)
    assert (summary.films, summary.read, summary.warned) == (8, 5, 1)
    assert summary.labels == {("child", "NORMAL"): 2, ("child", "PNEUMONIA"): 2, ("adult", "NORMAL"): 1}
    assert summary.triage["child", "unfamiliar"] == 1
    assert summary.reasons == {"Expected one frame, received … frames.": 2, "No such file or directory.": 1}
    assert np.flatnonzero(summary.histogram["child"]).tolist() == [0, 1, 19]
    assert summary.histogram["child"].sum() == 4


def test_reasons_are_bounded():
    summary = summarise(row(error="x" * number) for number in range(1, REASONS + 11))
    assert (len(summary.reasons), summary.reasons[OTHER]) == (REASONS + 1, 10)


def test_the_card_says_what_shares_to_expect():
    card = read_card(roles=())
    films = card.contents["triage"]["internal_test"]["films"]
    shares = expect_shares(card, card.population)
    assert sum(shares[name] for name in films) == pytest.approx(1)
    total = sum(sum(by_label.values()) for by_label in films.values())
    assert shares["uncertain"] == pytest.approx(sum(films["uncertain"].values()) / total)
    assert shares["NORMAL"] + shares["PNEUMONIA"] == pytest.approx(1)
    assert expect_shares(card, "nobody") == {}


def test_the_table_by_hand(mean_grey):
    triage = {"internal_test": {"films": {"rule-out": {"NORMAL": 3}, "uncertain": {"NORMAL": 1}, "rule-in": {"A": 4}}}}
    points = {"balanced": {"internal_test": {"confusion": {"tn": 3, "fp": 2, "fn": 1, "tp": 2}}}}
    gate = {"measured": {"internal_test": {"refused": 0.002}}}
    mean_grey.card.contents.update(triage=triage, operating_points=points, gate=gate)
    lines = [" ".join(line.split()) for line in tabulate(summarise(ROWS), mean_grey.card)]
    for line in (
        "8 films: 5 read, 3 not.",
        "child: 4 films share internal test",
        "NORMAL 2 0.500 0.500",
        "rule-out 1 0.250 0.375",
        "uncertain 1 0.250 0.125",
        "rule-in 1 0.250 0.500",
        "unfamiliar 1 0.250 -",
        "not read: 0.375 of all films; of the internal test 0.002",
        "2 Expected one frame, received … frames.",
    ):
        assert line in lines, lines
    assert next(tabulate(Summary(), mean_grey.card)) == "0 films: 0 read, 0 not."


def test_merge_prints_it_and_draws_it(films, grey, tmp_path, monkeypatch):
    two = TwoPopulations()
    monkeypatch.setattr("pneumo.cli.films.load", lambda name: two)
    monkeypatch.setattr("pneumo.model.card.read_card", lambda path, roles: two.card)
    run("predict", films, "--parts", tmp_path / "parts")
    done = run("merge", tmp_path / "parts", tmp_path / "out.csv", "--figure", tmp_path / "new" / "figure.png")
    assert done.exit_code == 0, done.output
    assert "30 films: 29 read, 1 not." in done.output
    with Image.open(tmp_path / "new" / "figure.png") as figure:
        assert figure.width > 2 * figure.height
        assert len(figure.convert("RGB").getcolors(2**20)) > 20
