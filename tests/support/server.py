"""The server as `make run` starts it, and clients that keep account of every request.

What is known of its processes comes from /proc: these experiments run on Linux.
"""

import http.client
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HOST, PATIENCE = "127.0.0.1", 120  # seconds a client waits, as browsers do
ESTABLISHED, CLOSE_WAIT = "01", "08"  # states in /proc/net/tcp of a connection that is not at its end


def free_port() -> int:
    """A port where nobody listens."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        return free.getsockname()[1]


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> object:
    """Ask again and again until the answer is yes; a server that cannot be reached is a no.

    Raises:
        TimeoutError: it was no for `seconds`.
    """
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if answer := condition():
                return answer
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.02)
    raise TimeoutError(f"Expected {what} within {seconds:.0f} s.")


def environment(**settings: object) -> dict[str, str]:
    """What a server started here sees: the settings named, and none of this service that the caller has set."""
    ours = {"MALLOC_TRIM_THRESHOLD_": str(2**20)} | {name: str(value) for name, value in settings.items()}
    return {name: value for name, value in os.environ.items() if not name.startswith("PNEUMO_")} | ours


class Endpoint:
    """What listens on a port of this machine."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connect(self, source: str = HOST) -> socket.socket:
        """A new connection, from any address of this machine: 127.0.0.1 to 127.255.255.254."""
        return socket.create_connection((HOST, self.port), PATIENCE, (source, 0))

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        """The answer to one request, on a connection of its own, and its body; a header's `_` is sent as `-`."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer, answer.read()
        finally:
            connection.close()

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of a page."""
        answer, body = self.ask("GET", path)
        return answer.status, body.decode()

    def post(self, path: str, content_type: str, body: bytes) -> tuple[int, str]:
        """Status and text of the answer to a post."""
        answer, body = self.ask("POST", path, body, Content_Type=content_type)
        return answer.status, body.decode()


class Server(Endpoint):
    """A gunicorn on a port of its own; `log` is the path of what it says, `command` what is put before its own.

    `arguments` are Python's, in `folder`. `with Server(...) as server:` waits until it is ready, and ends it.
    """

    def __init__(
        self,
        log: Path,
        workers: int = 1,
        command: tuple[str, ...] = (),
        arguments: tuple[str, ...] = ("-m", "gunicorn"),
        folder: Path = ROOT,
        **settings: object,
    ) -> None:
        super().__init__(free_port())
        self.log, self.count = log, workers
        variables = environment(PORT=self.port, WEB_CONCURRENCY=workers, **settings)
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [*command, sys.executable, *arguments], cwd=folder, env=variables, stdout=stream, stderr=stream
            )

    def __enter__(self) -> "Server":
        try:
            until(self.ready, "a server that is ready")
        except TimeoutError:
            self.__exit__()
            raise TimeoutError(f"Expected a server that is ready, received: {self.log.read_text()[-2000:]}") from None
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def ready(self) -> bool:
        """Whether all its workers are there, each with its model."""
        if self.process.poll() is not None:
            raise TimeoutError("Expected a server that goes on, received one that ended.")
        workers = self.workers()
        return len(workers) == self.count and all(map(has_model, workers)) and self.get("/health/ready")[0] == 200

    def workers(self) -> list[int]:
        """Process ids of its workers."""
        return workers(self.process)

    def worker(self) -> int:
        """Process id of its only worker."""
        (worker,) = self.workers()
        return worker

    def signal(self, number: int, worker: int | None = None) -> None:
        """Send a signal to the server or to one of its workers."""
        os.kill(worker or self.process.pid, number)

    def counted(self) -> int:
        """How many posts its own /metrics have counted, of whatever outcome."""
        text = self.get("/metrics")[1]
        found = re.findall(r'^pneumo_requests_total\{endpoint="(?:predict|page_answer)".*\} (\S+)$', text, re.MULTILINE)
        return round(sum(map(float, found)))

    def connections(self, worker: int) -> int:
        """How many connections a worker has accepted and not closed."""
        mine = {name[8:-1] for name in open_files(worker).values() if name.startswith("socket:[")}
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        port = f":{self.port:04X}"
        return sum(row[1].endswith(port) and row[3] in (ESTABLISHED, CLOSE_WAIT) and row[9] in mine for row in rows)


def workers(process: subprocess.Popen) -> list[int]:
    """Process ids of a process' children."""
    return list(map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()))


def has_model(worker: int) -> bool:
    """Whether a worker has read its model: it then names it in the file of its metrics."""
    return "gauge_livemax_" in Path(f"/proc/{worker}/maps").read_text()


