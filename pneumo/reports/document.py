"""The pages that `pneumo document` writes: MODEL_CARD.md, docs/results.md, and two blocks of README.md.

Every number in them comes from the card, the reports and the benchmarks (SOURCES); the words are in the templates.
"""

import csv
import json
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pneumo import LABELS
from pneumo.data.dataset import OTHER
from pneumo.errors import RunError
from pneumo.evaluation.faithfulness import describe_drops
from pneumo.evaluation.subgroups import READ
from pneumo.films.images import decode
from pneumo.model.card import ALL, MODELS, POINTS, Card, read_card
from pneumo.model.heatmap import describe_coverage
from pneumo.reports import tables
from pneumo.reports.card_tables import (
    PATIENTS,
    count_open_films,
    tabulate_ages,
    tabulate_prevalence,
    tabulate_reached,
    tabulate_refusals,
)
from pneumo.reports.pages import render

ROOT = MODELS.parent
README, RESULTS, CARD = "README.md", "docs/results.md", "MODEL_CARD.md"
SAMPLE = "static/samples/person1084_bacteria_3024.jpeg"
GOLDEN = "tests/model/golden.csv"
SOURCES = {  # what is measured, where it is kept, and the command that measures it again
    "card": ("models/vgg16-chest-xray.json", "pneumo train"),
    "test": (
        "reports/internal_test/metrics.json",
        "pneumo evaluate data/chest_xray/train --part internal_test --report reports/internal_test",
    ),
    "audit": (
        "reports/audit/metrics.json",
        "pneumo audit data/chest_xray/train --part validation --report reports/audit",
    ),
    "audit_test": (
        "reports/audit_internal_test/metrics.json",
        "pneumo audit data/chest_xray/train --part internal_test --report reports/audit_internal_test",
    ),
    "serving": ("benchmarks/serving.json", "make benchmark"),
    "sizes": ("benchmarks/sizes.json", "python benchmarks/sizes.py ORIGINALS COPIES"),
    "comparison": ("reports/comparison.json", "pneumo compare"),
}
PARTS = {  # of the films, and what each was for
    "train": "training",
    "validation": "validation: every choice",
    "internal_test": "internal test: no choice",
}


class Measured(dict):
    """What a JSON file says; asked for what it does not have, it names the command that writes it."""

    _source, _command = "", ""

    def __missing__(self, key: str) -> None:
        """Raise RunError: an older version wrote the file."""
        raise RunError(f"Expected {key!r} in {self._source}, found none: run `{self._command}`.")


