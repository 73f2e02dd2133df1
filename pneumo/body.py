"""A request's body on its way in: it comes whole and in time, or is refused. Knows no Flask.

Without it a body that is cut short is read as if it were whole, one that is malformed is a fault of the server, and one
that trickles in holds a place among those that are let in (`admission`) for as long as it likes.
"""

import os
import socket
import threading
from contextlib import suppress
from typing import Protocol

from pneumo.errors import IncompleteError, SlowError


def seconds() -> float:
    """How long a body may take, from PNEUMO_UPLOAD_SECONDS."""
    return float(os.environ.get("PNEUMO_UPLOAD_SECONDS") or "60")


class Stream(Protocol):
    """What WSGI gives as `wsgi.input`, as far as it is used here."""

    def read(self, size: int, /) -> bytes:
        """Return at most that many bytes; none at the end."""


class Body:
    """A `wsgi.input` around another: `length` bytes if that is known, in `seconds` from the first that is asked for.

    `connection` is gunicorn's socket; without one, the time is only looked at when something has come.
    """

    def __init__(
        self, stream: Stream, length: int | None, seconds: float, connection: socket.socket | None = None
    ) -> None:
        self._stream, self._missing, self._connection = stream, length, connection
        self._seconds, self._late = seconds, threading.Event()
        self._clock: threading.Timer | None = None
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
        if self._clock is None:
            self._clock = threading.Timer(self._seconds, self._hurry)
            self._clock.daemon = True
            self._clock.start()
        try:
            data = self._stream.read(size)
        except self._errors:
            data, broken = b"", True  # the reason would quote what was sent
        else:
            broken = False
        if self._late.is_set():
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
        if self._clock is not None:
            self._clock.cancel()

    def _hurry(self) -> None:
        """Wake up who waits for bytes; an answer can still be sent."""
        self._late.set()
        if self._connection is not None:
            with suppress(OSError):  # it may have ended already
                self._connection.shutdown(socket.SHUT_RD)
