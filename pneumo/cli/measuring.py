"""Labelled films of one population -> what the served model says of them, and figures."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import click
import numpy as np

from pneumo import LABELS
from pneumo.cli import films as cli_films
from pneumo.cli.films import each, progress, report_unreadable

if TYPE_CHECKING:
    from pneumo.data.dataset import Example
    from pneumo.model.predictor import Predictor


@dataclass
class Read:
    """The n films that were read, with their target, probability, mean grey, pixels and coloured share of the map.

    `maps` has the logit map (h, w) and the strengths (h, w) of the films in which radiologists drew boxes, by index.
    """

    films: "list[Example]"
    target: np.ndarray
    probability: np.ndarray
    brightness: np.ndarray
    pixels: np.ndarray
    coloured: np.ndarray
    refused: list[str]  # names of films that the gate takes for something else
    unreadable: list[dict[str, str]]
    maps: dict[int, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)

    @property
    def patients(self) -> list[str]:
        """Whose film each is."""
        return [film.patient for film in self.films]

    def count(self) -> dict[str, int]:
        """Count the films by label; OTHER only where there are such films."""
        from pneumo.data.dataset import OTHER

        counts = {label: sum(film.label == label for film in self.films) for label in (*LABELS, OTHER)}
        return {label: n for label, n in counts.items() if n or label in LABELS}


def read_films(predictor: "Predictor", examples: "Sequence[Example]") -> Read:
    """Read every film, also those that the gate would refuse: the folder says that they are chest films."""

    def read(example: "Example") -> tuple | str:
        found = cli_films.read(predictor, example.path, force=True)
        if isinstance(found, str):
            return found
        film, coloured = found.film, float((found.strengths > 0).mean())
        numbers = found.probability, float(film.pixels.mean()), film.width * film.height, coloured, bool(found.refused)
        return numbers, (found.logit_map, found.strengths) if example.boxes else None

    results = list(progress(each(read, examples), "evaluating", len(examples)))
    pairs = [(film, found) for film, found in zip(examples, results, strict=True) if not isinstance(found, str)]
    films = [film for film, _ in pairs]
    columns = np.array([numbers for _, (numbers, _) in pairs], float).reshape(len(pairs), 5).T
    return Read(
        films,
        np.array([film.target for film in films]),
        *columns[:4],
        sorted(click.format_filename(film.path.name) for film, (numbers, _) in pairs if numbers[-1]),
        report_unreadable([example.path for example in examples], results),
        {i: maps for i, (_, (_, maps)) in enumerate(pairs) if maps and maps[0].size > 1},
    )


def measure(predictor: "Predictor", read: Read, operating_point: str) -> dict:
    """Everything that is measured at this operating point, at the others, and on groups of films; ready for JSON."""
    from pneumo.evaluation.metrics import evaluate, measure_point, measure_triage
    from pneumo.evaluation.subgroups import measure_strata, measure_subgroups

    card, threshold = predictor.card, predictor.card.thresholds[operating_point]
    target, probability, patients = read.target, read.probability, read.patients
    kinds = [film.aetiology for film in read.films]
    measured = {"image size": read.pixels, "brightness": read.brightness}
    labels, counts = np.array([film.label for film in read.films]), read.count()
    return evaluate(target, probability, threshold, patients) | {
        "labels": counts,
        "operating_point": operating_point,
        "operating_points": {
            name: {"threshold": value, **measure_point(target, probability, value, patients)}
            for name, value in card.thresholds.items()
        },
        "triage": measure_triage(target, probability, card.rule_out, card.rule_in, threshold, patients),
        "subgroups": measure_subgroups(target, probability, threshold, patients, kinds, measured),
        "strata": measure_strata(read.films, probability, threshold, patients),
        "pointing": _measure_pointing(read),
        "coloured": {label: float(read.coloured[labels == label].mean()) if n else None for label, n in counts.items()}
        if card.has_map
        else None,
        "unreadable": read.unreadable,
        "refused": read.refused,
        "model": card.model,
        "population": card.population,
    }


def _measure_pointing(read: Read) -> dict | None:
    """Where the heat map points in films with radiologists' boxes; None without any."""
    from pneumo.evaluation.pointing import cover, measure_pointing

    if not read.maps:
        return None
    films = [read.films[index] for index in read.maps]
    maps, strengths = map(np.stack, zip(*read.maps.values(), strict=True))
    covered = np.stack([cover(film.boxes, maps.shape[1]) for film in films])
    return measure_pointing(maps, strengths, covered, [film.patient for film in films], [film.view for film in films])


def measure_drops(predictor: "Predictor", read: Read, threshold: float) -> dict | None:
    """What deleting regions of the heat map does to the pneumonias called so; None without any, or without a map."""
    from pneumo.evaluation import faithfulness
    from pneumo.films.film import squash
    from pneumo.films.images import decode

    chosen, card = faithfulness.choose_films(read.target, read.probability >= threshold), predictor.card
    if not chosen or not card.has_map:
        return None

    def test(index: int) -> tuple:
        film = squash(decode(read.films[index].path.read_bytes(), card.size).pixels, card.size)
        return faithfulness.measure_drops(film, predictor.logit_map, seed=index, sharpness=card.sharpness)

    before, after = zip(*progress(each(test, chosen), "deleting regions", len(chosen)), strict=True)
    return faithfulness.summarise_drops(
        before, after, card.slope, card.intercept, [read.patients[index] for index in chosen]
    )
