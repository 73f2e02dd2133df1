"""A folder of films -> examples with patient keys -> patient-disjoint parts -> arrays.

Knows the file names of *Chest X-Ray Images (Pneumonia)* (Kermany, Zhang, Goldbaum, doi 10.17632/rscbjbr9sj). A film
with another name is a patient of its own, unless it lies in a folder within NORMAL or PNEUMONIA: all films in folders
of that name are of one patient. Knows nothing of networks.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumo import LABELS
from pneumo.errors import PneumoError
from pneumo.films.images import decode
from pneumo.films.preprocessing import prepare

OTHER = "OTHER"  # findings, but no pneumonia
Box = tuple[float, float, float, float]  # left, top, right, bottom, as shares 0..1 of the film's width and height
PARTS = ("train", "validation", "internal_test")
SPLIT_SEED = 0
FOLDS = 10  # of the films: one is validation, one the internal test
_PNEUMONIA = re.compile(r"(person\d+)_(bacteria|virus)_\d+(?:_\d+)?")
_NORMAL = re.compile(r"((?:NORMAL2-)?IM)-(\d+)-\d+(?:-\d+)?")
_DICOM = {".dcm", ".dicom"}
_SUFFIXES = {".jpeg", ".jpg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".webp", ".bmp"} | _DICOM


@dataclass(frozen=True)
class Example:
    """One film on disk. What is unknown is None.

    `label` is one of LABELS or OTHER, `aetiology` "normal", "bacteria" or "virus", `patient` a key, `age` in years,
    `view` "AP" or "PA", `source` the hospital's folder, `read_by` where the label comes from, `boxes` where
    radiologists saw an opacity.
    """

    path: Path
    label: str
    aetiology: str | None
    patient: str
    age: int | None = None
    view: str | None = None
    source: str | None = None
    read_by: str | None = None
    boxes: tuple[Box, ...] | None = None

    @property
    def target(self) -> int:
        """1 for pneumonia, 0 for normal and other films."""
        return int(self.label == "PNEUMONIA")

    @property
    def by_text(self) -> bool:
        """Whether a program took the label from a report, so that nobody read the film for it."""
        return self.read_by == "text"


def patient_key(name: str, label: str) -> tuple[str, str | None]:
    """Read patient key and aetiology from the name of a film in the folder `label`.

    The numbering restarts for each aetiology: person12_bacteria and person12_virus are two patients. Two kinds of names
    tell nothing: those of DICOM files, since viewers export any patient's as IM-0001-0001.dcm, and those that
    contradict the folder.
    """
    path = Path(name)
    stem = bare_name(path)
    if path.suffix.lower() not in _DICOM:
        if label == "PNEUMONIA" and (match := _PNEUMONIA.fullmatch(stem)):
            return f"{match[1]}_{match[2]}", match[2]
        if label == "NORMAL" and (match := _NORMAL.fullmatch(stem)):
            return f"{match[1]}-{match[2]}", "normal"
    return f"{label}/{stem}", None  # both folders may count from 1


def bare_name(path: Path) -> str:
    """Drop the suffix of a picture from a file's name; 1.2.840.7, as archives name DICOM files, has none."""
    return path.stem if path.suffix.lower() in _SUFFIXES else path.name


def is_picture(path: Path) -> bool:
    """Tell a picture from other files in a folder by its name (macOS leaves `._name` files behind).

    Archives name DICOM files IM0001 or 1.2.840.7: where a name has no suffix, or a number as suffix, the file's prefix
    is read (PS3.10 7.1). DICOMDIR is an archive's table of contents.
    """
    if path.name.startswith(".") or path.name == "DICOMDIR":
        return False
    try:
        if not path.is_file():
            return False
        if path.suffix.lower() in _SUFFIXES:
            return True
        if path.suffix[1:].strip("0123456789"):
            return False
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except PermissionError:
        return True  # reading it will raise, with its name


