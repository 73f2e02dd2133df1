"""How many requests with films a worker takes; whoever comes beyond that is refused with 503. Knows no HTTP.

Without a bound everybody waits for everybody, and a browser gives up on a film whose turn would have come.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from pneumo.errors import BusyError

# One film is in the network, whose interpreter takes one at a time, while the next ones are decoded. More at once
# would finish nothing earlier and hold more decoded films in memory.
AT_ONCE = 3
PATIENCE = 120  # seconds a browser waits for an answer: PATIENCE in static/page.js
SLOWEST = 20  # seconds that the slowest film there is may take: dicom.SECONDS
# Whoever is let in is answered in time, even if everybody before sent the slowest film.
WAITING = AT_ONCE * PATIENCE // SLOWEST
RETRY_AFTER = 2  # seconds; a queue of films of the usual kind (0.05 s each) is empty by then

Arguments, Result = ParamSpec("Arguments"), TypeVar("Result")


class FilmQueue:
    """The requests with films that are inside, at most `limit`; their films are read on `at_once` threads.

    Films are read in the order in which they came. `watch(waiting, reading)` is told of every change.
    """

    def __init__(
        self,
        limit: int = WAITING,
        at_once: int = AT_ONCE,
        watch: Callable[[int, int], None] = lambda waiting, reading: None,
    ) -> None:
        self._limit, self._watch = limit, watch
        self._inside = self._reading = 0
        self._lock, self._readers = threading.Lock(), ThreadPoolExecutor(at_once, "reader")

    def enter(self) -> None:
        """Take one request in.

        Raises:
            BusyError: `limit` requests are inside.
        """
        with self._lock:
            if self._inside >= self._limit:
                raise BusyError(
                    f"Expected at most {self._limit} requests at a time, received more: try again in {RETRY_AFTER} s.",
                    RETRY_AFTER,
                )
            self._change(inside=1)

    def leave(self) -> None:
        """Let one request go."""
        with self._lock:
            self._change(inside=-1)

    def read(self, work: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        """Call `work` for one film when it is its turn; return or raise what it does."""
        return self._readers.submit(self._take_turn, work, *args, **kwargs).result()

    def _take_turn(self, work: Callable, *args: object, **kwargs: object) -> object:
        with self._lock:
            self._change(reading=1)
        try:
            return work(*args, **kwargs)
        finally:
            with self._lock:
                self._change(reading=-1)

    def _change(self, inside: int = 0, reading: int = 0) -> None:
        self._inside += inside
        self._reading += reading
        self._watch(self._inside - self._reading, self._reading)
