"""A store in a folder, and a node in this process whose model a person can compute."""

import threading
from datetime import datetime

import pytest
from pynetdicom import AE

from pneumo.node.header import read_header
from pneumo.node.node import Node
from pneumo.node.outcome import make_outcome
from pneumo.node.receiver import Receiver
from pneumo.node.results import make_results
from pneumo.node.store import Store
from tests.support.hospital import film
from tests.support.server import HOST


class Kept:
    """An archive that keeps what it is sent, or raises what `error` is."""

    def __init__(self):
        self.sent, self.error = [], None

    def send(self, results):
        if self.error:
            raise self.error
        self.sent.append(results)


@pytest.fixture
def archive():
    return Kept()


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "state")
    yield store
    store.close()


@pytest.fixture
def node(store, mean_grey, archive):
    """Not started: its methods are called one by one."""
    return Node(store, mean_grey, archive)


@pytest.fixture
def listening(store):
    """A function that starts a receiver with options and returns its port; `came` is set when a film has come."""
    receivers, came = [], threading.Event()

    def listen(tls=None, **options):
        receivers.append(Receiver(store, came.set, **options))
        return receivers[-1].start(HOST, 0, tls)

    listen.came = came
    yield listen
    for receiver in receivers:
        receiver.stop()


@pytest.fixture
def caller():
    """A function that opens an association with the receiver on a port for the storage classes named."""
    associations = []

    def call(port, *kinds, called="PNEUMO", calling="XRAY", tls=None):
        entity = AE(calling)
        for kind in ("1.2.840.10008.1.1", *kinds):
            entity.add_requested_context(kind)
        associations.append(entity.associate(HOST, port, ae_title=called, tls_args=tls and (tls, HOST)))
        return associations[-1]

    yield call
    for association in associations:
        if association.is_established:
            association.release()


@pytest.fixture
def results(mean_grey):
    """The files of a film that was read."""
    prediction = mean_grey.predict(film(1))
    return make_results(make_outcome(prediction), prediction, read_header(film(1)), datetime(2026, 1, 2))
