"""The node: one process that receives films, reads them, and sends what it found until the archive has it.

Three things go on side by side: associations put films into the store, one thread reads them in the order in which they
came, and one sends. So an archive that is away delays nothing but the sending. Whoever starts this process again after
it was killed starts it where it was.
"""

import fcntl
import logging
import os
import sqlite3
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from pneumo.errors import PneumoError, SettingError
from pneumo.model.predictor import Predictor
from pneumo.node.header import read_header
from pneumo.node.outcome import make_outcome, make_refusal
from pneumo.node.results import RESULTS, make_results
from pneumo.node.senders import Sender
from pneumo.node.store import Row, Store

log = logging.getLogger("pneumo.node")
PAUSE = 1.0  # seconds after which a thread without work looks whether a film that failed is due
CLEANING = 3600  # seconds between two looks at what need not be kept
# Errors of one film, of the disk or of the archive: they are noted, and the film is tried again later
_FAILURES = (PneumoError, RuntimeError, OSError, ValueError, TypeError, LookupError, AttributeError)


def lock_folder(folder: Path) -> int:
    """Make the state folder and take it for this process; the lock ends with the process, however that ends.

    Raises:
        SettingError: another node works in it.
        OSError: it cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SettingError(f"Expected a state folder that no other node uses, received {folder}.") from None
    return descriptor


class Node:
    """Reads the films in a store and sends their results; `start` it, and `wait` until it is to end.

    `keep` is how long files stay after their results are acknowledged, `identify` how long a row names patient ID and
    accession number after that. With `force` films are read that the gate or their header refuses.
    """

    def __init__(
        self,
        store: Store,
        predictor: Predictor,
        sender: Sender,
        keep: timedelta = timedelta(0),
        identify: timedelta = timedelta(days=30),
        operating_point: str | None = None,
        population: str | None = None,
        force: bool = False,
    ) -> None:
        self._store, self._predictor, self._sender = store, predictor, sender
        self._keep, self._identify = keep, identify
        card = predictor.card
        self._options = card.operating_point(operating_point), force, card.check_population(population)
        self._to_read, self._to_send, self._ended = threading.Event(), threading.Event(), threading.Event()
        self._work = [
            (wake, threading.Thread(None, self._repeat, f"node.{work.__name__}", (work, wake, pause), daemon=True))
            for work, wake, pause in (
                (self.read_next, self._to_read, PAUSE),
                (self.send_next, self._to_send, PAUSE),
                (self.clean, threading.Event(), CLEANING),
            )
        ]

    def start(self) -> None:
        """Begin with what the store holds."""
        self._store.files.delete_half_written()
        for _, thread in self._work:
            thread.start()

    def notify(self) -> None:
        """Say that a film has come."""
        self._to_read.set()

    def wait(self) -> bool:
        """Wait until `stop` is called (True) or a thread has ended by itself, which it should not (False).

        When this returns, no thread uses the store any more: what has begun is done. An archive that hangs is waited
        for, as long as `senders` allows it.
        """
        ended_well = True
        while ended_well and not self._ended.wait(PAUSE):
            ended_well = all(thread.is_alive() for _, thread in self._work)
        self._ended.set()
        for wake, thread in self._work:
            wake.set()
            thread.join()
        return ended_well

    def stop(self) -> None:
        """Begin no other film."""
        self._ended.set()

    def read_next(self) -> bool:
        """Read the film that has waited longest and keep its results; False where none is due."""
        row = self._store.find_next(read=False)
        if row is None:
            return False
        self._attempt(row, self._read)
        self._to_send.set()
        return True

    def send_next(self) -> bool:
        """Send the results of the film that has waited longest; False where none is due."""
        row = self._store.find_next(read=True)
        if row is None:
            return False
        self._attempt(row, self._send)
        return True

    def clean(self) -> bool:
        """Delete what is kept no longer."""
        self._store.forget(self._keep, self._identify)
        return False

    def _read(self, row: Row) -> None:
        data = self._store.files.film(row.uid).read_bytes()
        header, made = read_header(data), datetime.fromisoformat(row.received).astimezone().replace(microsecond=0)
        operating_point, force, population = self._options
        prediction = None
        try:
            prediction = self._predictor.predict(data, operating_point, force, population)
            outcome = make_outcome(prediction)
        except PneumoError as error:
            if error.status >= 500:  # not the film's fault
                raise
            outcome = make_refusal(error, self._predictor.card)
        self._store.keep_outcome(row, outcome, make_results(outcome, prediction, header, made))

    def _send(self, row: Row) -> None:
        self._sender.send({name: self._store.files.result(row.uid, name).read_bytes() for name in RESULTS})
        self._store.finish(row, self._keep)

    def _attempt(self, row: Row, work: Callable[[Row], None]) -> None:
        """Do that for a film; where it fails, note why."""
        try:
            work(row)
        except _FAILURES as error:
            # of what is none of our own errors, the words may quote a header
            told = str(error) if isinstance(error, PneumoError) else type(error).__name__
            log.error("attempt %d failed: %s", row.attempts + 1, told)
            self._store.fail(row, told)

    def _repeat(self, work: Callable[[], bool], wake: threading.Event, pause: float) -> None:
        """Work as long as there is some, then wait for more; a full disk ends neither."""
        while not self._ended.is_set():
            wake.clear()
            try:
                more = work()
            except (OSError, sqlite3.OperationalError) as error:  # not even the failure could be noted
                log.error("the state folder cannot be written: %s", error)
                more = False
            if not more and not self._ended.is_set():
                wake.wait(pause)
