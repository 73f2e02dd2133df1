"""The process that `dicom` starts: it forks for each film, and what reads the film ends with it.

It has one thread and has loaded all that a film may need, so a fork is safe and quick. Each fork gets one film through
a socket of its own, under limits of memory and time, and answers there: STARTED, a line of JSON, the pixels.
"""

import gc
import json
import os
import resource
import signal
import socket
import sys

import pydicom.sr.codedict  # noqa: F401  loaded here once, not in every fork

from pneumo.errors import PneumoError
from pneumo.films.dicom import STARTED
from pneumo.films.dicom_file import read_film

_PIECE = 2**16


def main() -> None:
    """Serve films until whoever started this is gone: each message on the control socket brings one film's socket."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started this: then the control socket closes
    gc.freeze()  # else every fork would copy what it only looks at
    control = socket.socket(fileno=int(sys.argv[2]))
    while True:
        wanted, descriptors, _, _ = socket.recv_fds(control, 1000, 1)
        if not wanted:
            return
        with socket.socket(fileno=descriptors[0]) as film:
            if os.fork() == 0:
                control.close()
                _answer(film, **json.loads(wanted))
                os._exit(0)  # without a word to the buffers of the process above


def _answer(film: socket.socket, memory: int, seconds: float, force: bool) -> None:
    """Read one film under the limits and answer what it is: its pixels, or why there are none."""
    film.sendall(STARTED)
    signal.setitimer(signal.ITIMER_REAL, seconds)  # SIGALRM ends the process, whatever a decoder is doing
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would leave the film on the disk
    pieces = []
    while piece := film.recv(_PIECE):
        pieces.append(piece)
    try:
        found = read_film(b"".join(pieces), force)
    except PneumoError as error:
        film.sendall(json.dumps({"error": type(error).__name__, "message": str(error)}).encode() + b"\n")
        return
    told = {"shape": found.pixels.shape, "warnings": found.warnings, "age": found.age}
    told |= {"refused": found.refused, "doubtful": found.doubtful}
    film.sendall(json.dumps(told).encode() + b"\n")
    film.sendall(found.pixels)
