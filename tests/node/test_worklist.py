"""The order of the worklist, how far it reaches back, and the months behind it."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from pneumo.evaluation import metrics
from pneumo.node import worklist
from pneumo.node.outcome import Outcome
from pneumo.node.store import DATABASE, format_time
from pneumo.node.worklist import bound_share, count_older, list_waiting, tabulate

MODEL = {"name": "m", "version": "1", "sha256": "0" * 64}
NOW = datetime(2026, 11, 1, 10, 30, tzinfo=UTC)


@pytest.fixture
def put(store, tmp_path):
    """A function that puts a film into the store as it would be later."""
    database = sqlite3.connect(tmp_path / "state" / DATABASE, isolation_level=None)

    def put(uid, triage=None, ago=0, verdict=None, answer=(("label", "PNEUMONIA"),), reason=None, state="sent"):
        outcome = Outcome(MODEL, triage, reason, dict(answer)).to_json() if triage else None
        database.execute(
            "INSERT INTO films (uid, study, caller, received, state, outcome, verdict) VALUES (?, '', '', ?, ?, ?, ?)",
            (uid, format_time(NOW - timedelta(minutes=ago)), state, outcome, verdict),
        )

    yield put
    database.close()


def test_rule_in_comes_first_and_no_triage_puts_a_film_back(store, put):
    put("f", "rule-in", 25)
    put("a", "rule-out", 30)
    put("b", None, 29)
    put("c", "rule-in", 28)
    put("d", "refused", 27)
    put("e", "uncertain", 26)
    put("g", "rule-in", 30, verdict="agree")
    found = list_waiting(store, NOW, 1)
    assert [(entry.row.uid, entry.minutes) for entry in found] == [
        ("c", 28), ("f", 25), ("a", 30), ("b", 29), ("d", 27), ("e", 26),
    ]  # fmt: skip


def test_old_films_leave_the_list_unless_the_archive_lacks_their_results(store, put):
    day = 24 * 60
    for uid, days, state in (("new", 1, "sent"), ("old", 3, "sent"), ("older", 20, "sent"), ("stuck", 21, "failed")):
        put(uid, "uncertain", days * day, state=state)
    put("judged", "uncertain", 20 * day, verdict="agree")
    shown = {days: [entry.row.uid for entry in list_waiting(store, NOW, days)] for days in (2, 3, 30)}
    assert shown == {2: ["stuck", "new"], 3: ["stuck", "old", "new"], 30: ["stuck", "older", "old", "new"]}
    assert [count_older(store, NOW, days) for days in (2, 3, 30)] == [2, 1, 0]


def test_a_look_reads_no_film_that_it_does_not_show(store):
    for statement, values in (
        (f"SELECT * FROM films WHERE {worklist._WAITING}", ("", "")),
        (worklist._OLDER, ("",)),
        (worklist._JUDGED, ()),
        ("SELECT state, count(*) FROM films GROUP BY state", ()),
    ):
        steps = [step["detail"] for step in store.select(f"EXPLAIN QUERY PLAN {statement}", values)]
        assert steps
        assert not [step for step in steps if step.startswith("SCAN") and "INDEX" not in step]


def test_months_by_hand(store, put):
    said = [("PNEUMONIA", "agree")] * 6 + [("PNEUMONIA", "disagree")] * 2
    said += [("NORMAL", "agree")] * 9 + [("NORMAL", "disagree")] + [("NORMAL", None)]
    for number, (label, verdict) in enumerate(said):
        put(str(number), "uncertain", verdict=verdict, answer={"label": label})
    put("x", "rule-in", ago=-30 * 24 * 60, verdict="agree")
    put("y", "unfamiliar", verdict="agree", reason="unlike")
    put("z", "refused", verdict="agree", reason="no film", answer=())
    put("again", verdict="agree")  # sent again after its verdict, and not yet read again
    december, november = tabulate(store)
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
