"""Bodies that are not what they say, or do not come: refused by name, and nobody else waits for them."""

import io
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from gunicorn.http.errors import InvalidChunkSize

from app import create_app
from pneumo.errors import BusyError, IncompleteError, SlowError
from pneumo.web import body as module
from pneumo.web.body import GRACE, PIECE, TICK, Body
from pneumo.web.settings import NUMBERS
from tests.support.films import SAMPLES
from tests.support.server import Server
from tests.web.test_admission import PATIENCE
from tests.web.test_metrics import get, until

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
        Body(Broken(), None, 60, connection=ours).read(4)
    assert "Jane" not in str(refusal.value)


def test_who_waits_for_a_body_is_woken_up():
    ours, theirs = socket.socketpair()
    with ours, theirs, ours.makefile("rb", buffering=0) as stream:
        theirs.sendall(b"abc")
        body = Body(stream, 9, 0.05, connection=ours)
        assert body.read(9) == b"abc"
        with pytest.raises(SlowError, match="Expected the whole request within 0 s"):
            body.read(9)
        ours.sendall(b"an answer")
        assert theirs.recv(9) == b"an answer"


def test_a_body_slower_than_the_rate_is_given_up_after_a_moment():
    length = 10 * PIECE
    body = Body(io.BytesIO(bytes(length)), length, seconds=60, rate=4000)
    body.read(1)  # begins
    began = body._began
    assert body.late(began + GRACE) is None, "lines may begin with a pause"
    assert body.late(began + GRACE + 0.01) == "Expected at least 4000 bytes a second, received fewer."
    for _ in range(4):
        assert len(body.read(10 * PIECE)) == PIECE, "a piece at a time: of what is on its way nothing is known"
    enough = (body.received + PIECE) / 4000  # 1 + 5 pieces of 16,384 bytes: 20.5 s
    assert body.late(began + enough - 0.01) is None
    assert body.late(began + enough + 0.01)
    assert "within 60 s" in body.late(began + 60.01), "the rate does not lengthen the time in all"


def test_a_bad_line_passes_and_a_trickle_does_not():
    """A phone at 10 kB/s, that pauses for three seconds at first; one at a byte a second."""
    rate, *_ = NUMBERS["PNEUMO_UPLOAD_RATE"]
    for speed, pause, passes in ((10_000, 3, True), (1, 0, False)):
        body = Body(io.BytesIO(), 500_000, seconds=60, rate=rate)
        body._began = 0.0
        late = []
        for tenth in range(490):
            now = tenth / 10
            body.received = int(max(0, now - pause) * speed) // PIECE * PIECE
            late.append(body.late(now))
        assert any(late) != passes


def test_the_rate_wakes_up_who_waits_and_can_be_turned_off(monkeypatch):
    monkeypatch.setattr(module, "GRACE", 0.05)
    for rate, refused in ((1e9, True), (0, False)):
        ours, theirs = socket.socketpair()
        with ours, theirs, ours.makefile("rb", buffering=0) as stream:
            body = Body(stream, 9, 60, rate, ours)
            if refused:
                with pytest.raises(SlowError, match="Expected at least 1000000000 bytes a second"):
                    body.read(9)
            else:
                threading.Timer(4 * TICK, theirs.sendall, [b"ninebytes"]).start()
                assert body.read(9) == b"ninebytes"


def test_what_has_come_is_held_until_the_end_or_refused():
    held = []

    def hold(size):
        if sum(held) + size > 6:
            raise BusyError("full")
        held.append(size)

    body = Body(io.BytesIO(b"ninebytes"), 9, 60, hold=hold)
    assert body.read(4) == b"nine"
    with pytest.raises(BusyError):
        body.read(4)
    body.close()
    body.close()
    assert sum(held) == 0


def test_all_of_a_body_at_once():
    assert Body(io.BytesIO(bytes(3 * PIECE + 1)), None, 60).read() == bytes(3 * PIECE + 1)


def test_a_body_that_is_there_stops_the_clock():
    for length in (None, 9):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            assert all_of(Body(io.BytesIO(b"ninebytes"), length, 0.01, connection=ours)) == b"ninebytes"
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


class Slow:
    """A body of which `begun` has come; the rest comes when it is let go."""

    def __init__(self, begun, rest):
        self.parts, self.waits, self.go = [begun, rest], threading.Event(), threading.Event()

    def read(self, size):
        if len(self.parts) == 1:
            self.waits.set()
            assert self.go.wait(PATIENCE)
        data = self.parts[0][:size]
        self.parts[0] = self.parts[0][size:]
        if len(self.parts) == 2 and not self.parts[0]:
            self.parts.pop(0)
        return data


def test_bodies_on_their_way_take_no_place_but_room(mean_grey):
    app = create_app({"PREDICTOR": mean_grey, "TESTING": True, "WAITING": 1, "MAX_CONTENT_LENGTH": 2**20})
    film = SAMPLES[0].read_bytes()
    padded = film + bytes(2**20 - len(film))  # what follows a JPEG is not looked at
    slow = Slow(padded[: 2**20 - len(film) // 2], padded[2**20 - len(film) // 2 :])

    def post(stream, length):
        sent = {"wsgi.input": stream, "CONTENT_LENGTH": str(length)}
        return app.test_client().post("/predict", content_type="image/jpeg", environ_overrides=sent)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(post, slow, 2**20)
        assert slow.waits.wait(PATIENCE)
        assert post(io.BytesIO(film[:99]), 99).status_code == 422, "the only place is free"
        busy = post(io.BytesIO(film), len(film))
        assert (busy.status_code, busy.json["error"]) == (503, "busy")
        assert "at most 1 MB at a time" in busy.json["detail"]
        slow.go.set()
        assert first.result(PATIENCE).status_code == 200
    assert post(io.BytesIO(film), len(film)).status_code == 200


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """A gunicorn with one place, and little time and space for uploads."""
    limits = {"PNEUMO_WAITING": 1, "PNEUMO_UPLOAD_SECONDS": 3, "PNEUMO_MAX_MB": 1}
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


def test_slow_uploads_take_no_place_and_are_given_up(port):
    heads = [HEAD + b"Content-Length: 4\r\n\r\nabc", FORM + b"Content-Length: 400\r\n\r\n--b\r\n", CHUNKED + b"4\r\n"]
    with ThreadPoolExecutor(30) as pool:
        slow = [pool.submit(send, port, heads[number % 3], hang_up=False) for number in range(30)]
        until(lambda: re.search(r'pneumo_requests_inside{state="arriving"} [1-9]\d', get(port, "/metrics")[1]))
        assert get(port, "/predict", SAMPLES[0].read_bytes())[0] == 200
        assert get(port, "/health/ready")[0] == 200
        for one in slow:
            answer = one.result(PATIENCE)
            assert answer.startswith("HTTP/1.1 408 ")
            assert '"error":"too_slow"' in answer
    assert 'pneumo_requests_inside{state="arriving"} 0.0' in get(port, "/metrics")[1]
