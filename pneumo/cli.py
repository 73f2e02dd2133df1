"""`pneumo predict | evaluate | serve`; `audit`, `data` and what trains join from `cli_audit`, `_data`, `_training`.

Nothing is imported before a command needs it. What a person can act on becomes one sentence on stderr and exit code 2.
"""

import csv
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo import __version__
from pneumo.card import POINTS
from pneumo.cli_audit import audit
from pneumo.cli_data import data, progress, report_unreadable
from pneumo.cli_training import COMMANDS
from pneumo.errors import PneumoError, UnreadableError

if TYPE_CHECKING:
    from pneumo.dataset import Example
    from pneumo.predictor import Prediction, Predictor

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = ("file", "label", "probability", "threshold", "warnings", "error", "triage")
HEATMAP_SUFFIX = ".heatmap.png"
FILE, FOLDER = click.Path(dir_okay=False, path_type=Path), click.Path(file_okay=False, path_type=Path)
model_option = click.option("--model", metavar="NAME", help="Model of models/, or path of a card; else PNEUMO_MODEL's.")
point_option = click.option(
    "--operating-point", type=click.Choice(POINTS), help="Whose threshold makes the label; else the model's default."
)


class Group(click.Group):
    """A group that says expected errors in one sentence."""

    def invoke(self, ctx: click.Context) -> object:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except PneumoError as error:
            message = str(error)
        except (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
            message = f"{error.strerror}: {error.filename}" if error.strerror else str(error)
        except ModuleNotFoundError as error:
            message = f"This needs the Python package {error.name}: install requirements.txt (`make setup`)."
        refusal = click.ClickException(message)
        refusal.exit_code = 2
        raise refusal


@click.group(cls=Group)
@click.version_option(__version__, prog_name="pneumo")
def main() -> None:
    """Read chest X-rays of children for pneumonia. Not a medical device."""


@main.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE_OR_DIR...")
@click.option("--csv", "out", type=FILE, help="Write a row a film here, instead of a table to stdout.")
@click.option("--heatmaps", type=FOLDER, help="Write each film with its overlay here, as NAME.heatmap.png.")
@click.option("--force", is_flag=True, help="Read pictures that do not look like chest films all the same.")
@point_option
@model_option
def predict(
    paths: tuple[Path, ...],
    out: Path | None,
    heatmaps: Path | None,
    force: bool,
    operating_point: str | None,
    model: str | None,
) -> None:
    """Read films; folders are searched for pictures. A file that cannot be read is a row with the reason."""
    from pneumo.dataset import bare_name

    films = list(_pictures(paths))
    predictor = _predictor(model)
    for folder in filter(None, (heatmaps, out and out.parent)):
        folder.mkdir(parents=True, exist_ok=True)
    taken, read = set(), 0
    with open(out or os.devnull, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        if not out:
            click.echo("label      probability  triage     file")
        for film in progress(films, "reading", len(films), hidden=not out and sys.stdout.isatty()):
            name, result = click.format_filename(film), _read(predictor, film, operating_point, force)
            if isinstance(result, str):
                row, words = (name, "", "", "", "", result, ""), f"{'-':<10} {'-':>11}  {'-':<9}  {name}: {result}"
            else:
                read += 1
                notes = " ".join(result.warnings)
                row = (name, result.label, result.probability, result.threshold, notes, "", result.triage)
                words = f"{result.label:<10} {result.probability:>11.4f}  {result.triage:<9}  {name}"
                words += f" ({notes})" if notes else ""
                if heatmaps:
                    _write_heatmap(result, heatmaps, bare_name(film), taken)
            writer.writerow([_guarded(cell) for cell in row])
            stream.flush()
            if not out:
                click.echo(words)
    click.echo(f"{read} of {len(films)} read by {predictor.card.name} {predictor.card.version}.", err=True)
    raise SystemExit(0 if read else 1)


@main.command()
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
@model_option
def evaluate(
    folder: Path,
    out: Path | None,
    report: Path | None,
    part: str | None,
    external: bool,
    profile: Path | None,
    operating_point: str | None,
    model: str | None,
) -> None:
    """Measure the served model on DIR/NORMAL and DIR/PNEUMONIA, e.g. on data/chest_xray/test."""
    from concurrent.futures import ThreadPoolExecutor

    from pneumo import dataset, evaluation, operating
    from pneumo.profile import write_profile
    from pneumo.report import points_table, subgroups_table, table, triage_table, write_report
    from pneumo.subgroups import subgroups

    if (profile and not external) or (part and external):
        raise click.UsageError("Expected --profile with --external, and --external without --part.")
    if report:
        import matplotlib  # noqa: F401  without it, say so before the minutes of reading
    examples = dataset.scan(folder)
    if part:
        examples = dataset.split(examples, dataset.content_hashes(examples))[part]
    predictor = _predictor(model)

    refused = []

    def measured(example: dataset.Example) -> tuple[float, float, int] | str:
        result = _read(predictor, example.path, force=True)  # DIR says that they are films: all of them count
        if isinstance(result, str):
            return result
        if result.refused:
            refused.append(example.path.name)
        return result.probability, float(result.film.pixels.mean()), result.film.width * result.film.height

    with ThreadPoolExecutor(2) as pool:  # one film is decoded while the other is in the network
        results = list(progress(pool.map(measured, examples), "evaluating", len(examples)))
    read = [(example, *found) for example, found in zip(examples, results, strict=True) if not isinstance(found, str)]
    unreadable = report_unreadable([example.path for example in examples], results)
    if not read:
        raise UnreadableError(f"Expected films in {folder}, could read none of {len(examples)}.")
    films, probability, brightness, pixels = zip(*read, strict=True)
    target, patients, aetiologies = zip(*((e.target, e.patient, e.aetiology) for e in films), strict=True)
    card = predictor.card
    operating_point = card.operating_point(operating_point)
    threshold = card.thresholds[operating_point]
    result = evaluation.evaluate(target, probability, threshold, patients, aetiologies) | {
        "operating_point": operating_point,
        "operating_points": {
            name: {"threshold": value, **operating.worth(target, probability, value, patients)}
            for name, value in card.thresholds.items()
        },
        "triage": operating.triage(target, probability, card.rule_out, card.rule_in, threshold, patients),
        "subgroups": subgroups(
            target, probability, threshold, patients, aetiologies, {"image size": pixels, "brightness": brightness}
        ),
        "unreadable": unreadable,
        "refused": sorted(refused),
        "model": card.model,
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
    click.echo(f"{len(films)} films of {len(set(patients))} patients, threshold {threshold:.4f} ({operating_point})")
    for name, value, span in table(result):
        click.echo(f"{name:<17} {value:>9}  {span}")
    counts = result["confusion"]
    click.echo(f"is NORMAL         {counts['tn']:>9} called NORMAL, {counts['fp']} called PNEUMONIA")
    click.echo(f"is PNEUMONIA      {counts['fn']:>9} called NORMAL, {counts['tp']} called PNEUMONIA")
    click.echo(f"\nuncertain from {card.rule_out:.4f} (rule-out) and below {card.rule_in:.4f} (rule-in), else settled")
    for name, value, span in triage_table(result["triage"]):
        click.echo(f"{name:<20} {value:>9}  {span}")
    for title, points in (("operating point", "operating_points"), ("suggested", "suggested")):
        if points in result:
            click.echo(f"\n{title:<15} {'threshold':<26} {'sensitivity':<26} specificity")
            for name, *cells in points_table(result[points]):
                click.echo(f"{name:<15} " + " ".join(f"{cell:<26}" for cell in cells).rstrip())
    click.echo(f"\n{'group':<48} {'films':>5}  {'sensitivity':<26} specificity")
    for name, n, *cells in subgroups_table(result["subgroups"]):
        click.echo(f"{name:<48} {n:>5}  " + " ".join(f"{cell:<26}" for cell in cells).rstrip())
    if report and (tested := _faithfulness(predictor, films, target, probability, threshold)):
        result["faithfulness"] = tested
    if profile:
        write_profile(profile, card, result["suggested"], {"n": len(films), **labels, "patients": len(set(patients))})
        click.echo(f"profile: {profile}; PNEUMO_PROFILE={profile} makes server and commands use it")
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    if report:
        names = [film.path.name for film in films]
        written = write_report(
            report,
            result,
            target,
            probability,
            names,
            lambda i: predictor.predict(films[i].path.read_bytes(), force=True),
        )
        click.echo(f"report: {written}")


@main.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Else PORT, else 5000.")
def serve(port: int | None) -> None:
    """Serve the page and the JSON endpoint with gunicorn."""
    if not (ROOT / "gunicorn.conf.py").is_file():
        raise FileNotFoundError(f"Expected gunicorn.conf.py in {ROOT}, found none: serve from a checkout.")
    os.chdir(ROOT)  # where gunicorn finds its configuration and the app
    os.environ |= {"PORT": str(port)} if port else {}
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn"])


for command in (audit, data, *COMMANDS):
    main.add_command(command)


def _predictor(model: str | None) -> "Predictor":
    """The model of that name, with as many threads as this process may use."""
    from pneumo.card import card_path, read_card
    from pneumo.predictor import Predictor
    from pneumo.profile import of_site

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Predictor(of_site(read_card(card_path(model))), threads=cores)


def _read(
    predictor: "Predictor", film: Path, operating_point: str | None = None, force: bool = False
) -> "Prediction | str":
    """An opinion, or the reason why there is none."""
    try:
        return predictor.predict(film.read_bytes(), operating_point, force)
    except PneumoError as error:
        return str(error)
    except OSError as error:
        return f"{error.strerror}."


def _faithfulness(
    predictor: "Predictor", films: "Sequence[Example]", target: Sequence, probability: Sequence, threshold: float
) -> dict | None:
    """What deleting the regions of the heat map does to the pneumonias called so; None where there is none."""
    import numpy as np

    from pneumo.faithfulness import choose, deletions, faithfulness
    from pneumo.images import decode, squash
    from pneumo.operating import sigmoid

    chosen = choose(target, np.asarray(probability) >= threshold)
    if not chosen:
        return None
    card, tested = predictor.card, []
    for index in progress(chosen, "deleting regions", len(chosen)):
        film = squash(decode(films[index].path.read_bytes()).pixels, card.size)
        tested.append(deletions(film, predictor.logit_map, seed=index))

    def calibrated(logit: np.ndarray) -> np.ndarray:
        return card.slope * logit + card.intercept

    before, after = zip(*tested, strict=True)
    patients = [films[index].patient for index in chosen]
    return faithfulness(before, after, calibrated, lambda logit: sigmoid(calibrated(logit)), patients)


def _pictures(paths: Sequence[Path]) -> Iterator[Path]:
    """Every file that was named, whatever its suffix, and the pictures in folders, without our own heat maps."""
    from pneumo.dataset import is_picture

    for path in paths:
        if path.is_dir():
            found = [p for p in sorted(path.rglob("*")) if is_picture(p) and not p.name.endswith(HEATMAP_SUFFIX)]
            if not found:
                click.echo(f"Expected pictures in {click.format_filename(path)}, found none.", err=True)
            yield from found
        else:
            yield path


def _write_heatmap(prediction: "Prediction", folder: Path, stem: str, taken: set[str]) -> None:
    """Write film and overlay as STEM.heatmap.png, or STEM-2, STEM-3 … where an earlier film had that name."""
    from pneumo.heatmap import blend

    name, number = stem, 1
    while name.casefold() in taken:  # on some file systems A and a are one name
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.casefold())
    blend(prediction.film.pixels, prediction.overlay()).save(folder / (name + HEATMAP_SUFFIX))


def _guarded(cell: object) -> object:
    """A text that a spreadsheet would run as a formula gets an apostrophe in front (OWASP, CSV injection)."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else cell
