"""Bodies that are not what they say: refused by name, and by gunicorn's side of the connection as well."""

import io
import socket

import pytest

from app import create_app
from pneumo.web.uploads import DRAINED
from tests.support.films import SAMPLES
from tests.support.server import HOST, Server

PATIENCE = 30  # seconds
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nConnection: close\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
FORM = HEAD.replace(b"image/jpeg", b"multipart/form-data; boundary=b")
PARTS = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 10_000 + b"--b--\r\n"
KEPT = HEAD.replace(b"close", b"keep-alive")


def test_a_body_shorter_than_it_says_is_refused(mean_grey):
    client = create_app({"PREDICTOR": mean_grey, "TESTING": True}).test_client()
    film = SAMPLES[0].read_bytes()
    broken = {"wsgi.input": io.BytesIO(film), "CONTENT_LENGTH": str(len(film) + 1), "wsgi.input_terminated": True}
    answer = client.post("/predict", content_type="image/jpeg", environ_overrides=broken)
    assert (answer.status_code, answer.json["error"]) == (400, "incomplete")


def test_who_is_refused_unread_has_sent_all_before_the_answer(mean_grey):
    app = create_app({"PREDICTOR": mean_grey, "TESTING": True, "MAX_CONTENT_LENGTH": 1000})
    for headers, length, left in (
        ({"Sec-Fetch-Site": "cross-site"}, 999, 0),
        ({}, 1001, 0),
        ({}, DRAINED + 5, 5),
    ):
        body = io.BytesIO(bytes(length))
        sent = {"wsgi.input": body, "CONTENT_LENGTH": str(length)}
        answer = app.test_client().post("/predict", headers=headers, environ_overrides=sent)
        assert answer.status_code == (403 if headers else 413)
        assert len(body.read()) == left


PART = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.jpeg"\r\n\r\nfilm'


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        (
            "",
            PART + b"\r\n--b--\r\n",
            "a boundary in Content-Type, as in `multipart/form-data; boundary=…`, received none",
        ),
        ("; boundary=c", PART + b"\r\n--b--\r\n", "breaks off or is malformed"),
        ("; boundary=b", PART, "parts end with its boundary and `--`, received one that breaks off"),
        ("; boundary=b", PART + b"\r\n--b\r\n", "breaks off or is malformed"),
        (
            "; boundary=b",
            PART.replace(b"form-data; ", b"") + b"\r\n--b--\r\n",
            "in the multipart field `file`, received",
        ),
        (
            "; boundary=b",
            PART.replace(b'; filename="a.jpeg"', b"") + b"\r\n--b--\r\n",
            "received a `file` without a file name, which makes it text: add a file name",
        ),
        ("; boundary=b", PART.replace(b"a.jpeg", b"") + b"\r\n--b--\r\n", "received an empty choice of files"),
        ("; boundary=b", PART.replace(b'"file"', b'"Jane"') + b"\r\n--b--\r\n", "in fields of other names only"),
        ("; boundary=b", b"--b--\r\n", "received an empty form"),
    ],
)
def test_what_is_wrong_with_a_form_is_said(mean_grey, kind, body, words):
    client = create_app({"PREDICTOR": mean_grey, "TESTING": True}).test_client()
    for path in ("/predict", "/"):
        answer = client.post(path, data=body, content_type=f"multipart/form-data{kind}")
        assert answer.status_code == 400
        assert words in answer.json["detail"]
        assert "Jane" not in answer.text


def test_a_large_film_without_a_file_name_is_told_so(mean_grey):
    client = create_app({"PREDICTOR": mean_grey, "TESTING": True}).test_client()
    answer = client.post("/predict", data={"file": "x" * 10**6}, content_type="multipart/form-data")
    assert (answer.status_code, answer.json["error"]) == (413, "too_large")
    assert "without one it counts as text" in answer.json["detail"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("gunicorn") / "log", PNEUMO_MAX_MB=1) as server:
        yield server
    assert server.process.returncode == 0
    assert "Traceback" not in server.log.read_text()


def send(server, data):
    """What comes back for these bytes, behind which the client sends no more."""
    with socket.create_connection((HOST, server.port), timeout=PATIENCE) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as answer:
            return answer.read().decode()


@pytest.mark.parametrize(
    ("data", "status", "error"),
    [
        (CHUNKED + b"ZZ\r\nabc\r\n0\r\n\r\n", 400, "incomplete"),
        (CHUNKED + b"3\r\nabcdef\r\n0\r\n\r\n", 400, "incomplete"),
        (CHUNKED + b"FF\r\nabc", 400, "incomplete"),
        (CHUNKED + b"3\r\nabc\r\n", 400, "incomplete"),
        (CHUNKED + b"FFFFFFFFFFFFFFFF\r\nabc", 400, "incomplete"),
        (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", 415, "unsupported_format"),
        (CHUNKED + b"100000\r\n" + bytes(0x100000) + b"\r\n1\r\nx\r\n0\r\n\r\n", 413, "too_large"),
        (FORM + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n--b\r\n", 400, "incomplete"),
        (HEAD + b"Content-Length: 4\r\n\r\nabc", 400, "incomplete"),
        (HEAD + b"Content-Length: 99999999999\r\n\r\nabc", 413, "too_large"),
        (FORM + b"Content-Length: 100\r\n\r\n--b\r\n", 400, "incomplete"),
        (FORM + b"Content-Length: 5\r\n\r\n--b\r\n", 400, "incomplete"),
        (FORM.replace(b"; boundary=b", b"") + b"Content-Length: 1000000\r\n\r\n" + bytes(10**6), 400, "no_file"),
        (FORM.replace(b"close", b"keep-alive") + b"Content-Length: %d\r\n\r\n" % len(PARTS) + PARTS, 413, "too_large"),
        # refused unread: the answer is not lost to what is still being sent
        (KEPT + b"Content-Length: 50000000\r\n\r\n" + bytes(50_000_000), 413, "too_large"),
        (KEPT + b"Sec-Fetch-Site: cross-site\r\nContent-Length: 1000000\r\n\r\n" + bytes(10**6), 403, "cross_site"),
    ],
)
def test_gunicorn_and_malformed_bodies(server, data, status, error):
    answer = send(server, data)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert f'"error":"{error}"' in answer


def test_the_log_says_of_a_malformed_request_only_that_there_was_one(server):
    for sent in (b"GET /patients/Jane Doe HTTP/1.1\r\nHost: x\r\n\r\n", b"GET / HTTP/1.1\r\nX-Jane Doe: 1\r\n\r\n"):
        assert " 400 " in send(server, sent)
    text = server.log.read_text()
    assert text.count("Invalid request") == 2
    assert "Jane" not in text
    assert HOST not in text
