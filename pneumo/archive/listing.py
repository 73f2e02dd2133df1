"""Sources -> films, always in the same order: folders, files, globs, DICOMDIR, URLs and lists of films.

A folder is walked as it is read: memory grows with its largest subfolder, not with the number of films. A glob's names
are sorted, and so all are held in memory.
"""

import glob
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

from pneumo.archive.remote import Remote, is_url, open_filesystem
from pneumo.data.dataset import is_picture
from pneumo.errors import FormatError, RunError

Film: TypeAlias = Path | Remote
HEATMAP_SUFFIX = ".heatmap.png"  # what `pneumo predict --heatmaps` writes is no film
WILD = set("*?[")


@dataclass(frozen=True)
class Shard:
    """One of `count` shares of an archive. Whose a film is depends on its name alone, so films may come and go."""

    index: int = 0
    count: int = 1

    def owns(self, name: str | os.PathLike) -> bool:
        """Say whether the film of that name is of this shard."""
        if self.count == 1:
            return True
        digest = blake2b(os.fsencode(name), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.count == self.index


def find_films(
    sources: Iterable[str],
    lists: Iterable[str] = (),
    shard: Shard = Shard(),  # it cannot be changed
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Film]:
    """Find the films of a shard: those of all sources, then those of all lists.

    A source is a film, a folder, a glob (quoted, so that the shell leaves it alone), a DICOMDIR, or a URL of any of
    these; a list is a file that names one film a line. What a folder holds besides pictures is counted, and `say` is
    told.
    """
    for source in sources:
        yield from _list_url(source, shard, say) if is_url(source) else _list_path(Path(source), shard, say)
    for path in lists:
        yield from read_list(path, shard)


def to_film(name: str) -> Film:
    """Return the film of a path or URL."""
    return Remote(name) if is_url(name) else Path(name)


def read_list(path: str, shard: Shard) -> Iterator[Film]:
    """Read the names of films, one a line, of which this shard takes its own. "-" is the standard input.

    Raises:
        RunError: a line is no UTF-8.
    """
    with nullcontext(sys.stdin) if path == "-" else open(path, encoding="utf-8") as lines:
        try:
            for line in lines:
                if (name := line.rstrip("\r\n")) and shard.owns(name):
                    yield to_film(name)
        except UnicodeDecodeError:
            raise RunError(f"Expected a list of films in UTF-8, one a line, received other bytes in {path}.") from None


def read_dicomdir(data: bytes, folder: str) -> list[str]:
    """Return the names, below `folder`, of the pictures in a DICOMDIR, an archive's table of contents (PS3.10 8.6).

    Raises:
        FormatError: it cannot be read.
    """
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        records = dcmread(BytesIO(data), specific_tags=["DirectoryRecordSequence"]).DirectoryRecordSequence
        ids = [record.ReferencedFileID for record in records if record.get("DirectoryRecordType") == "IMAGE"]
    except (InvalidDicomError, AttributeError, EOFError, ValueError):
        raise FormatError("Expected a DICOMDIR, received a file that is none, or is damaged.") from None
    parts = [[file_id] if isinstance(file_id, str) else list(file_id) for file_id in ids]
    return ["/".join([folder.rstrip("/"), *names]) for names in parts if not {"", ".", ".."} & {*names}]


def _list_path(path: Path, shard: Shard, say: Callable[[str], None]) -> Iterator[Film]:
    if path.is_dir():
        yield from _list_folder(str(path), walk(path), shard, say)
    elif path.name == "DICOMDIR" and path.is_file():
        yield from map(Path, filter(shard.owns, read_dicomdir(path.read_bytes(), str(path.parent))))
    elif WILD & {*str(path)} and not os.path.lexists(path):
        names = sorted(glob.iglob(str(path), recursive=True))
        if not names:
            say(f"Expected files that are called like {path}, found none.")
        yield from (Path(name) for name in names if shard.owns(name) and not os.path.isdir(name))
    elif shard.owns(path):
        yield path


def _list_url(url: str, shard: Shard, say: Callable[[str], None]) -> Iterator[Film]:
    filesystem, path = open_filesystem(url)
    if WILD & {*path}:
        names = map(filesystem.unstrip_protocol, sorted(filesystem.glob(path)))
        yield from (Remote(name) for name in names if shard.owns(name))
    elif filesystem.isdir(path):
        yield from _list_folder(url, walk_url(filesystem, path), shard, say)
    elif url.endswith("/DICOMDIR"):
        names = read_dicomdir(Remote(url).read_bytes(), url.removesuffix("/DICOMDIR"))
        yield from map(Remote, filter(shard.owns, names))
    elif shard.owns(url):
        yield Remote(url)


def _list_folder(where: str, files: Iterable[Film], shard: Shard, say: Callable[[str], None]) -> Iterator[Film]:
    """Take the pictures of a folder, except heat maps; count the rest by kind, in words."""
    found, others = False, Counter()
    for file in files:
        if file.name.endswith(HEATMAP_SUFFIX) or not shard.owns(file):
            continue
        if is_picture(file):
            found = True
            yield file
        elif not file.name.startswith("."):
            link = isinstance(file, Path) and file.is_symlink() and not file.is_file()  # to a folder, or to nothing
            others["links" if link else file.suffix.lower() or "without a suffix"] += 1
    if not found and shard.count == 1:
        say(f"Expected pictures in {where}, found none.")
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
        say(f"Not read in {where}: {kinds}. Name such a file itself to have it read.")


def walk(folder: Path) -> Iterator[Path]:
    """Go through all files below a folder, in the order of their names; links to folders are not followed."""
    with os.scandir(folder) as entries:
        inside = sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    for name, is_folder in inside:
        if is_folder:
            yield from walk(folder / name)
        else:
            yield folder / name


def walk_url(filesystem: object, folder: str) -> Iterator[Remote]:
    """Go through all files below a folder of an fsspec file system, in the order of their names."""
    for entry in sorted(filesystem.ls(folder, detail=True), key=lambda entry: entry["name"]):
        if entry["name"].rstrip("/") == folder.rstrip("/"):  # S3 has objects that stand for a folder
            continue
        if entry["type"] == "directory":
            yield from walk_url(filesystem, entry["name"])
        else:
            yield Remote(filesystem.unstrip_protocol(entry["name"]))
