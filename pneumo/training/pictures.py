"""Pictures that are no upright frontal films: turned and cut from films, drawn, and read from folders."""

import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pneumo.errors import PneumoError
from pneumo.films.images import decode
from pneumo.model.gate import BODY_PART, CT, KINDS, LATERAL, OTHER, PHOTOGRAPH

FOLDS = 4  # of the pictures of each folder, by patient
Pictures = tuple[list[np.ndarray], np.ndarray]  # (H, W) uint8 each, and the fold of each, (n,)
TURNS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], ...]] = {
    "upside_down": (lambda film: film[::-1, ::-1],),
    "sideways": (lambda film: film.T[:, ::-1], lambda film: film.T[::-1]),
    "negative": (lambda film: 255 - film,),
}
# What the pictures in a folder of that name are; those of any other folder are OTHER.
FOLDERS = {"lateral": LATERAL, "ct": CT, "chest_ct": CT, "body_parts": BODY_PART, "photos": PHOTOGRAPH}


def turn(films: Iterable[np.ndarray], kind: str) -> list[np.ndarray]:
    """Turn films as `kind` of TURNS says, its ways in rotation."""
    return [TURNS[kind][i % len(TURNS[kind])](film) for i, film in enumerate(films)]


def shuffle(film: np.ndarray, tiles: int, rng: np.random.Generator) -> np.ndarray:
    """Cut (S, S) uint8 into tiles × tiles and reorder them: film everywhere, no chest."""
    side = len(film) // tiles
    cut = [film[r * side : (r + 1) * side, c * side : (c + 1) * side] for r in range(tiles) for c in range(tiles)]
    order = rng.permutation(len(cut))
    while (order == np.arange(len(cut))).all():
        order = rng.permutation(len(cut))
    return np.block([[cut[order[r * tiles + c]] for c in range(tiles)] for r in range(tiles)])


def cut_detail(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut a square of a fifth to two fifths of the side out of (S, S) uint8."""
    side = int(rng.integers(len(film) // 5, 2 * len(film) // 5))
    top, left = rng.integers(0, len(film) - side, 2)
    return film[top : top + side, left : left + side]


def draw(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Draw one each of: one grey, even noise, normal noise, clouds, a gradient, a page of text; (H, W) uint8."""
    height, width = rng.integers(150, 500, 2)
    yield np.full((height, width), rng.integers(256), np.uint8)
    yield rng.integers(0, 256, (height, width), np.uint8)
    yield rng.normal(rng.uniform(40, 200), rng.uniform(5, 60), (height, width)).clip(0, 255).astype(np.uint8)
    clouds = rng.normal(128, 50, rng.integers(3, 30, 2)).clip(0, 255).astype(np.uint8)
    yield np.asarray(Image.fromarray(clouds).resize((width, height), Image.Resampling.BICUBIC))
    slopes = rng.uniform(-255, 255, 2)
    gradient = np.add.outer(np.linspace(0, slopes[0], height), np.linspace(0, slopes[1], width))
    yield (gradient - gradient.min()).clip(0, 255).astype(np.uint8)
    dark = bool(rng.integers(2))
    page = Image.new("L", (int(width), int(height)), 0 if dark else 255)
    pen, size = ImageDraw.Draw(page), int(rng.integers(9, 30))
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz0123456789    ,."))
    for y in range(size // 2, int(height) - size, int(1.4 * size)):
        pen.text((size, y), "".join(rng.choice(letters, 80)), fill=255 if dark else 0, font_size=size)
    yield np.asarray(page)


def read_pictures(paths: Iterable[Path]) -> Pictures:
    """Read the files that decode as pictures, and give each its fold.

    All pictures of a patient are in one fold: ChestX-ray8 names films PATIENT_NUMBER.
    """
    found, folds, patients = [], [], {}
    for path in paths:
        try:
            found.append(decode(path.read_bytes()).pixels)
        except PneumoError:
            continue  # a note beside the pictures
        patient = re.fullmatch(r"(\d{8})_\d{3}", path.stem)
        folds.append(patients.setdefault(patient[1] if patient else path, len(patients)) % FOLDS)
    return found, np.array(folds, int)


def list_files(folder: Path | None) -> list[Path]:
    """List the files below `folder` in the order of their names; none without a folder."""
    return sorted(path for path in folder.rglob("*") if path.is_file()) if folder else []


def read_others(folder: Path | None) -> dict[str, Pictures]:
    """Read the pictures below `folder` by their kind, which the innermost folder named in FOLDERS tells."""
    found: dict[str, list[Path]] = {}
    for path in list_files(folder):
        names = reversed(path.relative_to(folder).parts[:-1])
        found.setdefault(next((FOLDERS[name] for name in names if name in FOLDERS), OTHER), []).append(path)
    read = {kind: read_pictures(found[kind]) for kind in KINDS if kind in found}
    return {kind: pictures for kind, pictures in read.items() if pictures[0]}
