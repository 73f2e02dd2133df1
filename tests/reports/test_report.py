"""The report says what the metrics say, and shows films with their overlays."""

import json

import numpy as np
import pytest
from PIL import Image

from pneumo.evaluation.faithfulness import DRAWS, SHARES, WAYS, describe_drops, summarise_drops
from pneumo.evaluation.metrics import evaluate, measure_point, measure_triage
from pneumo.evaluation.subgroups import measure_subgroups
from pneumo.evaluation.thresholds import describe_doubts, suggest_points
from pneumo.reports import tables
from pneumo.reports.evaluation_report import write_report
from pneumo.reports.figures import ON_A_SHEET
from pneumo.reports.pages import ATTRIBUTION, write_duration, write_figure, write_interval, write_spanned_percent
from tests.support.films import MeanGrey, saved

TARGET = [0, 0, 0, 1, 1, 1]
GREYS = [30, 90, 200, 60, 180, 240]  # films of one grey: under the model that says the mean grey, two are wrong
KINDS = ["normal"] * 3 + ["bacteria", "virus", "virus"]  # as the names of that data set's films tell
FIGURES = ("roc", "precision_recall", "reliability", "confusion", "best", "worst", "deletion")


def write(folder, target, greys, **more):
    """Write a report of films of one grey; its path, its result, and the films that were asked for."""
    asked = []

    def predict(index):
        asked.append(index)
        return MeanGrey().predict(saved(Image.new("L", (80, 64), greys[index]), "PNG"))

    probability = [grey / 255 for grey in greys]
    result = evaluate(target, probability, 0.5) | more
    names = [f"film ${index}$ _.png" for index in range(len(greys))]
    return write_report(folder / "a" / "report", result, target, probability, names, predict), result, asked


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The report and the result of an evaluation with everything that may be in it."""
    target, probability = np.array(TARGET), np.array(GREYS) / 255
    after = np.broadcast_to(np.array([0.5, 0.9, 0.8])[:, None], (2, len(SHARES), len(WAYS), DRAWS))
    report, result, _ = write(
        tmp_path_factory.mktemp("whole"),
        TARGET,
        GREYS,
        model={"name": "mean-grey", "version": "1", "sha256": "0" * 64},
        unreadable=[{"file": "x", "reason": "y"}],
        # 30, 60 / 255 below 0.25; 90 between; 180, 200, 240 from 0.75 on but 180 (0.706): two open, one of four wrong
        triage=measure_triage(target, probability, 0.25, 0.75, 0.5, range(6)),
        operating_points={"balanced": {"threshold": 0.5, **measure_point(target, probability, 0.5, range(6))}},
        suggested=suggest_points(target, probability, range(6), draws=50),
        doubts=describe_doubts(target, range(6)),
        subgroups=measure_subgroups(TARGET, probability, 0.5, range(6), KINDS, {"brightness": GREYS}),
        faithfulness=summarise_drops([1, 1], after, 1, 0, ["a", "b"]),
        coloured={"NORMAL": 0.25, "PNEUMONIA": 0.75},
    )
    return report, result


def test_report_holds_the_metrics(whole):
    report, result = whole
    text = report.read_text()
    assert json.loads((report.parent / "metrics.json").read_text()) == result
    for name, value, interval in tables.tabulate_metrics(result):
        assert f"| {name} | {value} | {interval} |" in text
    assert "| Accuracy | 0.6667 |" in text
    assert "| is NORMAL | 2 | 1 |\n| is PNEUMONIA | 1 | 2 |" in text
    assert "mean-grey 1" in text
    assert "Not readable: 1" in text
    assert "colour on 25.0 % of a film labelled NORMAL" in text


def test_report_tells_what_is_left_open_every_point_and_group_and_what_deleting_regions_does(whole):
    report, result = whole
    text = report.read_text()
    rows = tables.tabulate_triage(result["triage"]) + tables.tabulate_points(result["suggested"])
    for row in rows + tables.tabulate_subgroups(result["subgroups"]):
        assert f"| {' | '.join(row)} |" in text
    assert "| Uncertain | 0.3333 |" in text
    assert "| Settled: error | 0.5000 |" in text
    assert "| uncertain | 1 | 1 |" in text
    assert "| balanced | 0.5000 | 0.6667 (" in text
    assert "These are too few: 3 NORMAL and 3 PNEUMONIA patients" in text
    assert "| Brightness: lowest third, 30 to 60 grey levels | 2 | 0.0000 (" in text  # 60 is a pneumonia
    assert f"![{describe_drops(result['faithfulness'])}](deletion.png)" in text
    assert "0.40 (0.40 to 0.40) more than random" in text


def test_every_figure_is_small_readable_and_named_in_the_report(whole):
    report, _ = whole
    assert {path.name for path in report.parent.glob("*.png")} == {f"{name}.png" for name in FIGURES}
    for name in FIGURES:
        assert f"]({name}.png)" in report.read_text()
        with Image.open(report.parent / f"{name}.png") as figure:
            assert 400 <= max(figure.size) <= 1200
            assert np.asarray(figure.convert("L")).std() > 5
    assert ATTRIBUTION in report.read_text()


def test_sheets_show_the_best_and_the_worst_of_each_class(tmp_path):
    _, _, asked = write(tmp_path, [0] * 10 + [1] * 10, [*range(10, 210, 20), *range(40, 240, 20)])
    best, worst = asked[: 2 * ON_A_SHEET], asked[2 * ON_A_SHEET :]
    assert best == [0, 1, 2, 3, 19, 18, 17, 16]
    assert worst == [9, 8, 7, 6, 10, 11, 12, 13]


def test_one_class_has_no_curves_and_a_plain_report_tells_nothing_else(tmp_path):
    report, result, _ = write(tmp_path, [0, 0], [30, 90])
    text = report.read_text()
    assert result["auc"] is None
    assert "| AUC | undefined |  |" in text
    assert not (report.parent / "roc.png").exists()
    assert (report.parent / "confusion.png").exists()
    assert ATTRIBUTION not in text  # nothing says that these films are of that data set
    for absent in ("Operating points", "Suggested", "By group", "Not readable", "Model"):
        assert absent not in text


def test_numbers_as_pages_have_them():
    assert (write_figure(None), write_figure(-0.00412), write_figure(0.5, 2, sign=True)) == (
        "undefined",
        "−0.0041",
        "+0.50",
    )
    assert (write_interval(None), write_interval([0.25, 1], 2)) == ("", "0.25 to 1.00")
    assert write_spanned_percent({"x": 0.025, "intervals": {"x": [0.0104, 0.0586]}}, "x") == "2.5 % (1.0 to 5.9)"
    assert (write_duration(90), write_duration(5400)) == ("2 minutes", "1.5 hours")
