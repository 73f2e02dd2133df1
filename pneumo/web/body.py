"""A request's body on its way in: it comes whole and in time, or is refused. Knows no Flask.

Without it a body that is cut short is read as if it were whole, one that is malformed is a fault of the server, and one
that trickles in holds a thread for as long as it likes.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from pneumo.errors import IncompleteError, SlowError

TICK = 0.2  # seconds between two looks at the clock
# What is asked for at a time: gunicorn returns when all of it is there, and what is not returned is not counted. In
# pieces of 1 MB a film over 10 kB/s would seem to stand still; in these it costs as much processor time.
PIECE = 16 * 1024
GRACE = 5.0  # seconds before the rate is looked at: lines begin slowly and pause


class Stream(Protocol):
    """What WSGI gives as `wsgi.input`, as far as it is used here."""

    def read(self, size: int, /) -> bytes:
        """Return at most that many bytes; none at the end."""


class Clock:
    """Hurries every body that is late, from one thread: a timer for each would start a thread for each."""

    def __init__(self) -> None:
        self._running: set[Body] = set()
        self._lock, self._thread = threading.Lock(), None

    def start(self, body: "Body") -> None:
        """Watch over `body` until `stop`."""
        with self._lock:  # the thread starts with the first body: one from before a fork would not be there
            self._running.add(body)
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="clock", daemon=True)
                self._thread.start()

    def stop(self, body: "Body") -> None:
        """Let `body` take its time."""
        with self._lock:
            self._running.discard(body)

    def _watch(self) -> None:
        while True:
            time.sleep(TICK)
            with self._lock:  # whoever stops meanwhile waits: the connection's next request must not be hurried
                now = time.monotonic()
                for body in self._running:
                    if why := body.late(now):
                        body.hurry(why)


_clock = Clock()


class Body:
    """A `wsgi.input` around another: `length` bytes if that is known, in `seconds` from the first that is asked for.

    After GRACE it has to come at `rate` bytes a second on average. `connection` is gunicorn's socket; without one, the
    time is only looked at when something has come. `hold` is told how many bytes are in memory now, and of fewer than
    none that they no longer are; it may refuse.
    """

    def __init__(
        self,
        stream: Stream,
        length: int | None,
        seconds: float,
        rate: float = 0,
        connection: socket.socket | None = None,
        hold: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._stream, self._length, self._connection, self._hold = stream, length, connection, hold
        self._seconds, self._rate = seconds, rate
        self.received = 0  # bytes
        self._began: float | None = None  # time.monotonic()
        self._hurried: str | None = None  # why
        self._errors: tuple[type[Exception], ...] = (OSError,)
        if connection is not None:
            from gunicorn.http.errors import ParseException  # loaded already, where there is such a socket

            self._errors = (OSError, ParseException)

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, all if that is below 0, none at the end.

        Raises:
            IncompleteError: the connection ended before the body did, or what comes is no body.
            SlowError: it took too long, or came too slowly.
            PneumoError: whatever `hold` refuses with.
        """
        if size < 0:
            return b"".join(iter(partial(self.read, PIECE), b""))
        if self._began is None:
            self._began = time.monotonic()
            _clock.start(self)
        size = min(size, PIECE)
        try:
            data = self._stream.read(size)
        except self._errors:
            data, broken = b"", True  # the reason would quote what was sent
        else:
            broken = False
        if self._hurried:
            raise SlowError(self._hurried)
        self._hold(len(data))
        self.received += len(data)
        missing = self._length is not None and self.received < self._length
        if broken or (not data and size and missing):
            _clock.stop(self)
            raise IncompleteError("Expected a whole request, received a part of it.")
        if not missing and (self._length is not None or not data):
            _clock.stop(self)
        return data

    def late(self, now: float) -> str | None:
        """Tell why it is too late at `now`, in seconds of time.monotonic(), if it is."""
        took = now - self._began
        if took > self._seconds:
            return f"Expected the whole request within {self._seconds:.0f} s, received a part of it."
        # a piece may be on its way of which nothing is known
        if took > GRACE and self.received + PIECE < self._rate * took:
            return f"Expected at least {self._rate:.0f} bytes a second, received fewer."
        return None

    def hurry(self, why: str) -> None:
        """Wake up who waits for bytes, who is told `why`; an answer can still be sent."""
        self._hurried = why
        if self._connection is not None:
            with suppress(OSError):  # it may have ended already
                self._connection.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        """Stop the clock; what was received is no longer in memory."""
        _clock.stop(self)
        self._hold(-self.received)
        self.received = 0
