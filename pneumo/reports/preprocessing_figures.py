"""What preprocessing makes of films, to be looked at: a table of steps, and a sheet of found lung fields."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pneumo.films.preprocessing import prepare

SIDE = 224
ON_A_SHEET, ACROSS = 100, 10
HEAD = 16  # pixels of the line of words
FOUND, NOT_FOUND = (230, 159, 0), (213, 94, 0)  # Okabe and Ito's orange and vermillion
COLUMNS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "equalise": ("equalise",),
    "clahe": ("clahe",),
    "close": ("close",),
    "open": ("open",),
    "equalise, close, open": ("equalise", "close", "open"),
    "lungs": ("lungs",),
}


def draw_steps(films: Sequence[np.ndarray], path: Path) -> None:
    """Save a picture with a row for every (H, W) uint8 film and a column for each of COLUMNS."""
    rows = [np.concatenate([prepare(film, SIDE, steps)[0] for steps in COLUMNS.values()], axis=1) for film in films]
    canvas = Image.new("L", (SIDE * len(COLUMNS), HEAD + SIDE * len(rows)), 255)
    words = ImageDraw.Draw(canvas)
    for number, name in enumerate(COLUMNS):
        words.text((number * SIDE + 4, 2), name, fill=0)
    canvas.paste(Image.fromarray(np.concatenate(rows)), (0, HEAD))
    canvas.save(path)


def draw_lungs(films: Sequence[np.ndarray], path: Path) -> float:
    """Save a contact sheet of the first ON_A_SHEET (H, W) uint8 films with the outlines of the lung fields found.

    It is at half the size. A cross says that none were found. Returns the share of the films shown on which they were.
    """
    from scipy.ndimage import binary_erosion

    from pneumo.films import lungs

    shown = [prepare(film, SIDE)[0] for film in films[:ON_A_SHEET]]
    canvas = Image.new("RGB", (SIDE * min(ACROSS, len(shown)), SIDE * -(-len(shown) // ACROSS)))
    found = 0
    for number, film in enumerate(shown):
        colours = np.repeat(film[..., None], 3, axis=2)
        fields = lungs.find(film)
        if fields is not None:
            found += 1
            colours[fields & ~binary_erosion(fields, iterations=2)] = FOUND
        picture = Image.fromarray(colours)
        if fields is None:
            lines = ImageDraw.Draw(picture)
            lines.line((0, 0, SIDE, SIDE), fill=NOT_FOUND, width=3)
            lines.line((0, SIDE, SIDE, 0), fill=NOT_FOUND, width=3)
        canvas.paste(picture, (number % ACROSS * SIDE, number // ACROSS * SIDE))
    canvas.resize([side // 2 for side in canvas.size], Image.Resampling.BOX).save(path)
    return found / len(shown)
