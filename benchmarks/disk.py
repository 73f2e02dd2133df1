"""What is installed for serving, in MB on disk."""

import re
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent


def closure(names: tuple[str, ...]) -> set[str]:
    """Distributions of these names and all that they need here."""
    found, waiting = set(), list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found:
            found.add(name)
            needed = map(Requirement, metadata.requires(name) or [])
            waiting += [one.name for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


def pinned() -> set[str]:
    """Distributions that requirements-serve.txt pins for this platform."""
    lines = re.findall(r"^[\w.-]+==[^\\\n]*", (ROOT / "requirements-serve.txt").read_text(), re.MULTILINE)
    needed = map(Requirement, lines)
    return {canonicalize_name(one.name) for one in needed if one.marker is None or one.marker.evaluate()}


def disk(distributions: set[str], files: list[Path]) -> dict[str, int]:
    """MB of the installed files of `distributions`, and of `files`."""
    installed = (Path(file.locate()) for name in distributions for file in metadata.files(name) or [])
    sizes = [sum(path.stat().st_size for path in paths if path.is_file()) for paths in (installed, files)]
    return {"packages_mb": round(sizes[0] / 1e6), "own_mb": round(sizes[1] / 1e6)}


def served_files() -> list[Path]:
    """What .dockerignore lets into the image."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    narrowed = {line.removesuffix("/*") for line in lines}  # a folder of which only some files follow
    roots = [path for line in lines if line[:1] == "!" and line[1:] not in narrowed for path in ROOT.glob(line[1:])]
    below = [path for root in roots for path in ([root] if root.is_file() else root.rglob("*"))]
    return [path for path in below if path.is_file() and "__pycache__" not in path.parts]
