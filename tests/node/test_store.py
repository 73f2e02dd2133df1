"""The state machine of a film, and what is on the disk at each state."""

import errno
import os
import sqlite3
import threading
from datetime import timedelta

import pytest

from pneumo.node import store as store_module
from pneumo.node.header import read_header
from pneumo.node.outcome import REFUSED, Outcome
from pneumo.node.store import DATABASE, LONGEST_WAIT, Store
from tests.support.dicom import RAMP, dicom

MODEL = {"name": "m", "version": "1", "sha256": "0" * 64, "profile": "site"}
READ = Outcome(MODEL, "rule-in", answer={"label": "PNEUMONIA"})
RESULTS = {"report": b"a report", "capture": b"a capture"}
DAY = timedelta(days=1)


def film(number):
    uids = {f"{name}InstanceUID": f"1.2.{number}.{place}" for place, name in enumerate(("Study", "Series", "SOP"))}
    return dicom(RAMP, PatientID=f"P{number}", **uids)


def receive(store, number=1):
    """Returns the film's row, None where it was there."""
    data = film(number)
    header = read_header(data)
    return store.find(header.SOPInstanceUID) if store.receive(data, header, "XRAY") else None


def files(store, row):
    paths = [store.files.film(row.uid), *(store.files.result(row.uid, name) for name in RESULTS)]
    return [path.exists() for path in paths]


def states(store):
    return {state: count for state, count in store.count()["films"].items() if count}


def test_a_film_goes_from_received_to_sent(store):
    row = receive(store)
    assert (row.state, row.study, row.patient, row.accession, row.caller) == ("received", "1.2.1.0", "P1", None, "XRAY")
    assert store.files.film(row.uid).read_bytes() == film(1)
    assert store.find_next(read=False) == row
    assert store.find_next(read=True) is None
    store.keep_outcome(row, READ, RESULTS)
    assert store.find_next(read=False) is None
    row = store.find_next(read=True)
    assert (row.state, row.outcome) == ("read", READ)
    assert [store.files.result(row.uid, name).read_bytes() for name in RESULTS] == list(RESULTS.values())
    store.finish(row, keep=timedelta(0))
    assert (states(store), files(store, row)) == ({"sent": 1}, [False] * 3)
    assert store.find_next(read=True) is None


def test_a_refused_film_has_results_to_send(store):
    row = receive(store)
    store.keep_outcome(row, Outcome(MODEL, REFUSED, "a photograph"), RESULTS)
    assert states(store) == {"refused": 1}
    assert store.find_next(read=True).uid == row.uid


def test_films_are_taken_in_the_order_in_which_they_came(store, monkeypatch):
    times = iter("abcdefghij")
    monkeypatch.setattr(store_module, "_now", lambda: next(times))
    first, second = receive(store, 2), receive(store, 1)
    assert store.find_next(read=False) == first
    store.fail(first, "why")
    assert store.find_next(read=False) == second


def test_what_fails_is_tried_again_ever_more_rarely_and_never_given_up(store, monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1000.0)
    row = receive(store)
    waits = []
    for _ in range(40):
        store.fail(row, "The archive is away.")
        row = store.find(row.uid)
        waits.append(row.next_try - 1000)
        assert store.find_next(read=False) is None
    assert waits[:4] == [2, 4, 8, 16]
    assert waits[10:] == [2048] + [LONGEST_WAIT] * 29
    assert (row.state, row.attempts, row.error) == ("failed", 40, "The archive is away.")
    monkeypatch.setattr("time.time", lambda: 1000.0 + LONGEST_WAIT)
    assert store.find_next(read=False) == row


def test_a_failed_sending_is_not_read_again(store, monkeypatch):
    store.keep_outcome(receive(store), READ, RESULTS)
    store.fail(store.find_next(read=True), "The archive is away.")
    monkeypatch.setattr("time.time", lambda: 2e10)
    assert store.find_next(read=False) is None
    assert store.find_next(read=True).state == "failed"


def test_a_film_that_waits_is_not_taken_twice_and_a_sent_one_is(store):
    row = receive(store)
    assert receive(store) is None
    store.keep_outcome(row, READ, RESULTS)
    assert receive(store) is None
    store.finish(store.find(row.uid), keep=timedelta(0))
    again = receive(store)
    assert (again.state, again.outcome, again.attempts) == ("received", None, 0)
    assert again.received == row.received  # so its results are the same, to the byte
    assert files(store, row) == [True, False, False]


