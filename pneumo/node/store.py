"""The state folder: one row a film in SQLite, the film and its results as files, and a log that only grows.

A film goes `received` -> `read` or `refused` -> `sent`. Whatever goes wrong on the way makes it `failed`, with a time
at which it is tried again; nothing but `sent` ends that. Files are on the disk before their row says so, and rows
before anybody is told (SQLite in WAL with synchronous FULL): a process that is killed at any moment loses nothing.
"""

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pneumo.node.files import Files, hash_uid
from pneumo.node.outcome import Outcome

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

DATABASE = "node.sqlite"
STATES = ("received", "read", "refused", "sent", "failed")
VERDICTS = ("agree", "disagree")
LONGEST_WAIT = 3600  # seconds between two attempts
_SCHEMA = """
CREATE TABLE IF NOT EXISTS films (
    uid TEXT PRIMARY KEY, study TEXT NOT NULL, patient TEXT, accession TEXT, caller TEXT NOT NULL,
    received TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN ('received', 'read', 'refused', 'sent', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0, next_try REAL NOT NULL DEFAULT 0, error TEXT, outcome TEXT, sent TEXT,
    verdict TEXT CHECK (verdict IN ('agree', 'disagree')), judged TEXT
);
CREATE INDEX IF NOT EXISTS films_to_do ON films (next_try, received) WHERE state != 'sent';
CREATE INDEX IF NOT EXISTS films_by_state ON films (state, verdict, received);
CREATE INDEX IF NOT EXISTS films_judged
    ON films (substr(received, 1, 7), json_extract(outcome, '$.answer.label'), verdict)
    WHERE verdict IS NOT NULL AND json_extract(outcome, '$.reason') IS NULL;
CREATE TABLE IF NOT EXISTS dropped (reason TEXT PRIMARY KEY, count INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS audit (
    id INTEGER PRIMARY KEY, time TEXT NOT NULL, event TEXT NOT NULL, caller TEXT, film TEXT, study TEXT, model TEXT,
    profile TEXT, outcome TEXT
);
CREATE TRIGGER IF NOT EXISTS audit_keeps BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
CREATE TRIGGER IF NOT EXISTS audit_grows BEFORE DELETE ON audit BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
"""


@dataclass(frozen=True)
class Row:
    """What the store knows of a film, as its table has it; times are ISO 8601 in UTC, `next_try` is time.time()'s."""

    uid: str
    study: str
    patient: str | None
    accession: str | None
    caller: str
    received: str
    state: str
    attempts: int
    next_try: float
    error: str | None
    outcome: Outcome | None
    sent: str | None
    verdict: str | None
    judged: str | None


