"""Sources: labelled films of several hospitals -> examples, patient-disjoint parts, and the weight of each film.

A source is a folder with class folders (PNEUMONIA, NORMAL and, where there are such films, OTHER: findings, but no
pneumonia), or with such folders in `train`, as Kaggle unpacks the children's films. Where it holds `labels.csv`, this
says of each film who the patient is, how old, the view, and where the label comes from; `boxes.csv` says where
radiologists saw an opacity. Knows nothing of networks.
"""

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pneumo.data.dataset import FOLDS, OTHER, PARTS, SPLIT_SEED, Box, Example, divide, number_patients, scan
from pneumo.errors import PneumoError

LABELS_FILE, BOXES_FILE = "labels.csv", "boxes.csv"
COLUMNS = ("file", "patient", "age", "view", "source")  # of labels.csv; an empty field is unknown
BOX_COLUMNS = ("image", "x", "y", "width", "height")
BOX_SIDE = 1024  # pixels a side of the film on which boxes are given (Shih et al. 2019, doi 10.1148/ryai.2019180041)
ADULT = 18  # years
MOST = 10.0  # times the mean weight: a small cell gives none of its films more
READ = 2.0  # times as much as a label that a program took from a report counts one that a radiologist gave
FEW, FEW_FOLDS = 3000, 7  # a source of fewer films holds a seventh back, twice, instead of a tenth


def read_sources(folders: Sequence[Path]) -> list[Example]:
    """List the films of all `folders`, sorted by path within each. A source is called as its folder is.

    Raises:
        FileNotFoundError: a folder holds no films, or films of one label only.
        PneumoError: two folders have the same name; labels.csv or boxes.csv lacks a column, a film, or a number.
    """
    names = [folder.resolve().name for folder in folders]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise PneumoError(f"Expected folders with different names, received {twice[0]} twice.")
    return [example for folder, name in zip(folders, names, strict=True) for example in read_source(folder, name)]


def read_source(folder: Path, name: str) -> list[Example]:
    """List the films of one source, sorted by path, with what labels.csv and boxes.csv say of them."""
    root = folder / "train" if (folder / "train").is_dir() else folder
    examples = [replace(example, source=name) for example in scan(root, OTHER)]
    if (root / LABELS_FILE).exists():
        rows = {row["file"]: row for row in _read_rows(root / LABELS_FILE, COLUMNS)}
        examples = [_describe(example, rows, root) for example in examples]
    if (root / BOXES_FILE).exists():
        boxes: dict[str, list[Box]] = {}
        for row in _read_rows(root / BOXES_FILE, BOX_COLUMNS):
            boxes.setdefault(row["image"], []).append(_read_box(row, root / BOXES_FILE))
        examples = [replace(e, boxes=tuple(boxes[e.path.stem])) if e.path.stem in boxes else e for e in examples]
    return examples


def _read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.DictReader(stream)
        if missing := [column for column in columns if column not in (reader.fieldnames or ())]:
            raise PneumoError(f"Expected the columns {', '.join(columns)} in {path}, found no {missing[0]}.")
        return list(reader)


def _describe(example: Example, rows: dict[str, dict[str, str]], root: Path) -> Example:
    """Add to a film what its row in labels.csv says."""
    file = example.path.relative_to(root).as_posix()
    if file not in rows:
        raise PneumoError(f"Expected a row for {file} in {root / LABELS_FILE}, found none.")
    row = rows[file]
    try:
        age = int(float(row["age"])) if row["age"] else None
    except ValueError:
        raise PneumoError(f"Expected the age of {file} in years, received {row['age']!r}.") from None
    return replace(
        example,
        patient=row["patient"] or example.patient,
        age=age,
        view=row["view"] or None,
        read_by=row["source"] or None,
    )


