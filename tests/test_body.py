"""Bodies that are not what they say, or do not come: refused by name, and their places are free again."""

import io
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from gunicorn.http.errors import InvalidChunkSize

from app import create_app
from pneumo.body import TICK, Body
from pneumo.errors import IncompleteError, SlowError
from tests.conftest import SAMPLES
from tests.reliability.server import Server
from tests.test_admission import PATIENCE
from tests.test_metrics import get, until

HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nConnection: close\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
FORM = HEAD.replace(b"image/jpeg", b"multipart/form-data; boundary=b")
PARTS = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 10_000 + b"--b--\r\n"


def all_of(body, size=4):
    return b"".join(iter(lambda: body.read(size), b""))


@pytest.mark.parametrize("length", [None, 9, 0])
def test_a_whole_body_is_what_was_sent(length):
    content = b"ninebytes"[: 9 if length is None else length]
    assert all_of(Body(io.BytesIO(content), length, 60)) == content


def test_a_body_shorter_than_it_says_is_refused_at_its_end():
    body = Body(io.BytesIO(b"ninebytes"), 10, 60)
    assert body.read(9) == b"ninebytes"
    with pytest.raises(IncompleteError):
        body.read(9)


@pytest.mark.parametrize("error", [ConnectionResetError(), InvalidChunkSize(b"Jane Doe")])
def test_a_body_that_breaks_is_refused_without_repeating_it(error):
    class Broken:
        def read(self, _):
            raise error

    ours, theirs = socket.socketpair()
    with ours, theirs, pytest.raises(IncompleteError) as refusal:
        Body(Broken(), None, 60, ours).read(4)
    assert "Jane" not in str(refusal.value)


def test_who_waits_for_a_body_is_woken_up():
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb", buffering=0) as stream:
        theirs.sendall(b"abc")
        body = Body(stream, 9, 0.05, ours)
        assert body.read(9) == b"abc"
        with pytest.raises(SlowError, match="Expected the whole request within 0 s"):
            body.read(9)
        ours.sendall(b"an answer")
        assert theirs.recv(9) == b"an answer"


def test_a_body_that_is_there_stops_the_clock():
    for length in (None, 9):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert all_of(Body(io.BytesIO(b"ninebytes"), length, 0.01, ours)) == b"ninebytes"
            time.sleep(3 * TICK)
            theirs.sendall(b"the next request")
            assert ours.recv(16) == b"the next request", "the clock has closed the connection"


def test_one_clock_for_all_bodies():
    before = threading.active_count()
    for _ in range(9):
        Body(io.BytesIO(b"ninebytes"), 9, 3600).read(1)
    assert threading.active_count() <= before + 1


def test_a_short_body_is_a_problem_and_leaves(mean_grey):
    client = create_app({"PREDICTOR": mean_grey, "TESTING": True, "WAITING": 1}).test_client()
    film = SAMPLES[0].read_bytes()
    for _ in range(2):
        answer = client.post(
            "/predict",
            content_type="image/jpeg",
            environ_overrides={"wsgi.input": io.BytesIO(film), "CONTENT_LENGTH": str(len(film) + 1)},
        )
        assert (answer.status_code, answer.json["error"]) == (400, "incomplete")


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A gunicorn with one place, and little time and space for uploads."""
    limits = {"PNEUMO_WAITING": 1, "PNEUMO_UPLOAD_SECONDS": 1, "PNEUMO_MAX_MB": 1}
    with Server(tmp_path_factory.mktemp("gunicorn") / "log", **limits) as server:
        yield server.port
    assert server.process.returncode == 0


def send(port, data, hang_up=True):
    """What comes back for these bytes, on a connection that ends behind them or stays open."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        connection.sendall(data)
        if hang_up:
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
        (FORM + b"Content-Length: 5\r\n\r\n--b\r\n", 400, "no_file"),
        # kept alive, as browsers do: gunicorn then takes in what nobody read, or its answer would be lost
        (FORM.replace(b"close", b"keep-alive") + b"Content-Length: %d\r\n\r\n" % len(PARTS) + PARTS, 413, "too_large"),
    ],
)
def test_gunicorn_and_malformed_bodies(port, data, status, error):
    answer = send(port, data)
    assert answer.startswith(f"HTTP/1.1 {status} ")
    assert f'"error":"{error}"' in answer


def test_slow_uploads_lose_their_place_and_everybody_else_goes_on(port):
    pool = ThreadPoolExecutor(1)
    for head in (
        HEAD + b"Content-Length: 4\r\n\r\nabc",
        FORM + b"Content-Length: 400\r\n\r\n--b\r\n",
        CHUNKED + b"4\r\n",
    ):
        slow = pool.submit(send, port, head, hang_up=False)
        until(lambda: 'pneumo_films_inside{state="waiting"} 1.0' in get(port, "/metrics")[1])
        assert get(port, "/predict", SAMPLES[0].read_bytes())[0] == 503
        assert get(port, "/health/ready")[0] == 200
        assert slow.result(PATIENCE).startswith("HTTP/1.1 408 ")
        assert get(port, "/predict", SAMPLES[0].read_bytes())[0] == 200