class Store:
    """The state folder of a node. Threads may share it; a second process may read it and store verdicts.

    Raises:
        OSError, sqlite3.Error: the folder cannot be written; every method raises these where the disk fails.
    """

    def __init__(self, folder: Path) -> None:
        self.files = Files(folder)
        self._lock = threading.RLock()
        self._database = sqlite3.connect(folder / DATABASE, check_same_thread=False, isolation_level=None, timeout=30)
        self._database.row_factory = sqlite3.Row
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_SCHEMA)

    def receive(self, data: bytes, header: "Dataset", caller: str) -> bool:
        """Put a film's file and row on the disk; when this returns, a power cut loses neither.

        Returns False for a film that waits already. One whose results have been sent is read and sent again: whoever
        sends it again may have lost them. A reader's verdict was on the answer before, and goes with it; the audit log
        keeps it.
        """
        uid, path = header.SOPInstanceUID, self.files.film(header.SOPInstanceUID)
        if self._waits(uid):
            return False
        written = self.files.write(path, data)
        with self._change() as change:
            if self._waits(uid):  # it came twice at the same time
                written.unlink()
                return False
            self.files.place(written, path)
            names = [str(header.get(keyword) or "") or None for keyword in ("PatientID", "AccessionNumber")]
            change(
                "INSERT INTO films (uid, study, patient, accession, caller, received, state)"
                " VALUES (?, ?, ?, ?, ?, ?, 'received') ON CONFLICT (uid) DO UPDATE"
                " SET state = 'received', attempts = 0, next_try = 0, error = NULL, outcome = NULL, sent = NULL,"
                " verdict = NULL, judged = NULL",
                (uid, header.StudyInstanceUID, *names, caller, _now()),
            )
            self._log("received", caller, uid, header.StudyInstanceUID)
        return True

    def drop(self, reason: str, caller: str, uid: str) -> None:
        """Count an object that is not kept."""
        with self._change() as change:
            change("INSERT INTO dropped VALUES (?, 1) ON CONFLICT (reason) DO UPDATE SET count = count + 1", (reason,))
            self._log("dropped", caller, uid, outcome=reason)

    def find_next(self, read: bool) -> Row | None:
        """Find the film that has waited longest: to be read, or, with `read`, to be sent; None where none is due."""
        told = "IS NOT NULL" if read else "IS NULL"
        where = f"state != 'sent' AND outcome {told} AND next_try <= ? ORDER BY next_try, received"
        return next(iter(self.find_where(where, (time.time(),))), None)

    def find(self, uid: str) -> Row | None:
        """Find a film by its SOP Instance UID."""
        return next(iter(self.find_where("uid = ?", (uid,))), None)

    def find_where(self, condition: str, values: Iterable = ()) -> list[Row]:
        """Find the films that meet a condition in SQL; it may end in an order and a limit."""
        found = map(dict, self.select(f"SELECT * FROM films WHERE {condition}", values))
        return [Row(**row | {"outcome": row["outcome"] and Outcome.from_json(row["outcome"])}) for row in found]

    def select(self, statement: str, values: Iterable = ()) -> list[sqlite3.Row]:
        """Return the rows of a statement that changes nothing."""
        with self._lock:
            return self._database.execute(statement, tuple(values)).fetchall()

    def keep_outcome(self, row: Row, outcome: Outcome, results: Mapping[str, bytes]) -> None:
        """Put a film's results on the disk, by their names, and then its outcome: it is `read` or `refused`."""
        for name, data in results.items():
            path = self.files.result(row.uid, name)
            self.files.place(self.files.write(path, data), path)
        state = "read" if outcome.was_read else "refused"
        with self._change() as change:
            change(
                "UPDATE films SET state = ?, attempts = 0, next_try = 0, error = NULL, outcome = ? WHERE uid = ?",
                (state, outcome.to_json(), row.uid),
            )
            self._log(state, row.caller, row.uid, row.study, outcome)

    def finish(self, row: Row, keep: timedelta) -> None:
        """Note that the archive has a film's results, and delete the files unless they are kept for some days."""
        with self._change() as change:
            change("UPDATE films SET state = 'sent', error = NULL, sent = ? WHERE uid = ?", (_now(), row.uid))
            self._log("sent", row.caller, row.uid, row.study, row.outcome)
        if not keep:
            with self._lock:
                if not self._waits(row.uid):  # it may have come again meanwhile
                    self.files.delete(row.uid)

    def fail(self, row: Row, error: str) -> None:
        """Note why an attempt failed, and when to try again: after 2 s, 4 s, 8 s … up to LONGEST_WAIT."""
        attempts = row.attempts + 1
        wait = min(LONGEST_WAIT, 2 ** min(attempts, 20))
        with self._change() as change:
            change(
                "UPDATE films SET state = 'failed', attempts = ?, next_try = ?, error = ? WHERE uid = ?",
                (attempts, time.time() + wait, error, row.uid),
            )
            self._log("failed", row.caller, row.uid, row.study, row.outcome)

    def judge(self, row: Row, verdict: str) -> None:
        """Store a reader's verdict on a film's answer, one of VERDICTS; the last one counts."""
        with self._change() as change:
            change("UPDATE films SET verdict = ?, judged = ? WHERE uid = ?", (verdict, _now(), row.uid))
            self._log(verdict, None, row.uid, row.study, row.outcome)

    def forget(self, keep: timedelta, identify: timedelta) -> None:
        """Delete files that are kept no longer, and, `identify` after a film was sent, what tells the patient."""
        now = datetime.now(UTC)
        with self._change() as change:
            change(
                "UPDATE films SET patient = NULL, accession = NULL WHERE state = 'sent' AND sent < ?",
                (format_time(now - identify),),
            )
            kept = self.select("SELECT uid FROM films WHERE state != 'sent' OR sent > ?", (format_time(now - keep),))
            self.files.delete_others({hash_uid(uid) for (uid,) in kept})

    def count(self) -> dict[str, dict[str, int]]:
        """Count `films` by state, and what was `dropped` by its reason."""
        states = self.select("SELECT state, count(*) FROM films GROUP BY state")
        dropped = self.select("SELECT reason, count FROM dropped")
        return {"films": dict.fromkeys(STATES, 0) | dict(map(tuple, states)), "dropped": dict(map(tuple, dropped))}

    def read_log(self) -> list[dict]:
        """Return the audit log, a dictionary a line; UIDs stand there as hashes."""
        return [dict(line) for line in self.select("SELECT * FROM audit ORDER BY id")]

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _change(self) -> Iterator:
        """One transaction at a time; what it yields runs a statement in it."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database.execute
                self._database.execute("COMMIT")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")

    def _waits(self, uid: str) -> bool:
        row = self.find(uid)
        return row is not None and row.state != "sent"

    def _log(
        self, event: str, caller: str | None, uid: str, study: str = "", outcome: Outcome | str | None = None
    ) -> None:
        """Append a line to the audit log, within a transaction."""
        model = outcome.model if isinstance(outcome, Outcome) else {}
        self._database.execute(
            "INSERT INTO audit (time, event, caller, film, study, model, profile, outcome)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(_now(), event, caller, hash_uid(uid), study and hash_uid(study)),
                *(model.get("sha256"), model.get("profile")),
                outcome.triage if isinstance(outcome, Outcome) else outcome,
            ),
        )


def format_time(when: datetime) -> str:
    """Write a time in UTC as the store has it; such texts sort as the times do."""
    return when.isoformat(timespec="milliseconds")


def _now() -> str:
    return format_time(datetime.now(UTC))
