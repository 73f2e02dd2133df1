"""A request's body on its way in: it comes whole and in time, or is refused. Knows no Flask.

Without it a body that is cut short is read as if it were whole, one that is malformed is a fault of the server, and one
that trickles in holds a place among those that are let in (`admission`) for as long as it likes.
"""

import os
import socket
import threading
import time
from contextlib import suppress
from typing import Protocol

from pneumo.errors import IncompleteError, SlowError

TICK = 0.2  # seconds between two looks at the clock
# Werkzeug asks for 64 kB at a time, and gunicorn copies what it has read ahead each time: 1 ms for a film of 500 kB.
AHEAD = 2**20


def seconds() -> float:
    """How long a body may take, from PNEUMO_UPLOAD_SECONDS."""
    return float(os.environ.get("PNEUMO_UPLOAD_SECONDS") or "60")


class Stream(Protocol):
    """What WSGI gives as `wsgi.input`, as far as it is used here."""

    def read(self, size: int, /) -> bytes:
        """Return at most that many bytes; none at the end."""


class Clock:
    """Hurries every body whose time is over, from one thread: a timer for each would start a thread for each."""

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
                for body in self._running:
                    if time.monotonic() > body.until:
                        body.hurry()


_clock = Clock()


class Body:
    """A `wsgi.input` around another: `length` bytes if that is known, in `seconds` from the first that is asked for.

    `connection` is gunicorn's socket; without one, the time is only looked at when something has come.
    """

    def __init__(
        self, stream: Stream, length: int | None, seconds: float, connection: socket.socket | None = None
    ) -> None:
        self._stream, self._missing, self._connection = stream, length, connection
        self._ahead = memoryview(b"")
        self._seconds, self._late = seconds, False
        self.until: float | None = None  # time.monotonic()
        self._errors: tuple[type[Exception], ...] = (OSError,)
        if connection is not None:
            from gunicorn.http.errors import ParseException  # loaded already, where there is such a socket

            self._errors = (OSError, ParseException)

    def read(self, size: int = -1) -> bytes:
        """Return at most `size` bytes, none at the end.

        Raises:
            IncompleteError: the connection ended before the body did, or what comes is no body.
            SlowError: it took too long.
        """
        if not self._ahead:
            ahead = self._missing is not None and 0 <= size < AHEAD
            self._ahead = memoryview(self._receive(min(AHEAD, self._missing) if ahead else size))
        end = len(self._ahead) if size < 0 else size
        data, self._ahead = self._ahead[:end], self._ahead[end:]
        return bytes(data)

    def _receive(self, size: int) -> bytes:
        if self.until is None:
            self.until = time.monotonic() + self._seconds
            _clock.start(self)
        try:
            data = self._stream.read(size)
        except self._errors:
            data, broken = b"", True  # the reason would quote what was sent
        else:
            broken = False
        if self._late:
            raise SlowError(f"Expected the whole request within {self._seconds:.0f} s, received a part of it.")
        if self._missing is not None:
            self._missing -= len(data)
        if broken or (not data and size and (self._missing or 0) > 0):
            self.close()
            raise IncompleteError("Expected a whole request, received a part of it.")
        if not data or self._missing == 0:
            self.close()
        return data

    def close(self) -> None:
        """Stop the clock."""
        _clock.stop(self)

    def hurry(self) -> None:
        """Wake up who waits for bytes; an answer can still be sent."""
        self._late = True
        if self._connection is not None:
            with suppress(OSError):  # it may have ended already
                self._connection.shutdown(socket.SHUT_RD)
