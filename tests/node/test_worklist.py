"""The order of the worklist, and the months behind it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pneumo.evaluation import metrics
from pneumo.node.outcome import Outcome
from pneumo.node.store import Row
from pneumo.node.worklist import bound_share, list_waiting, tabulate

MODEL = {"name": "m", "version": "1", "sha256": "0" * 64}
ROW = Row("1", "1.1", None, None, "XRAY", "2026-11-01T10:00:00.000+00:00", "sent", 0, 0.0, None, None, None, None, None)


def row(uid, triage=None, minute=0, verdict=None, label="PNEUMONIA", month="11", reason=None):
    outcome = Outcome(MODEL, triage, reason, {"label": label}) if triage else None
    return replace(
        ROW, uid=uid, received=f"2026-{month}-01T10:{minute:02}:00.000+00:00", outcome=outcome, verdict=verdict
    )


def test_rule_in_comes_first_and_no_triage_puts_a_film_back():
    rows = [
        row("a", "rule-out", 0),
        row("b", None, 1),
        row("c", "rule-in", 2),
        row("d", "refused", 3),
        row("e", "uncertain", 4),
        row("f", "rule-in", 5),
        row("g", "rule-in", 0, verdict="agree"),
    ]
    found = list_waiting(rows, datetime(2026, 11, 1, 10, 30, tzinfo=UTC))
    assert [(entry.row.uid, entry.minutes) for entry in found] == [
        ("c", 28), ("f", 25), ("a", 30), ("b", 29), ("d", 27), ("e", 26),
    ]  # fmt: skip


def test_months_by_hand():
    said = [("PNEUMONIA", "agree")] * 6 + [("PNEUMONIA", "disagree")] * 2
    said += [("NORMAL", "agree")] * 9 + [("NORMAL", "disagree")] + [("NORMAL", None)]
    rows = [row(str(n), "uncertain", label=label, verdict=verdict) for n, (label, verdict) in enumerate(said)]
    rows += [row("x", "rule-in", verdict="agree", month="12"), row("y", "unfamiliar", verdict="agree", reason="unlike")]
    december, november = tabulate(rows)
    assert (december.name, december.sensitivity, december.specificity) == ("2026-12", (1, 1), (0, 0))
    assert (november.agreed, november.disagreed) == (
        {"NORMAL": 9, "PNEUMONIA": 6},
        {"NORMAL": 1, "PNEUMONIA": 2},
    )
    assert (november.sensitivity, november.specificity) == ((6, 7), (9, 11))


@pytest.mark.parametrize(("found", "of"), [(0, 1), (6, 7), (9, 11), (50, 50)])
def test_intervals_are_those_of_the_evaluation(found, of):
    holds = [True] * found + [False] * (of - found)
    assert bound_share(found, of) == pytest.approx(metrics.bound_share(holds, range(of)))


def test_no_film_has_no_interval():
    assert bound_share(0, 0) is None
