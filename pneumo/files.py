"""A file appears under its name whole, or not at all."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from pneumo.errors import RunError


@contextmanager
def write_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of `path` at the end of the block, if nothing was raised.

    Its folder is made if there is none.

    Raises:
        RunError: the disk is full, or another reason of the system's.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with new.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        new.replace(path)
    except OSError as error:
        if error.filename not in (None, str(new)):  # of another file, read in the block
            raise
        if isinstance(error, FileNotFoundError) and path.exists():  # who wrote the same meanwhile has removed ours
            return
        raise RunError(f"{path} cannot be written: {error.strerror}.") from None
    finally:
        new.unlink(missing_ok=True)
