"""`pneumo calibrate`: fit the served model to a site by the site's own labelled films, and write the site's profile."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo import LABELS
from pneumo.cli import films as cli_films
from pneumo.cli.films import FILE, FOLDER, each, model_option, population_option, progress, report_unreadable
from pneumo.cli.populations import list_films, sort_films
from pneumo.errors import PneumoError

if TYPE_CHECKING:
    import numpy as np

    from pneumo.data.dataset import Example
    from pneumo.model.card import Card
    from pneumo.model.predictor import Predictor


@click.command()
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("--profile", type=FILE, required=True, help="Write the profile here, for PNEUMO_PROFILE.")
@click.option(
    "--prevalence",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="For the table: the share of films with pneumonia where the model is to be used. [default: as in DIR]",
)
@population_option
@model_option
def calibrate(folder: Path, profile: Path, prevalence: float | None, population: str | None, model: str | None) -> None:
    """Fit calibration and thresholds to the site's own films in DIR/NORMAL and DIR/PNEUMONIA, 20 or more of each.

    Beside the profile, NAME.thresholds.csv says of every threshold what it finds, what that promises and what it
    yields of 1,000 films. Films that the gate takes for something else than a frontal chest film are left out.
    """
    import numpy as np

    from pneumo.evaluation import site
    from pneumo.model.profile import write_profile

    examples, predictor = list_films(folder), cli_films.load(model)
    groups = sort_films(predictor, population, examples)
    if len(groups) > 1:
        raise click.UsageError(f"Expected --population: DIR has films of {' and '.join(groups)}.")
    ((name, examples),) = groups.items()
    predictor.card = predictor.card.only(name)
    films, logit, features = _read(predictor, examples)
    count = {label: sum(film.label == label for film in films) for label in LABELS}
    target, patients = np.array([film.target for film in films], int), [film.patient for film in films]
    calibration = site.calibrate_site(target, logit, patients)
    probability = site.apply_calibration(logit, calibration)
    points = site.choose_site_points(target, probability, patients)
    note = site.describe_site(points, count)
    of = {"n": len(films), **count, "patients": len(set(patients))}
    click.echo(
        f"{of['n']} films of {of['patients']} patients: {', '.join(f'{n} {label}' for label, n in count.items())}"
    )
    card = _fit_card(predictor, calibration, features)
    _print(predictor.card, target, logit, calibration, points)
    click.echo(note)
    write_profile(profile, card, points, of, note)
    thresholds = np.union1d(site.list_thresholds(probability), [point["threshold"] for point in points.values()])
    _write_table(profile, site.measure_thresholds(target, probability, patients, thresholds, prevalence))
    click.echo(f"profile: {profile}; PNEUMO_PROFILE={profile} makes server and commands use it")


def _read(predictor: "Predictor", examples: "Sequence[Example]") -> "tuple[list[Example], np.ndarray, np.ndarray]":
    """Read the films that the gate takes for frontal ones: they, their logits (n,) and their features (n, d).

    A film that is only far from the training films counts: that is what a site's films may be.
    """
    import numpy as np

    from pneumo.films.images import decode
    from pneumo.model.heatmap import pool

    card, gate = predictor.card, predictor.gate

    def read(film: "Example") -> "tuple[float, np.ndarray] | str":
        try:
            logit_map, features, _ = predictor.look(decode(film.path.read_bytes(), card.size).pixels)
        except PneumoError as error:
            return str(error)
        except OSError as error:
            return f"{error.strerror}."
        verdict = gate.judge(features)
        if verdict.frontal < gate.least_frontal:
            return f"Left out: expected a frontal chest film, received {verdict.reason}."
        return float(pool(logit_map, card.sharpness)), features

    results = list(progress(each(read, examples), "reading", len(examples)))
    report_unreadable([film.path for film in examples], results)
    kept = [(film, found) for film, found in zip(examples, results, strict=True) if not isinstance(found, str)]
    return (
        [film for film, _ in kept],
        np.array([logit for _, (logit, _) in kept], float),
        np.array([features for _, (_, features) in kept], np.float32),
    )


def _fit_card(predictor: "Predictor", calibration: dict, features: "np.ndarray") -> "Card":
    """Return the card with the site's calibration and centre, and say how many of its films are unlike the others."""
    import numpy as np

    card, gate = predictor.card, predictor.gate
    site, distance = gate.find_site(features)
    unlike = np.array([not gate.judge(one).familiar for one in features])
    left = unlike & (distance > gate.sure_distance)
    click.echo(
        f"{unlike.sum()} of them are unlike the films that the model learned from, {left.sum()} unlike these, too"
    )
    numbers = {name: calibration[name] for name in ("slope", "intercept")}
    own = replace(card.populations[card.population], site=site, **numbers)
    return replace(card, populations={**card.populations, card.population: own})


def _print(card: "Card", target: "np.ndarray", logit: "np.ndarray", calibration: dict, points: dict) -> None:
    """Tell the calibration, what it gains, and the operating points."""
    import numpy as np

    from pneumo.evaluation.site import apply_calibration
    from pneumo.reports.tables import tabulate_points

    before = np.mean((apply_calibration(logit, {"slope": card.slope, "intercept": card.intercept}) - target) ** 2)
    after = calibration["brier"]
    click.echo(
        f"slope {calibration['slope']:.4f}, intercept {calibration['intercept']:.4f}; Brier score "
        f"{before:.4f} with the model's own, "
        + (
            "too few patients to measure it"
            if after is None
            else f"{after:.4f} with these, on films left out of the fit"
        )
    )
    click.echo(f"\n{'operating point':<15} {'threshold':<9} {'sensitivity':<26} specificity")
    for name, threshold, *cells in tabulate_points(points):
        click.echo(f"{name:<15} {threshold:<9} " + " ".join(f"{cell:<26}" for cell in cells).rstrip())


def _write_table(profile: Path, rows: list[dict]) -> None:
    """Write all thresholds as NAME.thresholds.csv beside the profile, shares with 4 decimals and yields with 1."""
    from pneumo.files import write_whole

    def show(name: str, value: float | None) -> str:
        return "" if value is None else f"{value:.1f}" if name.endswith("tives") else f"{value:.4f}"

    table, path = io.StringIO(newline=""), profile.with_suffix(".thresholds.csv")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows([show(name, value) for name, value in row.items()] for row in rows)
    with write_whole(path) as stream:
        stream.write(table.getvalue().encode())
    click.echo(f"thresholds: {path} has all {len(rows)} of them")
