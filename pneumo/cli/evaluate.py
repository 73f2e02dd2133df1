"""`pneumo evaluate`: how good the served model is on a folder of labelled films."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo import LABELS
from pneumo.cli import films as cli_films
from pneumo.cli.films import (
    FILE,
    FOLDER,
    each,
    model_option,
    point_option,
    population_option,
    progress,
    report_unreadable,
)
from pneumo.cli.labelled import folder_argument, json_option, open_folder, part_of, part_option, show, write_json
from pneumo.errors import UnreadableError

if TYPE_CHECKING:
    import numpy as np

    from pneumo.data.dataset import Example
    from pneumo.model.predictor import Predictor


@dataclass
class Read:
    """The n films that were read, with their target, probability, mean grey, pixels and coloured share of the map."""

    films: "list[Example]"
    target: "np.ndarray"
    probability: "np.ndarray"
    brightness: "np.ndarray"
    pixels: "np.ndarray"
    coloured: "np.ndarray"
    refused: list[str]  # names of films that the gate takes for something else
    unreadable: list[dict[str, str]]

    @property
    def patients(self) -> list[str]:
        """Whose film each is."""
        return [film.patient for film in self.films]


@click.command()
@folder_argument
@json_option
@click.option("--report", type=FOLDER, help="Write figures and report.md into this folder, and test the heat map.")
@part_option
@click.option("--external", is_flag=True, help="DIR is of your own hospital: suggest its operating points as well.")
@click.option("--profile", type=FILE, help="With --external: write them here, for PNEUMO_PROFILE.")
@point_option
@population_option
@model_option
def evaluate(
    folder: Path,
    out: Path | None,
    report: Path | None,
    part: str | None,
    external: bool,
    profile: Path | None,
    operating_point: str | None,
    population: str | None,
    model: str | None,
) -> None:
    """Measure the served model on DIR/NORMAL and DIR/PNEUMONIA, e.g. on data/chest_xray/test."""
    from pneumo.data.dataset import content_hashes
    from pneumo.reports.evaluation_report import write_report

    if (profile and not external) or (part and external):
        raise click.UsageError("Expected --profile with --external, and --external without --part.")
    if report:
        import matplotlib  # noqa: F401  without it, say so before the minutes of reading
    examples, predictor = open_folder(folder, model, population)
    if part:
        examples = part_of(examples, content_hashes(examples), part, predictor.card)
    read = _read(predictor, examples)
    if not read.films:
        raise UnreadableError(f"Expected films in {folder}, could read none of {len(examples)}.")
    result = _measure(predictor, read, predictor.card.operating_point(operating_point))
    if external:
        result |= _suggest(read)
    _print(result, read)
    if report and (tested := _test_map(predictor, read, result["threshold"])):
        result["faithfulness"] = tested
    if profile:
        _write_profile(profile, predictor, read, result)
    if out:
        write_json(out, result)
    if report:
        written = write_report(report, result, read.target, read.probability, *show(predictor, read.films))
        click.echo(f"report: {written}")


def _read(predictor: "Predictor", examples: "Sequence[Example]") -> Read:
    """Read every film, also those that the gate would refuse: the folder says that they are chest films."""
    import numpy as np

    def read(example: "Example") -> tuple | str:
        found = cli_films.read(predictor, example.path, force=True)
        if isinstance(found, str):
            return found
        film, coloured = found.film, float((found.strengths > 0).mean())
        return found.probability, float(film.pixels.mean()), film.width * film.height, coloured, bool(found.refused)

    results = list(progress(each(read, examples), "evaluating", len(examples)))
    pairs = [(film, found) for film, found in zip(examples, results, strict=True) if not isinstance(found, str)]
    films = [film for film, _ in pairs]
    columns = np.array([found for _, found in pairs], float).reshape(len(pairs), 5).T
    return Read(
        films,
        np.array([film.target for film in films]),
        *columns[:4],
        sorted(click.format_filename(film.path.name) for film, found in pairs if found[-1]),
        report_unreadable([example.path for example in examples], results),
    )


def _measure(predictor: "Predictor", read: Read, operating_point: str) -> dict:
    """Everything that is measured at this operating point, at the others, and on groups of films; ready for JSON."""
    from pneumo.evaluation.metrics import evaluate, measure_point, measure_triage
    from pneumo.evaluation.subgroups import measure_subgroups

    card, threshold = predictor.card, predictor.card.thresholds[operating_point]
    target, probability, patients = read.target, read.probability, read.patients
    kinds = [film.aetiology for film in read.films]
    measured = {"image size": read.pixels, "brightness": read.brightness}
    by_label = {label: read.coloured[read.target == number] for number, label in enumerate(LABELS)}
    return evaluate(target, probability, threshold, patients) | {
        "operating_point": operating_point,
        "operating_points": {
            name: {"threshold": value, **measure_point(target, probability, value, patients)}
            for name, value in card.thresholds.items()
        },
        "triage": measure_triage(target, probability, card.rule_out, card.rule_in, threshold, patients),
        "subgroups": measure_subgroups(target, probability, threshold, patients, kinds, measured),
        "coloured": {label: float(of.mean()) if len(of) else None for label, of in by_label.items()}
        if card.has_map
        else None,
        "unreadable": read.unreadable,
        "refused": read.refused,
        "model": card.model,
        "population": card.population,
    }


def _suggest(read: Read) -> dict:
    """Operating points for the site whose films these are, and what speaks against them."""
    from pneumo.evaluation.thresholds import describe_doubts, suggest_points

    count = _count(read)
    if not all(count.values()):
        raise UnreadableError(f"Expected films of both labels to suggest operating points from, read {count}.")
    suggested = suggest_points(read.target, read.probability, read.patients)
    return {"suggested": suggested, "doubts": describe_doubts(read.target, read.patients)}


def _count(read: Read) -> dict[str, int]:
    return {label: sum(film.label == label for film in read.films) for label in LABELS}


def _write_profile(profile: Path, predictor: "Predictor", read: Read, result: dict) -> None:
    from pneumo.model.profile import write_profile

    count = {"n": len(read.films), **_count(read), "patients": len(set(read.patients))}
    write_profile(profile, predictor.card, result["suggested"], count, result["doubts"])
    click.echo(f"profile: {profile}; PNEUMO_PROFILE={profile} makes server and commands use it")


def _print(result: dict, read: Read) -> None:
    """Tell the evaluation on stdout."""
    from pneumo.model.heatmap import describe_coverage
    from pneumo.reports import tables

    n, triage, counts = result["n"], result["triage"], result["confusion"]
    if read.refused:
        words = "films do not look like chest films to the model; they count here."
        click.echo(f"{len(read.refused)} of {n} {words}", err=True)
    point = f"threshold {result['threshold']:.4f} ({result['operating_point']})"
    click.echo(f"{n} films of {len(set(read.patients))} patients, {point}")
    for name, value, span in tables.tabulate_metrics(result):
        click.echo(f"{name:<17} {value:>9}  {span}")
    click.echo(f"is NORMAL         {counts['tn']:>9} called NORMAL, {counts['fp']} called PNEUMONIA")
    click.echo(f"is PNEUMONIA      {counts['fn']:>9} called NORMAL, {counts['tp']} called PNEUMONIA")
    rule_out, rule_in = triage["rule_out"], triage["rule_in"]
    click.echo(f"\nuncertain from {rule_out:.4f} (rule-out) and below {rule_in:.4f} (rule-in), else settled")
    for name, value, span in tables.tabulate_triage(triage):
        click.echo(f"{name:<20} {value:>9}  {span}")
    if result["coloured"]:
        click.echo(f"\n{describe_coverage(result['coloured'])}")
    for title, points in (("operating point", "operating_points"), ("suggested", "suggested")):
        if points in result:
            click.echo(f"\n{title:<15} {'threshold':<26} {'sensitivity':<26} specificity")
            for name, *cells in tables.tabulate_points(result[points]):
                click.echo(f"{name:<15} " + " ".join(f"{cell:<26}" for cell in cells).rstrip())
    if "doubts" in result:
        click.echo(result["doubts"])
    click.echo(f"\n{'group':<48} {'films':>5}  {'sensitivity':<26} specificity")
    for name, count, *cells in tables.tabulate_subgroups(result["subgroups"]):
        click.echo(f"{name:<48} {count:>5}  " + " ".join(f"{cell:<26}" for cell in cells).rstrip())


def _test_map(predictor: "Predictor", read: Read, threshold: float) -> dict | None:
    """What deleting regions of the heat map does to the pneumonias called so; None without any, or without a map."""
    from pneumo.evaluation.faithfulness import choose_films, measure_drops, summarise_drops
    from pneumo.films.film import squash
    from pneumo.films.images import decode

    chosen, card = choose_films(read.target, read.probability >= threshold), predictor.card
    if not chosen or not card.has_map:
        return None

    def test(index: int) -> tuple:
        film = squash(decode(read.films[index].path.read_bytes(), card.size).pixels, card.size)
        return measure_drops(film, predictor.logit_map, seed=index, sharpness=card.sharpness)

    before, after = zip(*progress(each(test, chosen), "deleting regions", len(chosen)), strict=True)
    return summarise_drops(before, after, card.slope, card.intercept, [read.patients[index] for index in chosen])
