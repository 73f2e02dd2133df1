"""A DICOM file -> the same `Film` as of any other picture, read in a process of its own by `dicom_file`.

Its readers meet whatever was sent: GDCM 3.2 ends its process on many a damaged film, and a few megabytes of empty items
cost pydicom gigabytes. There that costs one film, not the server; memory and time have a limit; no other film is in
reach, and nothing that the readers say or warn of, names included, goes anywhere.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from pneumo import errors
from pneumo.films.film import Film

SECONDS = 20
MEMORY = 2**30  # a film of MAX_PIXELS takes 0.8 GB
STARTED = b"pneumo\n"
_CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from pneumo.films.dicom_file import main; main()"


def decode(data: bytes) -> Film:
    """Decode one frontal chest film; `images.decode` has told that the bytes are DICOM.

    Raises:
        FormatError, OtherFilmError, TooLargeError, UnreadableError: see `dicom_file.read_film`.
        RuntimeError: the other process does not start: something is not installed.
    """
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # whose threads would use up the memory
    try:
        done = subprocess.run(
            [sys.executable, "-IB", "-c", _CHILD, root, str(MEMORY)],
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise errors.UnreadableError(f"Expected a film that is read in {SECONDS} s, received more work.") from None
    if not done.stdout.startswith(STARTED):
        raise RuntimeError("Expected pydicom and its decoders to start, received nothing: are they installed?")
    head, _, pixels = done.stdout[len(STARTED) :].partition(b"\n")
    if done.returncode or not head:  # a decoder ended it, or the limit of memory
        raise errors.UnreadableError("The DICOM file is damaged, or takes more memory than any film.")
    answer = json.loads(head)
    if "error" in answer:
        raise getattr(errors, answer["error"])(answer["message"])
    height, width = answer["shape"]
    grey = np.frombuffer(pixels, np.uint8).reshape(height, width)
    return Film(grey, "DICOM", width, height, tuple(answer["warnings"]))
