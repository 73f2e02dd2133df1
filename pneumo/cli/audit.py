"""`pneumo audit`: what acquisition alone tells of the labels of a folder, and how the model does where it misleads."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo.cli import films as cli_films
from pneumo.cli.films import FOLDER, each, model_option, population_option, progress, report_unreadable
from pneumo.cli.labelled import folder_argument, json_option, part_of, part_option, show, write_json
from pneumo.cli.populations import list_films, sort_films
from pneumo.errors import PneumoError, UnreadableError

if TYPE_CHECKING:
    import numpy as np

    from pneumo.data.dataset import Example
    from pneumo.model.predictor import Predictor


@dataclass
class Audited:
    """The films that are audited: n examples, their acquisition numbers, target and patient, and acquisition scores."""

    films: "list[Example]"
    measured: list[dict[str, float]]
    target: "np.ndarray"
    patients: "np.ndarray"
    scores: "dict[str, np.ndarray]"


@click.command()
@folder_argument
@json_option
@click.option("--report", type=FOLDER, help="Write figures and report.md into this folder.")
@part_option
@population_option
@model_option
def audit(
    folder: Path, out: Path | None, report: Path | None, part: str | None, population: str | None, model: str | None
) -> None:
    """Measure how well acquisition alone tells the labels of DIR/NORMAL and DIR/PNEUMONIA apart.

    Then how the served model does where acquisition contradicts the label, and with corners and borders masked,
    sharpness and tone equalised, and one spectrum and histogram for all films. With --part, acquisition is still
    learned from all of DIR.

    Films in DIR/OTHER count as NORMAL. Where DIR/labels.csv tells the view and who labelled a film, that counts as
    acquisition, too; where it tells ages, the films of the population that has most are audited.
    """
    from pneumo.data.dataset import content_hashes
    from pneumo.evaluation.audit import audit as run_audit
    from pneumo.evaluation.audit import measure_separation
    from pneumo.reports.evaluation_report import write_audit

    _check_installed("sklearn", "skimage", *(("matplotlib",) if report else ()))
    examples, predictor = list_films(folder), cli_films.load(model)
    examples, card = _choose(predictor, population, examples), predictor.card
    hashes = content_hashes(examples)
    wanted = {e.path for e in (part_of(examples, hashes, part, card) if part else examples)}
    results = _measure(examples)
    if all(isinstance(result, str) for result in results):
        raise UnreadableError(f"Expected films in {folder}, could read none of {len(examples)}.")
    found, fitted = _score(examples, hashes, results, wanted)
    acquisition = measure_separation(found.target, found.scores, found.patients)
    click.echo(acquisition["verdict"])
    unreadable = report_unreadable([example.path for example in examples], results)

    logit, probability, changed = _read(predictor, found)
    score = found.scores["all"]
    result = {
        "acquisition": acquisition | {"fitted_on": fitted},
        **run_audit(found.target, score, found.patients, logit, probability, card.threshold, changed),
        "part": part,
        "population": card.population,
        "unreadable": unreadable,
        "model": card.model,
    }
    names, predict = show(predictor, found.films)
    for one in filter(None, result["decisive"].values()):
        one["files"] = [names[i] for i in one.pop("films")]
    _print(result)
    if out:
        write_json(out, result)
    if report:
        kermany = any(film.aetiology for film in found.films)  # their file names
        written = write_audit(report, result, found.target, score, logit, names, predict, kermany)
        click.echo(f"report: {written}")


def _choose(predictor: "Predictor", population: str | None, examples: "list[Example]") -> "list[Example]":
    """Take the films of the population that has most, and have the model read all of them by its numbers."""
    groups = sort_films(predictor, population, examples)
    name = max(groups, key=lambda one: len(groups[one]))
    predictor.card = predictor.card.only(name)
    if len(groups) > 1:
        click.echo(f"Audited are the {len(groups[name])} films of {name}.", err=True)
    return groups[name]


def _check_installed(*packages: str) -> None:
    """Fail for a missing package before the minutes of reading, not after."""
    for package in packages:
        importlib.import_module(package)


def _measure(examples: "Sequence[Example]") -> list[dict[str, float] | str]:
    """The acquisition numbers of every film, or the reason why it cannot be read."""
    from pneumo.data.acquisition import measure_acquisition

    def measure(example: "Example") -> dict[str, float] | str:
        try:
            return measure_acquisition(example.path.read_bytes())
        except PneumoError as error:
            return str(error)
        except OSError as error:
            return f"{error.strerror}."

    return list(progress(each(measure, examples), "measuring", len(examples)))


def _score(
    examples: "Sequence[Example]", hashes: Sequence[str], results: Sequence[dict[str, float] | str], wanted: set[Path]
) -> tuple[Audited, int]:
    """Fit acquisition scores on every readable film; the `wanted` ones with their scores, and how many were fitted."""
    import numpy as np

    from pneumo.data import dataset
    from pneumo.data.acquisition import FEATURES, GROUPS
    from pneumo.evaluation.matching import TOLD, describe_told, score_acquisition

    readable = [i for i, result in enumerate(results) if not isinstance(result, str)]
    films = [examples[i] for i in readable]
    told = describe_told(films)
    measured = [results[i] | more for i, more in zip(readable, told, strict=True)]
    target = np.array([film.target for film in films])
    patients = dataset.number_patients(films, [hashes[i] for i in readable])
    groups = GROUPS | {group: of for group, of in TOLD.items() if of.keys() <= told[0].keys()}
    names = {"all": (*FEATURES, *told[0]), **groups}
    fitting = progress(names, "fitting trees to acquisition", len(names))
    scores = {name: score_acquisition(measured, target, patients, names[name]) for name in fitting}
    inside = np.flatnonzero([film.path in wanted for film in films])
    return Audited(
        [films[i] for i in inside],
        [measured[i] for i in inside],
        target[inside],
        patients[inside],
        {name: score[inside] for name, score in scores.items()},
    ), len(films)


def _read(predictor: "Predictor", found: Audited) -> "tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]":
    """Calibrated logits and probabilities of the films, (n,) each, and their probabilities under each intervention."""
    import numpy as np

    from pneumo.data.acquisition import SIZE
    from pneumo.data.changes import find_most_typical, list_changes
    from pneumo.films.film import squash
    from pneumo.films.images import decode

    card = predictor.card
    typical = decode(found.films[find_most_typical(found.measured)].path.read_bytes(), card.size).pixels
    changes: Mapping[str, Callable] = list_changes(found.measured, squash(typical, SIZE))

    def read(film: "Example") -> list[float]:
        pixels = decode(film.path.read_bytes(), card.size).pixels
        square = squash(pixels, SIZE)
        return [predictor.logit(p) for p in (pixels, *(c(square) for c in changes.values()))]

    raw = np.array(list(progress(each(read, found.films), "reading", len(found.films))))  # (n, 1 + changes)
    probability = np.vectorize(predictor.probability)(raw)
    changed = dict(zip(changes, probability[:, 1:].T, strict=True))
    return card.slope * raw[:, 0] + card.intercept, probability[:, 0], changed


def _print(result: dict) -> None:
    """Tell the audit on stdout."""
    from pneumo.reports import tables

    click.echo(f"{result['n']} films of {result['patients']} patients, threshold {result['threshold']:.4f}")
    for tabulate in (tables.tabulate_acquisition, tables.tabulate_model, tables.tabulate_interventions):
        click.echo("\n" + "\n".join(tables.align(tabulate(result))))
    click.echo("\n" + "\n".join(tables.explain_audit(result)))
