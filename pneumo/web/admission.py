"""How much a worker takes on: whoever comes beyond that is refused. Knows no HTTP.

Without a bound everybody waits for everybody, and a browser gives up on a film whose turn would have come. A request
takes its place when its body is there: slow connections would hold all places with next to nothing.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pneumo.errors import BusyError
from pneumo.web.turns import Turns

# One film is in the network, whose interpreter takes one at a time, while the next ones are decoded. More at once
# would finish nothing earlier and hold more decoded films in memory.
AT_ONCE = 3
PATIENCE = 120  # seconds a browser waits for an answer: PATIENCE in static/page.js
SLOWEST = 20  # seconds that the slowest film there is may take: dicom.SECONDS
# Whoever is let in is answered in time, even if everybody before sent the slowest film.
WAITING = AT_ONCE * PATIENCE // SLOWEST
# Bodies on their way, each in a thread that sleeps. Those that hardly move are given up (`body`), and all others are
# there soon: only so many slow connections at a time, for each worker, keep a body out.
ARRIVING = 128
LONGEST_RETRY = 30


class Admission:
    """The requests with films that are inside, at most `limit`, of whose films `at_once` are read at a time.

    Their bodies, and those that are `arriving`, are at most `room` bytes. `watch(arriving, waiting, reading)` hears of
    every change; `clock` tells seconds.
    """

    def __init__(
        self,
        limit: int = WAITING,
        at_once: int = AT_ONCE,
        room: float = math.inf,
        watch: Callable[[int, int, int], None] = lambda arriving, waiting, reading: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limit, self.room = limit, room
        self._watch, self._clock = watch, clock
        self._arriving = self._inside = self._reading = self._held = 0
        self._stay = 0.0  # seconds a request lately stayed inside, the last ones counting most
        self._lock, self._turn = threading.Lock(), Turns(at_once)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Await the body of one request inside the `with`, unless it would be refused afterwards as things are.

        Raises:
            BusyError: as for `enter`; or as many bodies as may be are on their way.
        """
        with self._lock:
            self._check(self._inside < self.limit, f"{self.limit} requests")
            self._check(self._arriving < ARRIVING, f"{ARRIVING} uploads")
            self._change(arriving=1)
        try:
            yield
        finally:
            with self._lock:
                self._change(arriving=-1)

    def hold(self, size: int) -> None:
        """Keep that many more bytes of a body, or as many fewer.

        Raises:
            BusyError: there is no room for them; they are not counted.
        """
        with self._lock:
            self._check(size <= 0 or self._held + size <= self.room, f"{self.room / 2**20:.0f} MB")
            self._held += size

    def enter(self) -> float:
        """Take one request in; what is returned is for `leave`.

        Raises:
            BusyError: as many as may be are inside. When to come again is how long a request lately stayed: by then,
                whoever is inside now has left.
        """
        with self._lock:
            self._check(self._inside < self.limit, f"{self.limit} requests")
            self._change(inside=1)
            return self._clock()

    def leave(self, entered: float) -> None:
        """Let a request go that entered at `entered`."""
        with self._lock:
            self._change(inside=-1)
            self._stay += (self._clock() - entered - self._stay) / 8

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Wait for the turn of one film; it is read inside the `with`."""
        with self._turn:
            with self._lock:
                self._change(reading=1)
            try:
                yield
            finally:
                with self._lock:
                    self._change(reading=-1)

    def _check(self, free: bool, bound: str) -> None:
        if not free:
            seconds = min(LONGEST_RETRY, max(1, math.ceil(self._stay)))
            raise BusyError(f"Expected at most {bound} at a time, received more: try again in {seconds} s.", seconds)

    def _change(self, arriving: int = 0, inside: int = 0, reading: int = 0) -> None:
        self._arriving += arriving
        self._inside += inside
        self._reading += reading
        self._watch(self._arriving, self._inside - self._reading, self._reading)
