"""`pneumo evaluate`: how good the served model is on a folder of labelled films."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

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
from pneumo.cli.populations import settle
from pneumo.errors import UnreadableError

if TYPE_CHECKING:
    from pneumo.data.dataset import Example
    from pneumo.model.predictor import Predictor


@click.command()
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("--json", "out", type=FILE, help="Write all numbers here.")
@click.option("--report", type=FOLDER, help="Write figures and report.md into this folder, and test the heat map.")
@click.option(
    "--part",
    type=click.Choice(["validation", "internal_test"]),
    help="DIR is Kaggle's train folder: take this part of the split by patient that the model was made with.",
)
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
    from pneumo.data import dataset
    from pneumo.evaluation import metrics as evaluation
    from pneumo.evaluation import thresholds as operating
    from pneumo.evaluation.subgroups import subgroups
    from pneumo.model import heatmap
    from pneumo.model.profile import write_profile
    from pneumo.reports.report import points_table, subgroups_table, table, triage_table, write_report

    if (profile and not external) or (part and external):
        raise click.UsageError("Expected --profile with --external, and --external without --part.")
    if report:
        import matplotlib  # noqa: F401  without it, say so before the minutes of reading
    examples = dataset.scan(folder)
    predictor = cli_films.load(model)
    settle(predictor, population, [example.path for example in examples])
    if part:
        examples = cli_films.part_of(examples, dataset.content_hashes(examples), part, predictor.card)

    refused = []

    def measured(example: dataset.Example) -> tuple[float, float, int, float] | str:
        result = cli_films.read(predictor, example.path, force=True)  # DIR says that they are films: all of them count
        if isinstance(result, str):
            return result
        if result.refused:
            refused.append(click.format_filename(example.path.name))
        film = result.film
        coloured = float((result.strengths > 0).mean())
        return result.probability, float(film.pixels.mean()), film.width * film.height, coloured

    results = list(progress(each(measured, examples), "evaluating", len(examples)))
    read = [(example, *found) for example, found in zip(examples, results, strict=True) if not isinstance(found, str)]
    unreadable = report_unreadable([example.path for example in examples], results)
    if not read:
        raise UnreadableError(f"Expected films in {folder}, could read none of {len(examples)}.")
    films, probability, brightness, pixels, coloured = zip(*read, strict=True)
    target, patients, aetiologies = zip(*((e.target, e.patient, e.aetiology) for e in films), strict=True)
    card = predictor.card
    operating_point = card.operating_point(operating_point)
    threshold = card.thresholds[operating_point]
    result = evaluation.evaluate(target, probability, threshold, patients) | {
        "operating_point": operating_point,
        "operating_points": {
            name: {"threshold": value, **operating.worth(target, probability, value, patients)}
            for name, value in card.thresholds.items()
        },
        "triage": operating.triage(target, probability, card.rule_out, card.rule_in, threshold, patients),
        "subgroups": subgroups(
            target, probability, threshold, patients, aetiologies, {"image size": pixels, "brightness": brightness}
        ),
        "coloured": _by_label(films, coloured) if predictor.card.has_map else None,
        "unreadable": unreadable,
        "refused": sorted(refused),
        "model": card.model,
        "population": card.population,
    }
    if refused:
        click.echo(
            f"{len(refused)} of {len(films)} films do not look like chest films to the model; they count here.",
            err=True,
        )
    if external:
        labels = {label: sum(film.label == label for film in films) for label in dataset.LABELS}
        if not all(labels.values()):
            raise UnreadableError(f"Expected films of both labels to suggest operating points from, read {labels}.")
        result["suggested"] = operating.suggest(target, probability, patients)
        result["doubts"] = operating.doubts(target, patients)
    click.echo(f"{len(films)} films of {len(set(patients))} patients, threshold {threshold:.4f} ({operating_point})")
    for name, value, span in table(result):
        click.echo(f"{name:<17} {value:>9}  {span}")
    counts = result["confusion"]
    click.echo(f"is NORMAL         {counts['tn']:>9} called NORMAL, {counts['fp']} called PNEUMONIA")
    click.echo(f"is PNEUMONIA      {counts['fn']:>9} called NORMAL, {counts['tp']} called PNEUMONIA")
    click.echo(f"\nuncertain from {card.rule_out:.4f} (rule-out) and below {card.rule_in:.4f} (rule-in), else settled")
    for name, value, span in triage_table(result["triage"]):
        click.echo(f"{name:<20} {value:>9}  {span}")
    if result["coloured"]:
        click.echo(f"\n{heatmap.describe_coverage(result['coloured'])}")
    for title, points in (("operating point", "operating_points"), ("suggested", "suggested")):
        if points in result:
            click.echo(f"\n{title:<15} {'threshold':<26} {'sensitivity':<26} specificity")
            for name, *cells in points_table(result[points]):
                click.echo(f"{name:<15} " + " ".join(f"{cell:<26}" for cell in cells).rstrip())
    if external:
        click.echo(result["doubts"])
    click.echo(f"\n{'group':<48} {'films':>5}  {'sensitivity':<26} specificity")
    for name, n, *cells in subgroups_table(result["subgroups"]):
        click.echo(f"{name:<48} {n:>5}  " + " ".join(f"{cell:<26}" for cell in cells).rstrip())
    if report and (tested := _faithfulness(predictor, films, target, probability, threshold)):
        result["faithfulness"] = tested
    if profile:
        count = {"n": len(films), **labels, "patients": len(set(patients))}
        write_profile(profile, card, result["suggested"], count, result["doubts"])
        click.echo(f"profile: {profile}; PNEUMO_PROFILE={profile} makes server and commands use it")
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    if report:
        names = [click.format_filename(film.path.name) for film in films]
        written = write_report(
            report,
            result,
            target,
            probability,
            names,
            lambda i: predictor.predict(films[i].path.read_bytes(), force=True),
        )
        click.echo(f"report: {written}")


def _by_label(films: "Sequence[Example]", values: Sequence[float]) -> dict[str, float | None]:
    """Mean of the values of each label's films; None without films."""
    from pneumo import LABELS

    of = {label: [v for film, v in zip(films, values, strict=True) if film.label == label] for label in LABELS}
    return {label: sum(found) / len(found) if found else None for label, found in of.items()}


def _faithfulness(
    predictor: "Predictor", films: "Sequence[Example]", target: Sequence, probability: Sequence, threshold: float
) -> dict | None:
    """What deleting the regions of the heat map does to the pneumonias called so; None without any or a map."""
    import numpy as np

    from pneumo.evaluation.faithfulness import choose, deletions, faithfulness
    from pneumo.films.film import squash
    from pneumo.films.images import decode

    chosen = choose(target, np.asarray(probability) >= threshold)
    card = predictor.card
    if not chosen or not card.has_map:
        return None

    def tested(index: int) -> tuple:
        film = squash(decode(films[index].path.read_bytes(), card.size).pixels, card.size)
        return deletions(film, predictor.logit_map, seed=index, sharpness=card.sharpness)

    before, after = zip(*progress(each(tested, chosen), "deleting regions", len(chosen)), strict=True)
    patients = [films[index].patient for index in chosen]
    return faithfulness(before, after, card.slope, card.intercept, patients)
