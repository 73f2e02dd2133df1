"""Films behind a URL: s3://, gs://, https:// and whatever else fsspec reads (`pip install 'pneumo[cloud]'`)."""

import errno
import os
import sys
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from pneumo.errors import RunError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


def is_url(name: str) -> bool:
    """Tell a URL from a path."""
    return "://" in name


def open_filesystem(url: str) -> "tuple[AbstractFileSystem, str]":
    """Return the file system of a URL and the path in it. It keeps no list of files: a list can be long, or old.

    Raises:
        RunError: the package for that kind of URL is missing, or no package is known for it.
    """
    try:
        from fsspec.core import url_to_fs

        # s3fs asks for the size of every file first, unless it reads a file in one piece
        whole = {"max_concurrency": 1} if url.startswith("s3://") else {}
        return url_to_fs(url, use_listings_cache=False, **whole)
    except (ImportError, ValueError) as error:
        raise RunError(f"{url} cannot be opened: {error}. `pip install 'pneumo[cloud]'` brings s3://.") from None


def network_errors() -> tuple[type[Exception], ...]:
    """Return what a lost network raises: OSError, and those errors of loaded packages that are none."""
    others = (("botocore.exceptions", "BotoCoreError"), ("aiohttp", "ClientError"))
    return OSError, *(getattr(sys.modules[module], name) for module, name in others if module in sys.modules)


@dataclass(frozen=True)
class Remote:
    """One file behind a URL, with those members of `pathlib.Path` that a film needs."""

    url: str

    def __fspath__(self) -> str:
        return self.url

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return PurePosixPath(self.url).name

    @property
    def suffix(self) -> str:
        """The suffix of the name, with its dot."""
        return PurePosixPath(self.url).suffix

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.url).stem

    def is_file(self) -> bool:
        """Say yes: only files are listed."""
        return True

    def open(self, _mode: str = "rb") -> BinaryIO:
        """Open it; only what is read is fetched."""
        filesystem, path = open_filesystem(self.url)
        return filesystem.open(path, "rb", cache_type="none")

    def read_bytes(self) -> bytes:
        """Fetch it as a whole.

        Raises:
            FileNotFoundError, PermissionError: there is no such file, or it may not be read. Any other error, such as a
                lost network, is no fault of this file and ends the run.
        """
        filesystem, path = open_filesystem(self.url)
        try:
            return filesystem.cat_file(path)
        except FileNotFoundError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.url) from None
        except PermissionError:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), self.url) from None
        except network_errors() as error:
            raise RunError(f"{self.url} cannot be fetched: {error}. Run the same command again to go on.") from None