def _read_box(row: dict[str, str], path: Path) -> Box:
    """Read a box as shares of the film's width and height."""
    try:
        left, top, width, height = (float(row[column]) / BOX_SIDE for column in BOX_COLUMNS[1:])
    except ValueError:
        raise PneumoError(f"Expected numbers of pixels for {row['image']} in {path}, received {row}.") from None
    return left, top, left + width, top + height


def split_sources(
    examples: Sequence[Example], hashes: Sequence[str], seed: int = SPLIT_SEED
) -> dict[str, list[Example]]:
    """Divide the films into PARTS, each source for itself, as `dataset.split` does.

    A patient of several sources is in the part in which the first source has put him; and so are identical files. The
    first source is therefore divided as if it were alone.

    Raises:
        PneumoError: too few patients in a source; says which.
    """
    patients = number_patients(examples, hashes)
    part_of = np.full(len(examples), -1)
    for source in dict.fromkeys(example.source for example in examples):
        own = np.array([example.source == source for example in examples])
        placed = dict(zip(patients[part_of >= 0].tolist(), part_of[part_of >= 0].tolist(), strict=True))
        known = own & np.isin(patients, list(placed))
        part_of[known] = [placed[patient] for patient in patients[known].tolist()]
        free = np.flatnonzero(own & ~known)
        if not len(free):
            continue
        try:
            folds = FOLDS if len(free) >= FEW or source == examples[0].source else FEW_FOLDS
            part_of[free] = divide([examples[i] for i in free], patients[free], seed, folds)
        except PneumoError as error:
            raise PneumoError(f"{source}: {error}") from None
    return {name: [e for e, p in zip(examples, part_of, strict=True) if p == i] for i, name in enumerate(PARTS)}


def find_population(example: Example) -> str | None:
    """Tell "child" or "adult" by the age; None where it is unknown."""
    return None if example.age is None else "adult" if example.age >= ADULT else "child"


def weigh_films(examples: Sequence[Example]) -> np.ndarray:
    """Weigh films so that neither source, view nor population predicts the label: (n,) float64, 1 on average.

    A cell is the films of one source, view, population and label (pneumonia or not). A source weighs as the square root
    of its films, so that a small one is neither drowned nor learned by heart. The cells of each weigh the same, shared
    by their films: a film that was read counts READ times one labelled by text. No film weighs more than MOST times the
    mean: then the two cells of that source, view and population both weigh less, and the source's others more. Where
    one of the two is empty, both weigh nothing: they would teach that this hospital, or this view, is the disease.

    Raises:
        PneumoError: no source, view and population has films of both labels.
    """
    groups = [(example.source, example.view, find_population(example)) for example in examples]
    cells = [(*group, example.target) for group, example in zip(groups, examples, strict=True)]
    trust = np.array([1.0 if example.by_text else READ for example in examples])
    sums: dict[tuple, float] = {}
    for cell, one in zip(cells, trust.tolist(), strict=True):
        sums[cell] = sums.get(cell, 0.0) + one
    least = {group: min(sums.get((*group, 0), 0.0), sums.get((*group, 1), 0.0)) for group in set(groups)}
    # the smallest first: what it leaves, others get
    pairs = sorted(((n, group) for group, n in least.items() if n), key=lambda pair: pair[0])
    if not pairs:
        raise PneumoError("Expected films with and without pneumonia from the same source, view and population.")
    films = Counter(example.source for example in examples)
    roots = {source: math.sqrt(films[source]) for source in {group[0] for _, group in pairs}}
    left = {source: 0.5 * root / sum(roots.values()) for source, root in roots.items()}  # of each label
    waiting = Counter(group[0] for _, group in pairs)
    most = MOST / sum(least[group] > 0 for group in groups)
    share = dict.fromkeys(least, 0.0)  # of one cell
    for n, group in pairs:
        share[group] = min(left[group[0]] / waiting[group[0]], most * n / READ)
        left[group[0]] -= share[group]
        waiting[group[0]] -= 1
    weights = np.array([t * share[cell[:-1]] / sums[cell] for cell, t in zip(cells, trust, strict=True)])
    return weights / weights.mean()
