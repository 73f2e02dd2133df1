"""Servers to measure and clients to measure them with: gunicorn on a free port, films over HTTP, resident memory.

The clients share the processor with the server, so they do little: requests are encoded beforehand, of an answer only
status and length are read.
"""

import os
import re
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOST = "127.0.0.1"
PATIENCE = 120  # seconds for one answer; the first of the naive server waits for TensorFlow
LEAST = 3  # films of each client under load, however slow the server is
READY = f"GET /health/ready HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()


def film_request(film: bytes, heatmap: bool = False, keep: bool = False) -> bytes:
    """Encode a film as a request to `/predict`; with `keep` the connection may be used again."""
    head = (
        f"POST /predict{'?heatmap=1' if heatmap else ''} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: image/jpeg\r\n"
        f"Content-Length: {len(film)}\r\nConnection: {'keep-alive' if keep else 'close'}\r\n\r\n"
    )
    return head.encode() + film


class Client:
    """Sends one encoded request after the other, over one connection as long as the server leaves it open."""

    def __init__(self, port: int) -> None:
        self._port, self._connection = port, None

    def ask(self, request: bytes) -> bytes:
        """Return the body of the answer.

        Raises:
            ConnectionError: nobody listens, or the answer is cut short.
            RuntimeError: the answer is a refusal.
        """
        if self._connection and select.select([self._connection], [], [], 0)[0]:
            self.close()  # the server has: it waits 2 s for the next request
        if self._connection is None:
            self._connection = socket.create_connection((HOST, self._port), PATIENCE)
            self._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._connection.sendall(request)
        head, _, body = self._receive(b"", lambda answer: b"\r\n\r\n" in answer).partition(b"\r\n\r\n")
        length = int(re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)[1])
        body = self._receive(body, lambda answer: len(answer) >= length)
        if re.search(rb"\r\nconnection: *close", head, re.IGNORECASE):
            self.close()
        if not head.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"Expected 200, received {head.splitlines()[0].decode()}: {body.decode()}")
        return body

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _receive(self, answer: bytes, is_whole: Callable[[bytes], bool]) -> bytes:
        while not is_whole(answer):
            if not (more := self._connection.recv(2**18)):
                raise ConnectionError("Expected a whole answer, received a part of it.")
            answer += more
        return answer


@dataclass(frozen=True)
class Server:
    """A gunicorn that listens on `port`; its first answers were there `answered` seconds after its start."""

    process: subprocess.Popen
    port: int
    answered: list[float]

    def memory(self) -> dict[str, float]:
        """Resident MB of the largest worker: now, and the most it ever was."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        states = [Path(f"/proc/{worker}/status").read_text() for worker in children]

        def largest(field: str) -> float:
            return max(int(re.search(rf"{field}:\s+(\d+) kB", state)[1]) for state in states) * 1024 / 1e6

        return {"resident_mb": round(largest("VmRSS")), "peak_mb": round(largest("VmHWM"))}


@contextmanager
def running(arguments: list[str], folder: Path, settings: dict[str, str], first: list[bytes]) -> Iterator[Server]:
    """Run gunicorn in `folder` with `arguments`, from when it has answered each of `first` until the `with` ends.

    Settings of this project in the environment do not reach it, only `settings` do.

    Raises:
        RuntimeError: it does not answer; the message is what it said.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PNEUMO_", "WEB_CONCURRENCY"))}
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", *arguments],
            cwd=folder,
            env=inherited | {"PORT": str(port), "PYTHONPATH": str(ROOT)} | settings,
            stdout=said,
            stderr=said,
        )
        server = Server(process, port, [])
        try:
            while len(server.answered) < len(first):
                client = Client(port)
                try:
                    client.ask(first[len(server.answered)])
                    server.answered.append(time.perf_counter() - started)
                except ConnectionError:  # nobody listens yet
                    if process.poll() is not None or time.perf_counter() - started > PATIENCE:
                        said.seek(0)
                        raise RuntimeError(f"The server does not answer: {said.read().decode()}") from None
                    time.sleep(0.005)
                finally:
                    client.close()
            yield server
        finally:
            process.terminate()
            process.wait()


def pneumo_server(
    first: list[bytes], workers: int | None = None, threads: int | None = None
) -> AbstractContextManager[Server]:
    """This server as `make run` starts it, or with other numbers of workers and of threads of each one's model."""
    settings = {"WEB_CONCURRENCY": workers, "PNEUMO_THREADS": threads}
    return running([], ROOT, {name: str(value) for name, value in settings.items() if value}, first)


def naive_server(first: list[bytes]) -> AbstractContextManager[Server]:
    """The one of `naive.py`, from a folder where gunicorn does not find this project's settings."""
    arguments = ["--workers", "1", "--timeout", str(PATIENCE), "--no-control-socket"]
    # Both servers run on the processor; TensorFlow would take a graphics card where there is one.
    settings = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return running([*arguments, "naive:app"], ROOT / "benchmarks", settings, first)


def put_under_load(port: int, requests: list[bytes], clients: int, seconds: float) -> list[list[tuple[float, float]]]:
    """So many clients, each with one film after the other for `seconds`: of each client when each film began and ended.

    Each film has a connection of its own if `requests` say so. That is what many clients are like, who each come now
    and then; and only so each film may be taken by the worker that is free.
    """
    begin = time.perf_counter()

    def one(number: int) -> list[tuple[float, float]]:
        client, spans = Client(port), []
        while (started := time.perf_counter() - begin) < seconds or len(spans) < LEAST:
            client.ask(requests[(number + len(spans)) % len(requests)])
            spans.append((started, time.perf_counter() - begin))
        client.close()
        return spans

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(one, range(clients)))


def steady(spans: list[list[tuple[float, float]]]) -> tuple[list[float], float]:
    """Seconds that films took, and films a second, while the queue is as long as it gets; `spans` by client.

    As many films as there are clients find a shorter queue at the beginning, and so do those after the first client
    has left.

    Raises:
        ValueError: no film is left.
    """
    left = min(films[-1][1] for films in spans)
    ended = sorted((span for films in spans for span in films), key=lambda span: span[1])
    before = ended[len(spans) - 1][1]
    counted = [span for span in ended[len(spans) :] if span[1] <= left]
    if not counted:
        raise ValueError("Expected films between the first of all clients and the last of one, received none.")
    return [end - start for start, end in counted], len(counted) / (left - before)
