"""`pneumo audit`: what acquisition alone tells of the labels of a folder, and how the model does where it misleads."""

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo.cli import films as cli_films
from pneumo.cli.films import FILE, FOLDER, each, model_option, progress, report_unreadable
from pneumo.errors import PneumoError, UnreadableError

if TYPE_CHECKING:
    import numpy as np

    from pneumo.data.dataset import Example
    from pneumo.model.predictor import Predictor


@click.command()
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("--json", "out", type=FILE, help="Write all numbers here.")
@click.option("--report", type=FOLDER, help="Write figures and report.md into this folder.")
@click.option(
    "--part",
    type=click.Choice(["validation", "internal_test"]),
    help="DIR is Kaggle's train folder: audit this part of it. The nuisance score is still fitted on all of DIR.",
)
@model_option
def audit(folder: Path, out: Path | None, report: Path | None, part: str | None, model: str | None) -> None:
    """Measure what acquisition alone tells of the labels of DIR/NORMAL and DIR/PNEUMONIA, before any lung is read.

    Then how the served model does where acquisition contradicts the label, and with corners and borders masked,
    sharpness and tone equalised, and one spectrum and histogram for all films.
    """
    import numpy as np

    from pneumo.data import dataset
    from pneumo.data.acquisition import FEATURES, GROUPS, SIZE, interventions, most_typical
    from pneumo.evaluation.audit import audit as run_audit
    from pneumo.evaluation.audit import nuisance_score, separation
    from pneumo.films.film import squash
    from pneumo.films.images import decode
    from pneumo.reports import audit_report

    examples = dataset.scan(folder)
    _needed("sklearn", "skimage", *(("matplotlib",) if report else ()))
    hashes = dataset.content_hashes(examples)
    predictor = cli_films.load(model)
    card = predictor.card
    wanted = {e.path for e in (cli_films.part_of(examples, hashes, part, card) if part else examples)}

    results = _measure(examples)
    readable = np.array([not isinstance(result, str) for result in results])
    if not readable.any():
        raise UnreadableError(f"Expected films in {folder}, could read none of {len(examples)}.")
    films, measured, hashes = (
        [x for x, ok in zip(of, readable, strict=True) if ok] for of in (examples, results, hashes)
    )
    target = np.array([film.target for film in films])
    children = dataset.number_patients(films, hashes)
    names = {"all": FEATURES, **GROUPS}
    fitting = progress(names, "fitting trees to acquisition", len(names))
    scores = {name: nuisance_score(measured, target, children, names[name]) for name in fitting}

    part_of = np.array([film.path in wanted for film in films])  # from here on, only of the films that are audited
    films, measured = ([one for one, inside in zip(of, part_of, strict=True) if inside] for of in (films, measured))
    target, children = target[part_of], children[part_of]
    scores = {name: score[part_of] for name, score in scores.items()}
    acquisition = separation(target, scores, children)
    click.echo(acquisition["verdict"])
    unreadable = report_unreadable([example.path for example in examples], results)

    typical = decode(films[most_typical(measured)].path.read_bytes(), card.size).pixels
    changes = interventions(measured, squash(typical, SIZE))
    raw = _read(predictor, films, changes)  # (n, 1 + changes)
    logit, probability = card.slope * raw[:, 0] + card.intercept, np.vectorize(predictor.probability)(raw)
    changed = dict(zip(changes, probability[:, 1:].T, strict=True))
    result = {
        "acquisition": acquisition | {"fitted_on": len(part_of)},
        **run_audit(target, scores["all"], children, logit, probability[:, 0], card.threshold, changed),
        "part": part,
        "unreadable": unreadable,
        "model": card.model,
    }
    for one in filter(None, result["decisive"].values()):
        one["files"] = [click.format_filename(films[i].path.name) for i in one.pop("films")]
    click.echo(f"{result['n']} films of {result['patients']} patients, threshold {card.threshold:.4f}")
    for table in (audit_report.acquisition_table, audit_report.model_table, audit_report.interventions_table):
        click.echo("\n" + "\n".join(audit_report.columns(table(result))))
    click.echo("\n" + "\n".join(audit_report.notes(result)))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    if report:
        written = audit_report.write_audit(
            report,
            result,
            target,
            scores["all"],
            logit,
            [click.format_filename(film.path.name) for film in films],
            lambda i: predictor.predict(films[i].path.read_bytes(), force=True),
            kermany=any(film.aetiology for film in films),  # their file names
        )
        click.echo(f"report: {written}")


def _needed(*packages: str) -> None:
    """Say what is not installed before the minutes of reading, not after."""
    for package in packages:
        importlib.import_module(package)


def _measure(examples: "Sequence[Example]") -> list[dict[str, float] | str]:
    """The nuisances of every film, or the reason why it cannot be read."""
    from pneumo.data.acquisition import features

    def one(example: "Example") -> dict[str, float] | str:
        try:
            return features(example.path.read_bytes())
        except PneumoError as error:
            return str(error)
        except OSError as error:
            return f"{error.strerror}."

    return list(progress(each(one, examples), "measuring", len(examples)))


def _read(
    predictor: "Predictor", films: "Sequence[Example]", changes: "Mapping[str, Callable[[np.ndarray], np.ndarray]]"
) -> "np.ndarray":
    """The network's logits of each film as it is, then under each of `changes`: (n, 1 + changes) float64."""
    import numpy as np

    from pneumo.data.acquisition import SIZE
    from pneumo.films.film import squash
    from pneumo.films.images import decode

    def one(film: "Example") -> list[float]:
        pixels = decode(film.path.read_bytes(), predictor.card.size).pixels
        square = squash(pixels, SIZE)
        return [float(predictor.logit_map(p).mean()) for p in (pixels, *(c(square) for c in changes.values()))]

    return np.array(list(progress(each(one, films), "reading", len(films))))
