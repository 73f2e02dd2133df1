"""The node's work, film by film, with a model that a person can compute and an archive in this process."""

import io
import sqlite3
import threading

import pydicom
import pytest
from pynetdicom import AE, evt

from pneumo.errors import ModelError, SettingError
from pneumo.node import senders
from pneumo.node.header import read_header
from pneumo.node.node import Node, lock_folder
from pneumo.node.senders import NotTakenError, StoreSender
from tests.support.hospital import film
from tests.support.server import HOST, until


def receive(store, number=1, **elements):
    data = film(number, **elements)
    assert store.receive(data, read_header(data), "XRAY")
    return f"1.2.3.4.{number}.3"


def running():
    """The threads of nodes in this process."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("node.")]


def test_a_film_is_read_sent_and_forgotten(node, store, archive):
    uid = receive(store)
    assert (node.read_next(), node.read_next()) == (True, False)
    row = store.find(uid)
    assert (row.state, row.outcome.answer["population"]["name"]) == ("read", "child")
    assert (node.send_next(), node.send_next()) == (True, False)
    assert store.find(uid).state == "sent"
    assert not store.files.film(uid).exists()
    assert [set(results) for results in archive.sent] == [{"report", "capture"}]


@pytest.mark.parametrize("view", ["LL", "PA"])
def test_what_is_refused_is_answered_too(node, store, archive, view, mean_grey):
    mean_grey.unlike = -5 if view == "LL" else 5  # by the header, by the gate
    uid = receive(store, ViewPosition=view)
    node.read_next()
    row = store.find(uid)
    assert (row.state, row.outcome.triage) == ("refused", "refused")
    expected = "This is not a frontal" if view == "LL" else "This does not look like a chest film"
    assert row.outcome.reason.startswith(expected)
    node.send_next()
    assert (store.find(uid).state, len(archive.sent)) == ("sent", 1)


def test_a_forced_film_is_read_with_a_warning(store, mean_grey, archive):
    uid = receive(store, ViewPosition="LL")
    Node(store, mean_grey, archive, force=True).read_next()
    outcome = store.find(uid).outcome
    assert outcome.was_read
    assert outcome.finding == "indeterminate"
    assert any("Read because it was asked for" in warning for warning in outcome.answer["warnings"])


def test_the_operating_point_is_the_one_asked_for(store, mean_grey, archive):
    uid = receive(store)
    Node(store, mean_grey, archive, operating_point="screening").read_next()
    assert store.find(uid).outcome.answer["threshold"] == 0.25


def test_what_is_not_the_film_s_fault_is_tried_again(node, store, mean_grey, monkeypatch):
    def fail(*_):
        raise ModelError("The model has gone.")

    uid = receive(store)
    monkeypatch.setattr(mean_grey, "predict", fail)
    node.read_next()
    assert (store.find(uid).state, store.find(uid).error) == ("failed", "The model has gone.")
    monkeypatch.undo()
    monkeypatch.setattr("time.time", lambda: 2e10)
    node.read_next()
    assert store.find(uid).state == "read"


def test_an_archive_that_is_away_delays_no_reading(node, store, archive, monkeypatch):
    archive.error = NotTakenError("The archive is away.")
    first, second = receive(store, 1), receive(store, 2)
    for _ in range(2):
        node.read_next()
        node.send_next()
    assert {store.find(uid).state for uid in (first, second)} == {"failed"}
    assert store.find(first).error == "The archive is away."
    archive.error = None
    monkeypatch.setattr("time.time", lambda: 2e10)
    assert [node.send_next() for _ in range(3)] == [True, True, False]
    assert [store.find(uid).state for uid in (first, second)] == ["sent", "sent"]


def test_results_that_are_sent_again_are_the_same(node, store, archive):
    for _ in range(2):
        receive(store)
        node.read_next()
        node.send_next()
    first, second = archive.sent
    assert first == second


def test_a_foreign_error_repeats_nothing_of_the_header(node, store, monkeypatch):
    def fail(*_, **__):
        raise ValueError("Müller^Jörg")

    uid = receive(store)
    monkeypatch.setattr("pneumo.node.node.make_results", fail)
    node.read_next()
    assert store.find(uid).error == "ValueError"


def test_a_started_node_works_until_it_is_stopped(node, store, archive):
    receive(store, 1)
    node.start()
    until(lambda: len(archive.sent) == 1, "the film that was there", 20)
    receive(store, 2)
    node.notify()
    until(lambda: len(archive.sent) == 2, "the film that came", 20)
    assert sorted(running()) == ["node.clean", "node.read_next", "node.send_next"]
    threading.Timer(0.1, node.stop).start()
    assert node.wait() is True
    assert running() == []


def test_a_node_that_stops_waits_for_an_archive_that_hangs(store, mean_grey, monkeypatch):
    monkeypatch.setattr(senders, "SECONDS", 1)
    asked, answer = threading.Event(), threading.Event()

    def hang(_):
        asked.set()
        answer.wait(30)
        return 0

    entity = AE("ARCHIVE")
    for kind in (senders.REPORTS[0], "1.2.840.10008.5.1.4.1.1.7"):
        entity.add_supported_context(kind)
    server = entity.start_server((HOST, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, hang)])
    node = Node(store, mean_grey, StoreSender("PNEUMO", "ARCHIVE", HOST, server.server_address[1]))
    uid = receive(store)
    node.start()
    assert asked.wait(30)
    node.stop()
    assert node.wait() is True
    assert running() == []
    assert (store.find(uid).state, store.find(uid).error) == ("failed", "ARCHIVE answered nothing to the report.")
    answer.set()
    server.shutdown()


def test_a_disk_that_fails_stops_nothing_and_a_bug_ends_the_node(node, store, archive, monkeypatch):
    broken = [sqlite3.OperationalError("database or disk is full")]
    find_next = store.find_next

    def fail_once(**options):
        if broken:
            raise broken.pop()
        return find_next(**options)

    monkeypatch.setattr(store, "find_next", fail_once)
    receive(store)
    node.start()
    until(lambda: len(archive.sent) == 1, "the film", 20)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    broken.append(AssertionError("a bug"))
    assert node.wait() is False
    assert running() == []


def test_one_node_a_folder(tmp_path):
    held = lock_folder(tmp_path / "state")
    with pytest.raises(SettingError, match="no other node uses"):
        lock_folder(tmp_path / "state")
    assert held


def test_the_report_names_the_film(node, store, archive):
    receive(store)
    node.read_next()
    node.send_next()
    report = pydicom.dcmread(io.BytesIO(archive.sent[0]["report"]))
    study = report.CurrentRequestedProcedureEvidenceSequence[0]
    film_of = study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
    assert (study.StudyInstanceUID, film_of.ReferencedSOPInstanceUID) == ("1.2.3.4.1.1", "1.2.3.4.1.3")
