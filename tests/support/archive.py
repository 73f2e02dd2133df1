"""A small archive."""

from pathlib import Path

from PIL import Image


def make_films(folder: Path, count: int = 30) -> Path:
    """Make films, ten in each of the folders 0, 1, 2 …, film n of grey 8 n modulo 256; number 4 cannot be read."""
    for number in range(count):
        path = folder / f"{number // 10}" / f"film {number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (64, 48), 8 * number % 256).save(path)
    (folder / "0" / "film 04.png").write_bytes(b"no film")
    return folder
