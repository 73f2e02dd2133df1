"""TLS on both sides of the node: who has a known certificate gets in, everybody else does not."""

import socket
import ssl
import subprocess
from contextlib import closing

import pytest
from pynetdicom import AE, evt

from pneumo.errors import SettingError
from pneumo.node.senders import REPORTS, NotTakenError, StoreSender
from pneumo.node.tls import make_client_tls, make_server_tls
from tests.support.hospital import NodeProcess, film, storescu
from tests.support.server import HOST, until

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """NAME.key, NAME.crt, and both in NAME.pem of four; trust.pem has the certificates of all but the stranger."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("node", "xray", "archive", "stranger"):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN={name}"]
        command += ["-addext", f"subjectAltName=IP:{HOST}", "-keyout", f"{name}.key", "-out", f"{name}.crt"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (folder / f"{name}.pem").write_text((folder / f"{name}.crt").read_text() + (folder / f"{name}.key").read_text())
    known = [(folder / f"{name}.crt").read_text() for name in ("node", "xray", "archive")]
    (folder / "trust.pem").write_text("".join(known))
    return folder


@pytest.fixture
def archive(folder):
    """An archive that takes results from who has a certificate it knows; its port, and what it has taken."""
    taken, entity = [], AE("ARCHIVE")
    for kind in (REPORTS[0], CAPTURE):
        entity.add_supported_context(kind)

    def take(event):
        taken.append(event.dataset.SOPClassUID)
        return 0

    tls = make_server_tls(folder / "archive.pem", folder / "trust.pem")
    server = entity.start_server((HOST, 0), block=False, ssl_context=tls, evt_handlers=[(evt.EVT_C_STORE, take)])
    yield server.server_address[1], taken
    server.shutdown()


def test_films_come_and_results_go_by_tls(folder, archive, tmp_path):
    port, taken = archive
    files = "--certificate", str(folder / "node.pem"), "--trust", str(folder / "trust.pem")
    path = tmp_path / "film.dcm"
    path.write_bytes(film(1))

    def send(name):
        options = ("+tls", folder / f"{name}.key", folder / f"{name}.crt", "+cf", folder / "node.crt") if name else ()
        return storescu(node.port, path, called="PNEUMO", options=options).returncode

    with (
        NodeProcess(tmp_path / "node", *files, "--to", f"ARCHIVE@{HOST}:{port}", "--to-tls", "--idle", "5") as node,
        socket.create_connection((HOST, node.port)),  # it never begins a handshake, and holds up nobody
        closing(node.store()) as store,
    ):
        assert [send(name) == 0 for name in ("stranger", None)] == [False, False]
        assert store.find_where("TRUE") == []
        assert send("xray") == 0
        until(lambda: store.count()["films"]["sent"] == 1, "results that are sent")
        assert taken == [REPORTS[0], CAPTURE]
    assert (node.process.returncode, "ProgrammingError" in node.log()) == (0, False)


def test_without_trust_a_caller_needs_no_certificate(listening, caller, folder):
    port = listening(tls=make_server_tls(folder / "node.pem", None))
    assert caller(port, tls=make_client_tls(None, folder / "trust.pem")).send_c_echo().Status == 0
    assert not caller(port).is_established


@pytest.mark.parametrize(("certificate", "trust"), [("stranger", "trust"), (None, "trust"), ("node", "stranger")])
def test_an_archive_is_sent_nothing_unless_both_know_each_other(archive, results, folder, certificate, trust):
    port, taken = archive
    tls = make_client_tls(certificate and folder / f"{certificate}.pem", folder / f"{trust}.pem")
    with pytest.raises(NotTakenError, match="is not there, or refuses PNEUMO"):
        StoreSender("PNEUMO", "ARCHIVE", HOST, port, tls).send(results)
    assert taken == []


def test_an_archive_by_another_name_is_sent_nothing(archive, results, folder):
    tls = make_client_tls(folder / "node.pem", folder / "trust.pem")
    with pytest.raises(NotTakenError, match="is not there, or refuses PNEUMO"):
        StoreSender("PNEUMO", "ARCHIVE", "localhost", archive[0], tls).send(results)
    assert archive[1] == []


def test_files_that_hold_something_else_are_said(folder):
    with pytest.raises(SettingError, match=r"a certificate and its key in one PEM file, received .*node\.crt"):
        make_server_tls(folder / "node.crt", None)
    with pytest.raises(SettingError, match=r"a certificate and its key in one PEM file, received .*xray\.key"):
        make_client_tls(folder / "xray.key", None)
    for make in (lambda path: make_server_tls(folder / "node.pem", path), lambda path: make_client_tls(None, path)):
        with pytest.raises(SettingError, match=r"certificates of authorities, received .*node\.key"):
            make(folder / "node.key")


def test_the_system_s_authorities_are_asked_where_none_are_named():
    context = make_client_tls(None, None)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