def read_measured(name: str, root: Path = ROOT) -> Measured:
    """Read one of SOURCES below `root`.

    Raises:
        RunError: there is no such file. So does what is returned when it is asked for what it does not have.
    """
    file, command = SOURCES[name]
    try:
        text = (root / file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunError(f"Expected {file}, found none: run `{command}`.") from None
    return _trace(text, name)


def _trace(text: str, name: str) -> Measured:
    """Read JSON that came from one of SOURCES."""
    file, command = SOURCES[name]
    kind = type("Measured", (Measured,), {"_source": file, "_command": command})
    return json.loads(text, object_hook=kind)


def describe_populations(card: Card) -> list[dict]:
    """What the pages tell of each population, with the card's members of its own as `contents`.

    `alone` are the films of its internal test that a radiologist read, or all, if some of them are OTHER; `pointing` is
    where the heat map points on those with boxes; each else None.
    """
    described = []
    for name in card.populations:
        own = card.for_population(name)
        contents = _trace(json.dumps(own.contents), "card")
        part = contents["data"]["parts"]["internal_test"]
        labels = [label for label in (*LABELS, OTHER) if label in part]
        strata = contents["strata"]["internal_test"]
        counted = ((words, contents["data"]["parts"][key]) for key, words in PARTS.items())
        parts = ((words, of["n"], *(of[one] for one in labels), of["patients"]) for words, of in counted)
        described.append(
            {
                "name": name,
                "patients": PATIENTS.get(name, name),
                "card": own,
                "contents": contents,
                "part": part,
                "parts": [("", "films", *labels, "patients"), *parts],
                "alone": strata.get(READ, strata[ALL]) if OTHER in labels else None,
                "pointing": ((contents.get("pointing") or {}).get("internal_test") or {}).get(ALL),
                "prevalence": tabulate_prevalence(contents),
                "open_films": count_open_films(own),
            }
        )
    return described


def write_pages() -> dict[Path, str]:
    """What each page should say now, by its path.

    Raises:
        RunError: a measurement lacks what is told; the message names the command that makes it.
        ValueError: README.md lacks a pair of marks.
    """
    card = read_card(ROOT / SOURCES["card"][0])
    contents = _trace(json.dumps(card.contents), "card")  # of the first population, at the top
    found = {name: read_measured(name) for name in SOURCES if name != "card"}
    write = partial(
        render,
        card=card,
        contents=contents,
        populations=describe_populations(card),
        names=PATIENTS,
        ages=tabulate_ages(contents["gate"]),
        reached=tabulate_reached(contents["receipt"].get("reached", {})),
        points=POINTS,
        sources={name: {"file": file, "command": command} for name, (file, command) in SOURCES.items()},
        tables=tables,
        refusals=tabulate_refusals(contents["gate"]),
        coverage=describe_coverage(found["test"]["coloured"]),
        drops=describe_drops(found["test"]["faithfulness"]),
        worst=find_worst(found["test"]["subgroups"]),
        **found,
    )
    blocks = {
        "numbers": write("numbers"),
        "answer": write("answer", sample=SAMPLE, answer=write_members(answer(card))),
    }
    readme = (ROOT / README).read_text(encoding="utf-8")
    texts = {README: fill(readme, blocks), RESULTS: write("results"), CARD: write("model_card")}
    return {ROOT / name: text for name, text in texts.items()}


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """Put every block between its marks, `<!-- NAME -->` and `<!-- /NAME -->`.

    Raises:
        ValueError: a mark is missing.
    """
    for name, block in blocks.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, found = pattern.subn(lambda m, s=block: f"{m[1]}{s.rstrip()}\n{m[2]}", text)
        if found != 1:
            raise ValueError(f"Expected one pair of <!-- {name} --> marks, found {found}.")
    return text


def answer(card: Card) -> dict:
    """The answer to SAMPLE as the server gives it, with the golden probability: processors differ a little."""
    with (ROOT / GOLDEN).open(newline="", encoding="utf-8") as stream:
        row = next(row for row in csv.DictReader(stream) if row["file"] == SAMPLE)
    film = decode((ROOT / SAMPLE).read_bytes())
    by = "pixels" if len(card.populations) > 1 else "model"  # the sample is no DICOM file
    card = card.for_population(row["population"])
    return {
        "label": row["label"],
        "probability": float(row["probability"]),
        "threshold": card.threshold,
        "operating_point": card.default_operating_point,
        "triage": card.triage(float(row["probability"])),
        "population": {"name": card.population, "by": by},
        "model": card.model,
        "image": {"format": film.format, "width": film.width, "height": film.height},
        "warnings": [],
        "request_id": "…",
    }


def write_members(contents: Mapping) -> str:
    """Write JSON with a line for each member, and none for what is in them."""
    lines = (f"  {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in contents.items())
    return "{\n" + ",\n".join(lines) + "\n}"


def find_worst(groups: Mapping) -> dict[str, tables.Row]:
    """The row of `tabulate_subgroups` with the lowest sensitivity, and the one with the lowest specificity."""
    found = [one for parts in groups.values() for one in parts.values()]
    pairs = list(zip(found, tables.tabulate_subgroups(groups), strict=True))
    return {
        name: min((pair for pair in pairs if pair[0][name] is not None), key=lambda pair: pair[0][name])[1]
        for name in ("sensitivity", "specificity")
    }