def open_files(pid: int) -> dict[str, str]:
    """What a process has open: number -> what /proc calls it."""
    found = {}
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found[entry.name] = os.readlink(entry)
        except FileNotFoundError:  # closed meanwhile
            continue
    return found


def handles(pid: int) -> dict[str, int]:
    """How many sockets and how many other files a process has open."""
    names = list(open_files(pid).values())
    sockets = sum(name.startswith("socket:") for name in names)
    return {"sockets": sockets, "files": len(names) - sockets}


def megabytes(pid: int, what: str = "VmRSS") -> float:
    """Resident memory of a process in MB, now or (`VmHWM`) at most since `forget_peak`."""
    return int(Path(f"/proc/{pid}/status").read_text().split(f"{what}:")[1].split()[0]) * 1024 / 1e6


def forget_peak(pid: int) -> None:
    """Have the kernel measure the peak of resident memory anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


@dataclass(frozen=True)
class Ask:
    """A request, and the status that is the right answer to it."""

    kind: str
    path: str
    content_type: str
    body: bytes
    expected: int


@dataclass
class Sent:
    """What became of one request.

    `outcome` is right, wrong (another status), busy (503), refused (no connection) or broken (a connection, and then
    no whole answer).
    """

    kind: str
    begun: float
    outcome: str = "broken"
    ended: float = 0.0
    text: bytes = b""
    detail: str = ""


def send(connection: http.client.HTTPConnection, ask: Ask) -> Sent:
    """Send one request and wait for the whole of its answer."""
    sent = Sent(ask.kind, time.monotonic())
    try:
        if connection.sock is None:
            connection.connect()
    except OSError as error:
        connection.close()
        sent.outcome, sent.detail = "refused", type(error).__name__
    else:
        try:
            connection.request("POST", ask.path, ask.body, {"Content-Type": ask.content_type})
            answer = connection.getresponse()
            sent.text = answer.read()
            if answer.status == ask.expected:
                sent.outcome = "right"
            else:
                sent.outcome, sent.detail = "busy" if answer.status == 503 else "wrong", str(answer.status)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            sent.detail = type(error).__name__
    sent.ended = time.monotonic()
    return sent


@dataclass
class Load:
    """Several clients at once, each sending one request after the other, until `total` are sent or `stop` is called.

    Every other client keeps its connection, as browsers do; the others open one for each request, as curl does. A
    client that is turned away (busy, or no connection) tries again soon, or stops where `stop_when_turned_away`.
    """

    port: int
    mix: list[Ask]
    clients: int
    total: int | None = None
    stop_when_turned_away: bool = False
    keep_text: bool = False
    patience: float = PATIENCE
    sent: list[Sent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._asks, self._left, self._lock = cycle(self.mix), self.total, threading.Lock()
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._client, args=(n,), daemon=True) for n in range(self.clients)]

    def start(self) -> "Load":
        """Let the clients begin."""
        self.began = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def running(self) -> bool:
        """Whether a client has more to send or waits for an answer."""
        return any(thread.is_alive() for thread in self._threads)

    def wait(self) -> list[Sent]:
        """Wait for all clients to end; returns everything they sent."""
        for thread in self._threads:
            thread.join()
        return self.sent

    def stop(self) -> list[Sent]:
        """Have the clients send nothing more, and wait for what is on its way."""
        self._stopped.set()
        return self.wait()

    def _next(self) -> Ask | None:
        with self._lock:
            if self._stopped.is_set() or self._left == 0:
                return None
            self._left = None if self._left is None else self._left - 1
            return next(self._asks)

    def _client(self, number: int) -> None:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=self.patience)
        while ask := self._next():
            sent = send(connection, ask)
            if not self.keep_text:
                sent.text = b""
            self.sent.append(sent)
            if number % 2:
                connection.close()
            if sent.outcome in ("refused", "busy"):
                if self.stop_when_turned_away:
                    break
                time.sleep(0.05)
        connection.close()


@contextmanager
def under_load(server: Server, mix: list[Ask], clients: int, **options: object) -> Iterator[Load]:
    """A load that is there when the block begins: as many answers as there are clients have come."""
    load = Load(server.port, mix, clients, **options).start()
    try:
        until(lambda: len(load.sent) >= clients, "the first answers", PATIENCE)
        yield load
    finally:
        load.stop()


def ask_all(server: Server, asks: list[Ask]) -> list[Sent]:
    """Send each request once, one after the other."""
    return Load(server.port, asks, 1, total=len(asks)).start().wait()


def outcomes(sent: list[Sent]) -> dict[str, int]:
    """How many requests had each outcome."""
    return dict(sorted(Counter(one.outcome for one in sent).items()))
