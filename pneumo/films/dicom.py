"""A DICOM file -> the same `Film` as of any other picture, read in a process of its own by `dicom_file`.

Its readers meet whatever was sent: GDCM 3.2 ends its process on many a damaged film, and a few megabytes of empty items
cost pydicom gigabytes. There that costs one film, not the server; memory and time have a limit; no other film is in
reach, and nothing that the readers say or warn of, names included, goes anywhere.

A new Python process with pydicom takes half a second to start. So `dicom_reader` starts once, reads nothing itself, and
forks for each film: it has one thread, where a fork is safe, and this process may have many.
"""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from threading import Lock

import numpy as np

from pneumo import errors
from pneumo.films.film import Film

SECONDS = 20
MEMORY = 2**30  # a film of MAX_PIXELS takes 0.8 GB
STARTED = b"pneumo\n"
_CODE = "import sys; sys.path.insert(0, sys.argv[1]); from pneumo.films.dicom_reader import main; main()"
_PIECE = 2**16


def decode(data: bytes, force: bool = False) -> Film:
    """Decode one frontal chest film; `images.decode` has told that the bytes are DICOM.

    Raises:
        FormatError, OtherFilmError, TooLargeError, UnreadableError: see `dicom_file.read_film`.
        RuntimeError: the reader does not start: something is not installed.
    """
    begun = time.monotonic()
    answer = _reader.ask(data, force)
    if answer is None:  # the reader was ended; a film cannot do that, but whoever is short of memory may
        answer = _reader.ask(data, force)
    if answer is None:
        raise RuntimeError("Expected pydicom and its decoders to start, received nothing: are they installed?")
    end = answer.find(b"\n")
    told = json.loads(answer[: max(end, 0)] or b"{}")
    if "error" in told:
        raise getattr(errors, told["error"])(told["message"])
    height, width = told.pop("shape", (0, 0))
    if end < 0 or len(answer) - end - 1 != height * width:  # it was ended before it had told all
        if time.monotonic() - begun >= SECONDS:
            raise errors.UnreadableError(f"Expected a film that is read in {SECONDS} s, received more work.")
        raise errors.UnreadableError("The DICOM file is damaged, or takes more memory than any film.")
    grey = np.frombuffer(answer, np.uint8, offset=end + 1).reshape(height, width)
    return Film(grey, "DICOM", width, height, **(told | {"warnings": tuple(told["warnings"])}))


class _Reader:
    """The process that forks for each film; started with the first film, and again where it has ended."""

    def __init__(self) -> None:
        self._lock, self._control, self._process, self._owner = Lock(), None, None, 0

    def ask(self, data: bytes, force: bool) -> bytes | None:
        """What the reader answers to a film, b"" where the film ended its process; None where the reader has ended."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                wanted = json.dumps({"memory": MEMORY, "seconds": SECONDS, "force": force}).encode()
                with self._lock:
                    self._start()
                    try:
                        socket.send_fds(self._control, [wanted], [theirs.fileno()])
                    except OSError:  # it ended just now
                        return None
            ours.settimeout(SECONDS + 10)  # the film's process ends itself before
            try:
                ours.sendall(data)
                ours.shutdown(socket.SHUT_WR)
            except OSError:  # its process ended before it had all
                pass
            answer = _receive(ours)
        return answer.removeprefix(STARTED) if answer.startswith(STARTED) else None

    def _start(self) -> None:
        """Start the process if there is none, or if it is of the process that this one was forked from."""
        if self._owner == os.getpid() and self._process.poll() is None:
            return
        root = str(Path(__file__).parents[2])
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-IB", "-c", _CODE, root, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=_make_environment(),
                pass_fds=[theirs.fileno()],
            )
        self._control, self._owner = ours, os.getpid()


def _make_environment() -> dict[str, str]:
    """The reader's environment: OpenBLAS's threads would use up the memory.

    What tells malloc to give memory back is for a process that lives on: a fork that ends with its film would take the
    same memory again and again.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return kept | {"OPENBLAS_NUM_THREADS": "1"}


def _receive(film: socket.socket) -> bytes:
    """All that the film's process sent until it ended."""
    pieces, piece = [], None
    while piece != b"":
        try:
            piece = film.recv(_PIECE)
        except ConnectionResetError:  # it ended before it had read all, and what it sent is still to come
            continue
        except TimeoutError:
            break
        pieces.append(piece)
    return b"".join(pieces)


_reader = _Reader()
