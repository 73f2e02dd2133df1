"""The files of the state folder: films and their results. What is named here is on the disk, whole."""

import hashlib
import os
import tempfile
from collections.abc import Container
from pathlib import Path

_WRITING = "tmp"  # how the names of half-written files begin


def hash_uid(uid: str) -> str:
    """Return the SHA-256 of a UID: what comes from outside is no file name, and names nobody in a log."""
    return hashlib.sha256(uid.encode()).hexdigest()


class Files:
    """Films and results below a folder, by the film's SOP Instance UID. Nobody else may read them."""

    def __init__(self, folder: Path) -> None:
        self._films, self._results = folder / "films", folder / "results"
        for one in (self._films, self._results):
            one.mkdir(parents=True, exist_ok=True, mode=0o700)

    def film(self, uid: str) -> Path:
        """Return where a film is."""
        return self._films / f"{hash_uid(uid)}.dcm"

    def result(self, uid: str, name: str) -> Path:
        """Return where a film's result of that name is."""
        return self._results / f"{hash_uid(uid)}.{name}.dcm"

    def write(self, path: Path, data: bytes) -> Path:
        """Write bytes beside `path`, down to the disk; `place` gives the returned file that name.

        Raises:
            OSError: for instance, the disk is full; then no file is left.
        """
        descriptor, name = tempfile.mkstemp(prefix=_WRITING, dir=path.parent)
        try:
            with open(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError:
            os.unlink(name)
            raise
        return Path(name)

    def place(self, written: Path, path: Path) -> None:
        """Give a written file its name, down to the disk; what had the name before is replaced."""
        written.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def delete(self, uid: str) -> None:
        """Delete a film and its results, those that there are."""
        for path in (self.film(uid), *self._results.glob(f"{hash_uid(uid)}.*")):
            path.unlink(missing_ok=True)

    def delete_others(self, kept: Container[str]) -> None:
        """Delete whole files of all films whose `hash_uid` is not in `kept`."""
        for path in (*self._films.iterdir(), *self._results.iterdir()):
            if path.name.partition(".")[0] not in kept and not path.name.startswith(_WRITING):
                path.unlink(missing_ok=True)

    def delete_half_written(self) -> None:
        """Delete what a killed process did not finish. Only at the start: later these files are still being written."""
        for path in (*self._films.glob(f"{_WRITING}*"), *self._results.glob(f"{_WRITING}*")):
            path.unlink()
