"""The RSNA Pneumonia Detection Challenge as its sites hand it out -> a source, as `sources` reads it.

26,684 frontal films of the NIH Clinical Center, read by radiologists, with boxes around opacities (Shih et al. 2019,
doi 10.1148/ryai.2019180041). The challenge gave the films new names; its mapping tells the NIH's, and with them which
films are of one patient.
"""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from pneumo.data.sources import BOX_COLUMNS, BOXES_FILE, COLUMNS, LABELS_FILE
from pneumo.errors import PneumoError

IMAGES = "stage_2_train_images"
BOXES, CLASSES = "stage_2_train_labels.csv", "stage_2_detailed_class_info.csv"
MAPPING = "pneumonia-challenge-dataset-mappings_2018.json"
LABEL_OF = {"Lung Opacity": "PNEUMONIA", "Normal": "NORMAL", "No Lung Opacity / Not Normal": "OTHER"}
READ_BY = "radiologist (RSNA)"
OLDEST = 110  # years: some of the NIH's ages are of 150 and more


def arrange(download: Path, folder: Path) -> Counter:
    """Link the films in `download` into `folder` by label, write labels.csv and boxes.csv; counts films by label.

    Nothing is copied, and `download` stays as it is. Memory does not grow with the films' size.

    Raises:
        FileNotFoundError: `download` lacks a table or a film.
        FileExistsError: `folder` holds something.
        PneumoError: a film has no class, or another one than LABEL_OF names, or is not in the mapping.
    """
    for name in (CLASSES, BOXES, MAPPING, IMAGES):
        if not (download / name).exists():
            raise FileNotFoundError(f"Expected {name} in {download}, found none.")
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"Expected {folder} to be empty or missing, found files in it.")
    classes = {row["patientId"]: row["class"] for row in _read(download / CLASSES)}
    names = {row["subset_img_id"]: Path(row["img_id"]).stem for row in json.loads((download / MAPPING).read_text())}
    counts: Counter = Counter()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LABELS_FILE).open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(COLUMNS)
        for key, found in sorted(classes.items()):
            film = download / IMAGES / f"{key}.dcm"
            if found not in LABEL_OF or key not in names:
                raise PneumoError(f"Expected a known class and the NIH's name of {film}, received {found!r}.")
            age, view = _read_header(film)
            link = folder / LABEL_OF[found] / f"{names[key]}.dcm"
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(film.resolve())
            patient = names[key].split("_")[0]
            table.writerow([link.relative_to(folder).as_posix(), patient, age, view, READ_BY])
            counts[LABEL_OF[found]] += 1
    with (folder / BOXES_FILE).open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(BOX_COLUMNS)
        for row in _read(download / BOXES):
            if row["x"]:  # films without an opacity have a row, too
                table.writerow([names[row["patientId"]], *(row[column] for column in BOX_COLUMNS[1:])])
    return counts


def _read(path: Path) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        yield from csv.DictReader(stream)


def _read_header(film: Path) -> tuple[int | None, str]:
    """Read age in years (None where it is not told, or no age) and view from a film's header."""
    import pydicom

    header = pydicom.dcmread(film, stop_before_pixels=True, specific_tags=["PatientAge", "ViewPosition"])
    digits = str(header.get("PatientAge", "")).rstrip("Yy")  # the challenge's films leave out the unit
    age = int(digits) if digits.isdecimal() and int(digits) <= OLDEST else None
    return age, str(header.get("ViewPosition", ""))