def scan(folder: Path, *more: str) -> list[Example]:
    """List the films of `folder/{NORMAL,PNEUMONIA}`, and in the folders called as in `more`, sorted by label and path.

    Films in a folder within these are of one patient, whose key is the folder's name.

    Raises:
        FileNotFoundError: NORMAL or PNEUMONIA is missing or holds no picture.
    """
    examples = []
    for label in (*LABELS, *more):
        paths = sorted(filter(is_picture, (folder / label).rglob("*"))) if (folder / label).is_dir() else []
        if not paths and label in LABELS:
            raise FileNotFoundError(f"Expected films in {folder / label}, found none.")
        for path in paths:
            patient, aetiology = patient_key(path.name, label)
            if path.parent != folder / label:  # as the data set's own films never lie
                patient, aetiology = path.relative_to(folder / label).parts[0], None
            examples.append(Example(path, label, aetiology, patient))
    return examples


def content_hashes(examples: Iterable[Example]) -> list[str]:
    """Hash every file with SHA-256, in order."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda example: hashlib.sha256(example.path.read_bytes()).hexdigest(), examples))


def fingerprint(hashes: Iterable[str]) -> str:
    """Reduce the SHA-256 of some files to one that does not depend on their names and order."""
    return hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest()


def number_patients(examples: Sequence[Example], hashes: Sequence[str]) -> np.ndarray:
    """Number the patient behind every film: (n,) int. Two patient keys that share a byte-identical film are one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    _, patients = np.unique([example.patient for example in examples], return_inverse=True)
    _, contents = np.unique(hashes, return_inverse=True)
    nodes = patients.max() + 1 + contents.max() + 1  # a graph of patients and contents, an edge a film
    edges = coo_array((np.ones(len(examples)), (patients, patients.max() + 1 + contents)), shape=(nodes, nodes))
    _, component = connected_components(edges, directed=False)
    return component[patients]


def split(examples: Sequence[Example], hashes: Sequence[str], seed: int = SPLIT_SEED) -> dict[str, list[Example]]:
    """Divide films into PARTS, about 80/10/10, by patient, stratified by aetiology; identical files stay together.

    Raises:
        PneumoError: fewer than ten patients, fewer than ten films of every aetiology, or a part without a label.
    """
    part_of = divide(examples, number_patients(examples, hashes), seed)
    return {name: [e for e, p in zip(examples, part_of, strict=True) if p == i] for i, name in enumerate(PARTS)}


def divide(examples: Sequence[Example], patients: np.ndarray, seed: int, folds: int = FOLDS) -> np.ndarray:
    """Assign films, whose patients are numbered (n,), to parts as `split` does: indices into PARTS, (n,).

    Each of the two held-out parts is one of so many `folds`.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    kinds = [example.aetiology or example.label for example in examples]
    if (count := len(set(patients.tolist()))) < 10 or max(Counter(kinds).values()) < 10:
        raise PneumoError(
            f"Expected at least ten patients and ten films of a kind to split, received {count} patients and "
            f"{dict(Counter(kinds))}."
        )
    strata = [f"{kind} {e.view} {e.by_text}" for kind, e in zip(kinds, examples, strict=True)]
    if min(Counter(strata).values()) < folds:  # too few of a kind for views and readers to be divided evenly as well
        strata = kinds
    divisions = StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(strata, strata, patients)
    part_of = np.zeros(len(examples), int)
    for part, (_, held_out) in zip((2, 1), divisions, strict=False):
        part_of[held_out] = part
    targets = np.array([example.target for example in examples])
    for part, name in enumerate(PARTS):
        if len(set(targets[part_of == part].tolist())) < len(LABELS):
            words = name.replace("_", " ")
            raise PneumoError(f"Too few patients to split: one of the two labels would have no film in {words}.")
    return part_of


def load(examples: Sequence[Example], size: int, steps: Sequence[str] = (), path: Path | None = None) -> np.ndarray:
    """Decode and prepare every film: (n, size, size) uint8. An unreadable film raises, with its name.

    With `path` the films are written to that .npy file and mapped from there, so that memory does not grow with n.
    """
    shape = (len(examples), size, size)
    films = np.lib.format.open_memmap(path, "w+", np.uint8, shape) if path else np.empty(shape, np.uint8)

    def prepare_one(index: int) -> None:
        try:
            film = decode(examples[index].path.read_bytes(), size).pixels
            films[index] = prepare(film, size, steps)[0]
        except PneumoError as error:
            raise type(error)(f"{examples[index].path}: {error}") from None

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(prepare_one, range(len(examples))):
            pass
    return films
