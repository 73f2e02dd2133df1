"""How results reach an archive: by C-STORE in the class that it takes, by STOW-RS, or not at all, with the reason."""

import io
import json
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pydicom
import pytest
from pynetdicom import AE, _config, evt

from pneumo.node.senders import REPORTS, NotTakenError, StoreSender, WebSender
from tests.support.server import HOST, free_port

CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@pytest.fixture
def peer(monkeypatch):
    """A function that starts an archive which takes some classes and answers a status; returns its port and list."""
    servers = []
    # a node that ran in this process before accepts everything, and so would these archives
    monkeypatch.setattr(_config, "UNRESTRICTED_STORAGE_SERVICE", False)

    def start(*kinds, status=0):
        taken, entity = [], AE("ARCHIVE")
        entity.require_called_aet = True
        for kind in kinds:
            entity.add_supported_context(kind)

        def take(event):
            taken.append(event.dataset)
            return status

        servers.append(entity.start_server((HOST, 0), block=False, evt_handlers=[(evt.EVT_C_STORE, take)]))
        return servers[-1].server_address[1], taken

    yield start
    for server in servers:
        server.shutdown()


@pytest.mark.parametrize("first", range(3), ids=["Comprehensive 3D", "Comprehensive", "Enhanced"])
def test_a_report_is_sent_in_the_first_class_that_the_archive_takes(peer, results, first):
    port, taken = peer(*REPORTS[first:], CAPTURE)
    StoreSender("PNEUMO", "ARCHIVE", HOST, port).send(results)
    assert [dataset.SOPClassUID for dataset in taken] == [REPORTS[first], CAPTURE]
    report = pydicom.dcmread(io.BytesIO(results["report"]))
    assert taken[0].SOPInstanceUID == report.SOPInstanceUID
    assert taken[0].ContentSequence == report.ContentSequence


@pytest.mark.parametrize("status", [0x0111, 0xB000])
def test_a_duplicate_and_a_warning_count_as_taken(peer, results, status):
    port, taken = peer(REPORTS[0], CAPTURE, status=status)
    StoreSender("PNEUMO", "ARCHIVE", HOST, port).send(results)
    assert len(taken) == 2


@pytest.mark.parametrize(
    ("kinds", "status", "words"),
    [
        ((CAPTURE,), 0, "ARCHIVE takes no structured reports"),
        ((REPORTS[2],), 0, "ARCHIVE takes no secondary captures"),
        ((REPORTS[0], CAPTURE), 0xA700, "answered 0xA700 to the report"),
        (("1.2.840.10008.5.1.4.1.1.2",), 0, "is not there, or refuses PNEUMO"),
    ],
)
def test_what_an_archive_does_not_take_is_said(peer, results, kinds, status, words):
    port, _ = peer(*kinds, status=status)
    with pytest.raises(NotTakenError, match=words):
        StoreSender("PNEUMO", "ARCHIVE", HOST, port).send(results)


def test_an_archive_that_is_away_or_another_is_said(peer, results):
    port, _ = peer(REPORTS[0], CAPTURE)
    for title, where in (("OTHER", port), ("ARCHIVE", free_port())):
        with pytest.raises(NotTakenError, match="is not there, or refuses PNEUMO"):
            StoreSender("PNEUMO", title, HOST, where).send(results)


@pytest.fixture
def web():
    """A DICOMweb service that refuses the classes in `refused` with 409, or answers `status` to everything."""

    class Service(BaseHTTPRequestHandler):
        taken, refused, status = [], (), 200

        def do_POST(self):
            length = self.headers.get("Content-Length")
            body = self.rfile.read(int(length)) if length else self.read_chunks()
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            (part,) = BytesParser().parsebytes(head + body).get_payload()
            dataset = pydicom.dcmread(io.BytesIO(part.get_payload(decode=True)))
            answer, status = pydicom.Dataset(), self.status
            if dataset.SOPClassUID in self.refused:
                reason = pydicom.Dataset()
                reason.FailureReason, status = 0x0122, 409
                answer.FailedSOPSequence = [reason]
            elif status == 200:
                self.taken.append(dataset)
            text = json.dumps(answer.to_json_dict()).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def read_chunks(self):
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)

        def log_message(self, *_):
            """Nobody is told."""

    Service.taken = []
    server = HTTPServer((HOST, 0), Service)
    Thread(target=server.serve_forever, daemon=True).start()
    Service.url = f"http://{HOST}:{server.server_port}/dicom-web"
    yield Service
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("first", range(3))
def test_a_dicomweb_service_gets_the_first_class_that_it_takes(web, results, first):
    web.refused = REPORTS[:first]
    WebSender(web.url).send(results)
    assert [dataset.SOPClassUID for dataset in web.taken] == [REPORTS[first], CAPTURE]


def test_a_dicomweb_service_that_refuses_is_said(web, results):
    web.refused = REPORTS
    with pytest.raises(NotTakenError, match="answered 0x0122 to the report"):
        WebSender(web.url).send(results)
    web.refused, web.status = (), 401
    with pytest.raises(NotTakenError, match="answered 401"):
        WebSender(web.url).send(results)
    with pytest.raises(NotTakenError, match="is not there"):
        WebSender(f"http://{HOST}:{free_port()}/dicom-web").send(results)
