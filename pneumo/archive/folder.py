"""The folder in which parts lie, on this machine or behind a URL: a file appears in it whole, or not at all."""

import os
from pathlib import Path

from pneumo.archive.remote import Remote, is_url, network_errors, open_filesystem
from pneumo.errors import RunError
from pneumo.files import write_whole


class LocalFolder:
    """A folder of this machine, or of a disk that several machines share."""

    def __init__(self, where: str) -> None:
        self.path = Path(where)
        self.path.mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return str(self.path)

    def names(self) -> list[str]:
        """List the names of its files."""
        return os.listdir(self.path)

    def read(self, name: str) -> bytes:
        """Read a file."""
        return (self.path / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Write a file under another name and rename it; remove what a killed process left of the same file.

        Raises:
            RunError: the disk is full, or another reason of the system's.
        """
        with write_whole(self.path / name) as stream:
            stream.write(data)
        for left in self.path.glob(f".{name}.*"):
            left.unlink(missing_ok=True)


class RemoteFolder:
    """A folder behind a URL. S3 and its like take a file as a whole; with sftp:// a killed run leaves half a file."""

    def __init__(self, where: str) -> None:
        self.url = where.rstrip("/")
        self.filesystem, self.path = open_filesystem(self.url)

    def __str__(self) -> str:
        return self.url

    def names(self) -> list[str]:
        """List the names of its files."""
        try:
            return [entry.rstrip("/").rpartition("/")[2] for entry in self.filesystem.ls(self.path, detail=False)]
        except FileNotFoundError:  # S3 has no empty folders
            return []

    def read(self, name: str) -> bytes:
        """Read a file."""
        return Remote(f"{self.url}/{name}").read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Write a file.

        Raises:
            RunError: it could not be written.
        """
        try:
            self.filesystem.pipe_file(f"{self.path}/{name}", data)
        except network_errors() as error:
            raise RunError(f"{self.url}/{name} cannot be written: {error}.") from None


def open_folder(where: str) -> LocalFolder | RemoteFolder:
    """Open the folder of a path or URL; a local one is made if need be."""
    return RemoteFolder(where) if is_url(where) else LocalFolder(where)