def test_the_same_film_at_the_same_time_is_one(store):
    threads = [threading.Thread(target=receive, args=(store,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert states(store) == {"received": 1}
    assert len(list(store.files.film("x").parent.iterdir())) == 1


def test_a_restart_goes_on_and_cleans_up(store, tmp_path):
    row = receive(store)
    half = store.files.write(store.files.film("1.9"), b"half")
    unknown = store.files.film("1.8")
    unknown.write_bytes(b"its row was not written: its sender was told nothing")
    store.close()
    again = Store(tmp_path / "state")
    again.files.delete_half_written()
    again.forget(keep=DAY, identify=DAY)
    assert again.find_next(read=False) == row
    assert (files(again, row)[0], half.exists(), unknown.exists()) == (True, False, False)
    again.close()


def test_a_full_disk_leaves_nothing_behind(store, monkeypatch):
    def no_space(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space"):
        receive(store)
    monkeypatch.undo()
    assert (states(store), list(store.files.film("x").parent.iterdir())) == ({}, [])
    assert receive(store).state == "received"


def test_sent_films_are_kept_as_long_as_is_said(store):
    rows = [receive(store, number) for number in (1, 2)]
    for row in rows:
        store.keep_outcome(row, READ, RESULTS)
    store.finish(store.find(rows[0].uid), keep=DAY)
    store.forget(keep=DAY, identify=DAY)
    assert [files(store, row) for row in rows] == [[True] * 3] * 2
    assert store.find(rows[0].uid).patient == "P1"
    store.forget(keep=-DAY, identify=-DAY)  # as a day later
    assert [files(store, row) for row in rows] == [[False] * 3, [True] * 3]
    assert [row.patient for row in store.find_where("TRUE ORDER BY received")] == [None, "P2"]


def test_a_verdict(store):
    row = receive(store)
    store.keep_outcome(row, READ, RESULTS)
    store.judge(row, "agree")
    store.judge(row, "disagree")
    found = store.find(row.uid)
    assert (found.verdict, found.judged is not None, found.state) == ("disagree", True, "read")
    with pytest.raises(sqlite3.IntegrityError):
        store.judge(row, "perhaps")
    assert store.find(row.uid).verdict == "disagree"


def test_a_film_that_comes_again_waits_for_a_verdict_on_its_new_answer(store):
    row = receive(store)
    store.keep_outcome(row, READ, RESULTS)
    store.judge(row, "disagree")
    store.finish(store.find(row.uid), keep=timedelta(0))
    again = receive(store)
    assert (again.uid, again.state, again.verdict, again.judged) == (row.uid, "received", None, None)
    assert "disagree" in [line["event"] for line in store.read_log()]


def test_the_log_grows_and_names_nobody(store, tmp_path):
    row = receive(store)
    store.drop("no CR or DX film", "XRAY", "1.5")
    store.keep_outcome(row, READ, RESULTS)
    store.finish(store.find(row.uid), keep=timedelta(0))
    log = store.read_log()
    assert [line["event"] for line in log] == ["received", "dropped", "read", "sent"]
    assert [line["outcome"] for line in log] == [None, "no CR or DX film", "rule-in", "rule-in"]
    assert {line["caller"] for line in log} == {"XRAY"}
    assert (log[2]["model"], log[2]["profile"]) == (MODEL["sha256"], "site")
    assert not any("P1" in str(line) or row.uid in str(line) or row.study in str(line) for line in log)
    other = sqlite3.connect(tmp_path / "state" / DATABASE)
    for statement in ("DELETE FROM audit", "UPDATE audit SET event = 'x'"):
        with pytest.raises(sqlite3.IntegrityError, match="only grows"):
            other.execute(statement)
    other.close()
    assert store.count()["dropped"] == {"no CR or DX film": 1}


def test_nobody_else_may_read_the_films(store):
    row = receive(store)
    path = store.files.film(row.uid)
    assert (path.stat().st_mode & 0o077, path.parent.stat().st_mode & 0o077) == (0, 0)
