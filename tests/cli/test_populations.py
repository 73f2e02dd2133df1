"""Commands read films by the numbers of a population: of each film's own, or of one for all of them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pneumo.cli import films as cli_films
from pneumo.cli.populations import settle
from pneumo.errors import PopulationError
from tests.support.cli import rows, run
from tests.support.films import TwoPopulations


@pytest.fixture
def both(monkeypatch):
    """A model that knows children and adults; of 60 % grey it says 0.60 and 0.36."""
    predictor = TwoPopulations()
    monkeypatch.setattr(cli_films, "load", lambda name: predictor)
    return predictor


@pytest.fixture
def folder(tmp_path):
    """Two films of 60 % grey, one of each label."""
    for label in ("NORMAL", "PNEUMONIA"):
        (tmp_path / label).mkdir()
        Image.fromarray(np.full((300, 300), 153, np.uint8)).save(tmp_path / label / f"{label}.png")
    return tmp_path


def test_predict_says_whose_numbers_a_row_is_of(both, folder, tmp_path):
    out = tmp_path / "out.csv"
    for name, label in (("child", "PNEUMONIA"), ("adult", "NORMAL")):
        assert run("predict", folder, "--csv", out, "--population", name).exit_code == 0
        assert [(row["population"], row["label"]) for row in rows(out)] == [(name, label)] * 2
    assert run("predict", folder, "--csv", out, "--resume", "--population", "adult").exit_code == 0
    done = run("predict", folder, "--csv", out, "--resume", "--population", "child")
    assert (done.exit_code, "another model or operating point" in done.stderr) == (2, True)
    done = run("predict", folder, "--population", "old")
    assert done.exit_code == 1
    assert "Expected one of child, adult, received 'old'." in done.stdout


def test_evaluate_reads_all_films_by_one_population(both, folder, tmp_path):
    out = tmp_path / "out.json"
    done = run("evaluate", folder, "--json", out)
    assert done.exit_code == 0
    assert "All films are read as those of child, as 2 of 2 of them are told to be" in done.stderr
    assert json.loads(out.read_text())["population"] == "child"
    assert json.loads(out.read_text())["threshold"] == 0.5
    both.card = TwoPopulations().card
    done = run("evaluate", folder, "--json", out, "--population", "adult")
    assert "All films are read as those of adult, as you said." in done.stderr
    assert json.loads(out.read_text())["threshold"] == 0.75


def test_a_model_that_knows_one_population_needs_not_be_told(mean_grey):
    card = mean_grey.card
    settle(mean_grey, None, [])
    settle(mean_grey, "child", [])
    assert mean_grey.card is card
    with pytest.raises(PopulationError, match="Expected one of child, received 'adult'"):
        settle(mean_grey, "adult", [])
    both = TwoPopulations()
    both.card = replace(both.card, populations=both.card.populations)
    settle(both, None, [])  # of no film: left as it is
    assert list(both.card.populations) == ["child", "adult"]
