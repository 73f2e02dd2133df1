"""What the node accepts, keeps and drops, with pynetdicom as the other side."""

import errno
import io
import os
import socket
import sqlite3
import threading
import time

import pydicom
import pytest
from pydicom import uid

from pneumo.errors import SettingError
from pneumo.node.receiver import DERIVED, DUPLICATE, OTHER, Receiver
from tests.support.dicom import RAMP, dicom
from tests.support.server import HOST, until

UIDS = {"StudyInstanceUID": "1.2.1", "SeriesInstanceUID": "1.2.2", "SOPInstanceUID": "1.2.3"}
CR, DX = uid.ComputedRadiographyImageStorage, uid.DigitalXRayImageStorageForPresentation


def film(**elements):
    dataset = pydicom.dcmread(io.BytesIO(dicom(RAMP, **UIDS | elements)))
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    return dataset


def store_in(association, dataset):
    return association.send_c_store(dataset).Status


def test_an_echo(listening, caller):
    assert caller(listening()).send_c_echo().Status == 0


@pytest.mark.parametrize("kind", [CR, DX, uid.DigitalXRayImageStorageForProcessing])
def test_a_film_is_on_the_disk_when_its_sender_is_told(listening, caller, store, kind):
    assert store_in(caller(listening(), kind), film(SOPClassUID=kind)) == 0
    assert listening.came.is_set()
    row = store.find("1.2.3")
    assert (row.state, row.caller) == ("received", "XRAY")
    kept = pydicom.dcmread(store.files.film("1.2.3"))
    assert (kept.SOPClassUID, kept.file_meta.MediaStorageSOPClassUID) == (kind, kind)
    assert (kept.pixel_array == RAMP).all()


@pytest.mark.parametrize(
    ("kind", "image_type", "reason"),
    [
        (uid.CTImageStorage, ["ORIGINAL", "PRIMARY"], OTHER),
        (uid.Comprehensive3DSRStorage, None, OTHER),
        (uid.SecondaryCaptureImageStorage, ["DERIVED", "SECONDARY"], OTHER),
        ("1.3.6.1.4.1.99999.1", None, OTHER),  # a private class
        (CR, ["DERIVED", "PRIMARY"], DERIVED),
    ],
)
def test_everything_else_is_acknowledged_and_dropped(listening, caller, store, kind, image_type, reason):
    assert store_in(caller(listening(), kind), film(SOPClassUID=uid.UID(kind), ImageType=image_type)) == 0
    assert store.count()["dropped"] == {reason: 1}
    assert (store.find("1.2.3"), listening.came.is_set()) == (None, False)


def test_a_film_that_comes_three_times_is_kept_once(listening, caller, store):
    association = caller(listening(), CR)
    assert [store_in(association, film()) for _ in range(3)] == [0, 0, 0]
    assert store.count()["films"]["received"] == 1
    assert store.count()["dropped"] == {DUPLICATE: 2}


def test_a_film_of_no_study_is_not_understood(listening, caller, store):
    assert store_in(caller(listening(), CR), film(StudyInstanceUID=None)) == 0xC000
    assert store.find_where("TRUE") == []


@pytest.mark.parametrize(("number", "status"), [(errno.ENOSPC, 0xA700), (errno.EDQUOT, 0xA700), (errno.EIO, 0x0110)])
def test_a_disk_that_fails_is_told(listening, caller, store, monkeypatch, number, status):
    association = caller(listening(), CR)

    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    assert store_in(association, film()) == status
    monkeypatch.undo()
    assert store.find_where("TRUE") == []
    assert store_in(association, film()) == 0


def test_a_full_database_is_told(listening, caller, store, monkeypatch):
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL

    def fail(*_):
        raise error

    monkeypatch.setattr(store, "receive", fail)
    assert store_in(caller(listening(), CR), film()) == 0xA700


def test_titles_are_checked(listening, caller):
    port = listening(callers=("XRAY", "ORTHANC"))
    assert caller(port).is_established
    assert caller(port, calling="STRANGER").is_rejected
    assert caller(port, called="OTHER").is_rejected


def test_idle_clients_make_room(listening, caller):
    port = listening(idle=1.5, most=2)
    silent = [socket.create_connection((HOST, port)) for _ in range(2)]  # they never say who they are
    silent[0].sendall(b"\x01\x00\x00")  # half of a message
    idle = [caller(port), caller(port)]
    until(lambda: caller(port).is_established, "a place", 10)
    until(lambda: not any(association.is_established for association in idle), "idle associations to end", 10)
    for connection in silent:
        connection.close()


def test_a_film_that_is_being_kept_is_kept_before_the_receiver_has_stopped(store, caller, monkeypatch):
    began, receive = threading.Event(), store.receive

    def receive_slowly(*arguments):
        began.set()
        time.sleep(0.5)
        return receive(*arguments)

    monkeypatch.setattr(store, "receive", receive_slowly)
    receiver = Receiver(store, lambda: None)
    association = caller(receiver.start(HOST, 0), CR)
    sending = threading.Thread(target=association.send_c_store, args=(film(),))
    sending.start()
    assert began.wait(10)
    receiver.stop()
    assert store.find("1.2.3").state == "received"
    sending.join()


def test_a_port_that_is_taken_is_one_sentence(store):
    with socket.create_server((HOST, 0)) as taken, pytest.raises(SettingError, match="Choose others with --host and"):
        Receiver(store, lambda: None).start(HOST, taken.getsockname()[1])


def test_noise_and_broken_associations_harm_nobody(listening, caller, store):
    port = listening()
    for noise in (b"GET / HTTP/1.1\r\n\r\n", os.urandom(4096), b"\x01\x00\xff\xff\xff\xff", b""):
        with socket.create_connection((HOST, port)) as connection:
            connection.sendall(noise)
    association = caller(port, CR)
    association.abort()
    assert store_in(caller(port, CR), film()) == 0
    assert store.count()["films"]["received"] == 1


def test_an_association_that_breaks_in_the_middle_of_a_film_leaves_nothing(listening, caller, store):
    association = caller(listening(), CR)
    connection = association.dul.socket.socket
    header = bytes.fromhex("04 00 00 01 00 00") + (65530).to_bytes(4, "big") + b"\x01\x02"  # P-DATA-TF, a data fragment
    connection.sendall(header + bytes(1000))
    connection.close()
    time.sleep(0.2)
    assert store.find_where("TRUE") == []
    assert list(store.files.film("x").parent.iterdir()) == []
