"""The report says what the metrics say, and shows films with their overlays."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from pneumo.evaluation.faithfulness import DRAWS, SHARES, WAYS, describe_drops, summarise_drops
from pneumo.evaluation.metrics import evaluate, measure_point, measure_triage
from pneumo.evaluation.subgroups import measure_subgroups
from pneumo.evaluation.thresholds import suggest_points
from pneumo.reports.evaluation_report import write_report
from pneumo.reports.figures import ON_A_SHEET
from pneumo.reports.pages import ATTRIBUTION
from pneumo.reports.tables import tabulate_metrics, tabulate_points, tabulate_subgroups, tabulate_triage

TARGET = [0, 0, 0, 1, 1, 1]
GREYS = [30, 90, 200, 60, 180, 240]  # films of one grey: under the model that says the mean grey, two are wrong
FIGURES = ("roc", "precision_recall", "reliability", "confusion", "best", "worst")


@pytest.fixture
def write(mean_grey, tmp_path):
    def written(target, greys, **more):
        asked = []

        def predict(index):
            asked.append(index)
            buffer = io.BytesIO()
            Image.new("L", (80, 64), greys[index]).save(buffer, "PNG")
            return mean_grey.predict(buffer.getvalue())

        probability = [grey / 255 for grey in greys]
        result = evaluate(target, probability, 0.5) | more
        names = [f"film ${index}$ _.png" for index in range(len(greys))]
        report = write_report(tmp_path / "a" / "report", result, target, probability, names, predict)
        return report, result, asked

    return written


def test_report_holds_the_metrics_and_nothing_else(write):
    model = {"name": "mean-grey", "version": "1", "sha256": "0" * 64}
    report, result, _ = write(TARGET, GREYS, model=model, unreadable=[{"file": "x", "reason": "y"}])
    text = report.read_text()
    assert json.loads((report.parent / "metrics.json").read_text()) == result
    for name, value, interval in tabulate_metrics(result):
        assert f"| {name} | {value} | {interval} |" in text
    assert "| Accuracy | 0.6667 |" in text
    assert "| is NORMAL | 2 | 1 |\n| is PNEUMONIA | 1 | 2 |" in text
    assert "mean-grey 1" in text
    assert "Not readable: 1" in text
    assert ATTRIBUTION not in text  # nothing says that these films are of that data set


def test_report_tells_what_is_left_open_and_every_operating_point(write):
    # 30, 60 / 255 below 0.25; 90 between; 180, 200, 240 from 0.75 on but 180 (0.706): two are open, one of four wrong
    target, probability = np.array(TARGET), np.array(GREYS) / 255
    open_ = measure_triage(target, probability, 0.25, 0.75, 0.5, range(6))
    points = {"balanced": {"threshold": 0.5, **measure_point(target, probability, 0.5, range(6))}}
    suggested = suggest_points(target, probability, range(6))
    report, _, _ = write(TARGET, GREYS, triage=open_, operating_points=points, suggested=suggested)
    text = report.read_text()
    for name, value, span in tabulate_triage(open_):
        assert f"| {name} | {value} | {span} |" in text
    assert "| Uncertain | 0.3333 |" in text
    assert "| Settled: error | 0.5000 |" in text
    assert "| uncertain | 1 | 1 |" in text
    assert "| balanced | 0.5000 | 0.6667 (" in text
    for row in tabulate_points(suggested):
        assert f"| {' | '.join(row)} |" in text


def test_report_tells_groups_and_what_deleting_regions_does(write):
    groups = measure_subgroups(TARGET, np.array(GREYS) / 255, 0.5, range(6), [None] * 6, {"brightness": GREYS})
    after = np.broadcast_to(np.array([0.5, 0.9, 0.8])[:, None], (2, len(SHARES), len(WAYS), DRAWS))
    tested = summarise_drops([1, 1], after, 1, 0, ["a", "b"])
    report, _, _ = write(TARGET, GREYS, subgroups=groups, faithfulness=tested)
    text = report.read_text()
    for row in tabulate_subgroups(groups):
        assert f"| {' | '.join(row)} |" in text
    assert "| Brightness: lowest third, 30 to 60 grey levels | 2 | 0.0000 (" in text  # 60 is a pneumonia
    assert f"![{describe_drops(tested)}](deletion.png)" in text
    assert "0.40 (0.40 to 0.40) more than random" in text
    with Image.open(report.parent / "deletion.png") as figure:
        assert np.asarray(figure.convert("L")).std() > 5


def test_every_figure_is_small_readable_and_named_in_the_report(write):
    kinds = ["normal"] * 3 + ["bacteria", "virus", "virus"]  # as the names of that data set's films tell
    groups = measure_subgroups(TARGET, np.array(GREYS) / 255, 0.5, range(6), kinds, {})
    report, _, _ = write(TARGET, GREYS, subgroups=groups)
    assert {path.name for path in report.parent.glob("*.png")} == {f"{name}.png" for name in FIGURES}
    for name in FIGURES:
        assert f"]({name}.png)" in report.read_text()
        with Image.open(report.parent / f"{name}.png") as figure:
            assert 400 <= max(figure.size) <= 1200
            assert np.asarray(figure.convert("L")).std() > 5
    assert ATTRIBUTION in report.read_text()


def test_sheets_show_the_best_and_the_worst_of_each_class(write):
    many = [0] * 10 + [1] * 10
    greys = [*range(10, 210, 20), *range(40, 240, 20)]
    _, _, asked = write(many, greys)
    best, worst = asked[: 2 * ON_A_SHEET], asked[2 * ON_A_SHEET :]
    assert best == [0, 1, 2, 3, 19, 18, 17, 16]
    assert worst == [9, 8, 7, 6, 10, 11, 12, 13]


def test_one_class_has_no_curves(write):
    report, result, _ = write([0, 0], [30, 90])
    assert result["auc"] is None
    assert "| AUC | undefined |  |" in report.read_text()
    assert not (report.parent / "roc.png").exists()
    assert (report.parent / "confusion.png").exists()
