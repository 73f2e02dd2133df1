"""`pneumo evaluate`: how good the served model is on a folder of labelled films."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo import LABELS
from pneumo.cli import films as cli_films
from pneumo.cli.films import FILE, FOLDER, model_option, point_option, population_option
from pneumo.cli.labelled import folder_argument, json_option, part_of, part_option, show, write_json
from pneumo.cli.populations import list_films, sort_films
from pneumo.errors import UnreadableError

if TYPE_CHECKING:
    from pneumo.cli.measuring import Read
    from pneumo.data.dataset import Example
    from pneumo.model.predictor import Predictor


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
    """Measure the served model on DIR/NORMAL and DIR/PNEUMONIA, e.g. on data/chest_xray/test.

    Films in DIR/OTHER count as not pneumonia. DIR/labels.csv may tell of each film the patient, the age, the view, and
    who read it: then each population is measured by itself, by view and by who read the films.
    """
    from pneumo.data.dataset import content_hashes

    if (profile and not external) or (part and external):
        raise click.UsageError("Expected --profile with --external, and --external without --part.")
    if report:
        import matplotlib  # noqa: F401  without it, say so before the minutes of reading
    examples = list_films(folder)
    predictor = cli_films.load(model)
    if part:
        examples = part_of(examples, content_hashes(examples), part, predictor.card)
    groups, card, results = sort_films(predictor, population, examples), predictor.card, {}
    if profile and len(groups) > 1:
        raise click.UsageError(f"Expected --population with --profile: DIR has films of {' and '.join(groups)}.")
    for name, films in groups.items():
        predictor.card = card.only(name)
        if len(groups) > 1:
            click.echo(f"{name}: ", nl=False)
        of_it = report / name if report and len(groups) > 1 else report
        results[name] = _evaluate(predictor, films, operating_point, external, profile, of_it)
    result = results if len(results) > 1 else results.popitem()[1]
    if out:
        write_json(out, result)


def _evaluate(
    predictor: "Predictor",
    examples: "list[Example]",
    operating_point: str | None,
    external: bool,
    profile: Path | None,
    report: Path | None,
) -> dict:
    """Read the films of one population, tell the figures, write profile and report; ready for JSON.

    Raises:
        UnreadableError: no film can be read.
    """
    from pneumo.cli.measuring import measure, measure_drops, read_films

    read = read_films(predictor, examples)
    if not read.films:
        raise UnreadableError(f"Expected films, could read none of {len(examples)}.")
    result = measure(predictor, read, predictor.card.operating_point(operating_point))
    if external:
        result |= _suggest(read)
    _print(result, read)
    if report and (tested := measure_drops(predictor, read, result["threshold"])):
        result["faithfulness"] = tested
    if profile:
        _write_profile(profile, predictor, read, result)
    if report:
        from pneumo.reports.evaluation_report import write_report

        written = write_report(report, result, read.target, read.probability, *show(predictor, read.films))
        click.echo(f"report: {written}")
    return result


def _suggest(read: "Read") -> dict:
    """Operating points for the site whose films these are, and what speaks against them."""
    from pneumo.evaluation.thresholds import describe_doubts, suggest_points

    count = read.count()
    if not all(count.values()):
        raise UnreadableError(f"Expected films of both labels to suggest operating points from, read {count}.")
    suggested = suggest_points(read.target, read.probability, read.patients)
    return {"suggested": suggested, "doubts": describe_doubts(read.target, read.patients)}


def _write_profile(profile: Path, predictor: "Predictor", read: "Read", result: dict) -> None:
    from pneumo.model.profile import write_profile

    count = {"n": len(read.films), **read.count(), "patients": len(set(read.patients))}
    write_profile(profile, predictor.card, result["suggested"], count, result["doubts"])
    click.echo(f"profile: {profile}; PNEUMO_PROFILE={profile} makes server and commands use it")


def _print(result: dict, read: "Read") -> None:
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
    well = " or ".join(label for label in result["labels"] if label != LABELS[1])
    click.echo(f"is {well:<14} {counts['tn']:>9} called NORMAL, {counts['fp']} called PNEUMONIA")
    click.echo(f"is PNEUMONIA      {counts['fn']:>9} called NORMAL, {counts['tp']} called PNEUMONIA")
    rule_out, rule_in = triage["rule_out"], triage["rule_in"]
    click.echo(f"\nuncertain from {rule_out:.4f} (rule-out) and below {rule_in:.4f} (rule-in), else settled")
    for name, value, span in tables.tabulate_triage(triage):
        click.echo(f"{name:<20} {value:>9}  {span}")
    if result["coloured"]:
        click.echo(f"\n{describe_coverage(result['coloured'])}")
    if len(result["strata"]) > 1:
        heads = ("by view and label", "films", "PNEUMONIA", "AUC", "AUC, NORMAL alone", "sensitivity", "specificity")
        click.echo("\n" + "\n".join(tables.align([heads, *tables.tabulate_strata(result["strata"])])))
    if result["pointing"]:
        heads = ("heat map", "films", "strongest in a box", "chance", "colour in boxes", "area of boxes")
        click.echo("\n" + "\n".join(tables.align([heads, *tables.tabulate_pointing(result["pointing"])])))
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
