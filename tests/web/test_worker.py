"""Heads that come slowly, in pieces, or never, and connections nobody hangs up: everybody else is answered."""

import socket
import time
from contextlib import ExitStack, suppress

import pytest

from pneumo.web.admission import ARRIVING
from pneumo.web.worker import COUNTED, HEAD_LIMIT, WAIT_SECONDS
from tests.support.films import SAMPLES
from tests.support.server import Server, until
from tests.web.test_admission import PATIENCE
from tests.web.test_metrics import get

READY = b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
KEPT = READY.replace(b"close", b"keep-alive")
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
THREADS = 1 + ARRIVING + 8  # PNEUMO_WAITING and what gunicorn.conf.py adds to it
MORE = THREADS + 20  # connections than threads
FEW = ("-m", "gunicorn", "--threads", "2")


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("gunicorn") / "log", PNEUMO_WAITING=1) as server:
        yield server.port
    assert server.process.returncode == 0


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)


def rest(connection):
    """What comes until the other side closes."""
    with connection.makefile("rb") as stream:
        try:
            return stream.read()
        except ConnectionResetError:  # it closed with something unread
            return b""


def test_heads_that_never_end_hold_no_thread_and_are_closed(port):
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(port)) for _ in range(MORE)]
        for number, connection in enumerate(slow):
            connection.sendall(READY[: number % 3 * 20])  # a third of them says nothing at all
        before = time.monotonic()
        while time.monotonic() < before + WAIT_SECONDS / 2:
            assert get(port, "/health/ready")[0] == 200
            for connection in slow[1::3]:
                connection.sendall(b"x")  # a letter now and then does not help
            time.sleep(WAIT_SECONDS / 10)
        assert all(rest(connection) == b"" for connection in slow)
        assert time.monotonic() - before < WAIT_SECONDS + PATIENCE / 2


def test_a_head_in_pieces_is_answered(port):
    for kept in (False, True):
        with connect(port) as connection:
            if kept:
                connection.sendall(KEPT)
                answer = b""
                while not answer.endswith(b"}\n"):
                    answer += connection.recv(HEAD_LIMIT)
            for piece in (READY[:1], READY[1:30], READY[30:-1], READY[-1:]):
                connection.sendall(piece)
                time.sleep(0.1)
            assert rest(connection).startswith(b"HTTP/1.1 200 OK")


def test_a_head_that_is_too_long_is_refused(port):
    with connect(port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"A" * 2**20 + b"\r\n\r\n")
        assert rest(connection).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("data", [b"\x16\x03\x01\x02\x00\x01\x00\x01", b""], ids=["TLS", "nothing"])
def test_what_is_no_head_is_closed_without_an_answer(port, data):
    with connect(port) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert rest(connection) == b""


def test_requests_sent_ahead_do_not_hold_threads(port):
    with ExitStack() as stack:
        for _ in range(MORE):
            connection = stack.enter_context(connect(port))
            connection.sendall(KEPT + READY[:20])
        for _ in range(MORE):  # an empty line first, which is an end of a head of its own
            stack.enter_context(connect(port)).sendall(b"\r\n\r\n" + READY[:20])
        assert get(port, "/health/ready")[0] == 200


def test_who_does_not_hang_up_holds_nobody_up(port):
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(port)) for _ in range(MORE)]
        before = time.monotonic()
        for connection in slow:
            connection.sendall(READY)
        assert all(rest(connection).startswith(b"HTTP/1.1 200 OK") for connection in slow)
        assert get(port, "/health/ready")[0] == 200
        assert time.monotonic() - before < WAIT_SECONDS + PATIENCE / 2


def test_what_follows_a_chunked_body_holds_no_thread(tmp_path):
    with Server(tmp_path / "log", arguments=FEW) as server, ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connect(server.port)).sendall(CHUNKED + READY[:20])
        time.sleep(0.5)
        assert server.get("/health/live")[0] == 200


def test_who_reads_nothing_holds_no_thread_for_long_and_who_reads_slowly_gets_all(tmp_path):
    ask = b"GET /static/samples/%s HTTP/1.1\r\nHost: x\r\n\r\n" % SAMPLES[0].name.encode()
    with Server(tmp_path / "log", arguments=FEW) as server, ExitStack() as stack:
        deaf = [stack.enter_context(socket.socket()) for _ in range(4)]
        for connection in deaf:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.connect(("127.0.0.1", server.port))
        for _ in range(16):  # until no more of it fits into the kernel's buffers
            for connection in deaf:
                with suppress(OSError):  # cut off already
                    connection.sendall(ask)
            time.sleep(0.1)
        until(lambda: server.get("/health/live")[0] == 200, "an answer", 3 * WAIT_SECONDS)
        with connect(server.port) as connection:
            connection.sendall(ask.replace(b"Host: x", b"Host: x\r\nConnection: close"))
            answer = b""
            while data := connection.recv(16 * 1024):
                answer += data
                time.sleep(0.02)
        assert answer.endswith(SAMPLES[0].read_bytes())
        assert "Traceback" not in server.log.read_text()


def test_a_refusal_is_not_lost_to_what_was_still_being_sent(port):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nConnection: close\r\n"
    with connect(port) as connection:
        connection.sendall(head + b"Content-Length: %d\r\n\r\n" % 2**26)
        for _ in range(60):
            connection.sendall(bytes(2**20))
        assert rest(connection).startswith(b"HTTP/1.1 413 ")


def test_a_connection_is_kept_behind_a_body_that_was_refused_unread(port):
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: "
    head = head.replace(b"\r\n", b"\r\nSec-Fetch-Site: cross-site\r\n", 1)
    with connect(port) as connection:
        for _ in range(3):
            connection.sendall(head + b"1000000\r\n\r\n" + bytes(10**6))
            answer = b""
            while not answer.endswith(b"}\n"):
                more = connection.recv(HEAD_LIMIT)
                assert more, "it was closed"
                answer += more
            assert answer.startswith(b"HTTP/1.1 403 ")


def test_the_worker_with_fewer_requests_takes_the_next_connection(tmp_path):
    begun = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9999\r\n\r\nx"
    apart = []
    with Server(tmp_path / "log", workers=2) as server:
        for _ in range(16):
            with ExitStack() as stack:
                for number in range(2 * COUNTED):
                    stack.enter_context(connect(server.port)).sendall(begun)
                    until(lambda n=number: sum(map(server.connections, server.workers())) > n, "one connection more")
                    time.sleep(0.01)  # until the worker has looked at its head
                shares = list(map(server.connections, server.workers()))
                assert sum(shares) == 2 * COUNTED
                apart.append(max(shares) - min(shares))
            until(lambda: not any(map(server.connections, server.workers())), "none any more")
    assert sum(apart) <= 28, apart  # left to chance, a round would end 3.1 apart on average, and all 50
