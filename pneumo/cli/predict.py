"""`pneumo predict` reads films and folders of films into a table or a CSV file. `--resume` continues a killed run."""

import csv
import io
import math
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo.cli import films as cli_films
from pneumo.cli.films import FILE, FOLDER, each, model_option, point_option, population_option, progress
from pneumo.errors import RunError

if TYPE_CHECKING:
    from pneumo.model.predictor import Prediction

COLUMNS = ("file", "label", "probability", "threshold", "warnings", "error", "triage", "population")
OURS = b"file,label,probability,"  # how every CSV of this command began, those of earlier versions, too
HEATMAP_SUFFIX = ".heatmap.png"
FORMULA = re.compile(r"[\t\r\n]|\s*[=+\-@＝＋－＠]")  # the same rule as `cell` in static/page.js
SAME = 1e-4  # two processors' probabilities of one model differ by less, those of two models by more


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE_OR_DIR...")
@click.option("--csv", "out", type=FILE, help="Write one row per film into this file instead of a table to stdout.")
@click.option("--resume", is_flag=True, help="Keep the rows that --csv already has, and read the other films.")
@click.option(
    "--heatmaps", type=FOLDER, help="Write each film with its heat map into this folder, as NAME.heatmap.png."
)
@click.option("--force", is_flag=True, help="Read pictures even if they do not look like chest films.")
@point_option
@population_option
@model_option
def predict(
    paths: tuple[Path, ...],
    out: Path | None,
    resume: bool,
    heatmaps: Path | None,
    force: bool,
    operating_point: str | None,
    population: str | None,
    model: str | None,
) -> None:
    """Read films, and all films in folders. A file that cannot be read becomes a row with the reason."""
    from pneumo.data.dataset import bare_name

    if resume and not out:
        raise click.UsageError("--resume needs --csv, the file to continue.")
    films = list(_find_films(paths))
    if out:
        _check_writable(out, films, resume)
    predictor = cli_films.load(model)
    for folder in filter(None, (heatmaps, out and out.parent)):
        folder.mkdir(parents=True, exist_ok=True)

    def read(film: Path, draw: bool = heatmaps is not None) -> tuple[tuple, bytes]:
        """Read a film and return only what is written: its row, and its heat map as PNG."""
        result = cli_films.read(predictor, film, operating_point, force, population)
        if isinstance(result, str):
            return (_name(film), "", "", "", "", result, "", ""), b""
        warnings = " ".join(result.warnings)
        whose = result.population["name"]
        row = (_name(film), result.label, result.probability, result.threshold, warnings, "", result.triage, whose)
        return row, _draw(result) if draw else b""

    kept = _read_rows(out, films, lambda film: read(film, draw=False)[0]) if resume and out.exists() else []
    if resume:
        click.echo(f"{len(kept)} of {len(films)} films are in {click.format_filename(out)} already.", err=True)
    done = [film for film, row in kept if not row["error"]]
    taken, count = set(), len(done)
    for film in done if heatmaps else ():  # reserve their names, in the order in which they got them
        if not (picture := heatmaps / _choose_name(bare_name(film), taken)).is_file():
            raise RunError(
                f"Expected a heat map for every row that {click.format_filename(out)} already has, found no {picture}. "
                "Without --resume all films are read again."
            )
    left = _without(films, [film for film, _ in kept])
    with open(out or os.devnull, "ab" if kept else "wb", buffering=0) as stream:
        if not kept:
            _write_row(stream, COLUMNS)
        if not out:
            click.echo("label      probability  triage      population  file")
        hidden = not out and sys.stdout.isatty()
        results = progress(each(read, left), "reading", len(left), hidden)
        for film, (row, picture) in zip(left, results, strict=True):
            if picture:  # before the row, so that a film with a row is complete
                _write_picture(heatmaps / _choose_name(bare_name(film), taken), picture)
            _write_row(stream, [_guard(cell) for cell in row])
            count += not row[COLUMNS.index("error")]
            if not out:
                click.echo(_format(*row))
    click.echo(f"{count} of {len(films)} read by {predictor.card.name} {predictor.card.version}.", err=True)
    raise SystemExit(0 if count else 1)


def _find_films(paths: Sequence[Path]) -> Iterator[Path]:
    """Find the films: every file that was named, and the pictures in folders except heat maps of this command."""
    from pneumo.data.dataset import is_picture

    for path in paths:
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if not p.name.endswith(HEATMAP_SUFFIX)]
            found = [p for p in inside if is_picture(p)]
            if not found:
                click.echo(f"Expected pictures in {click.format_filename(path)}, found none.", err=True)
            if others := _count_others(set(inside) - set(found)):
                where = click.format_filename(path)
                click.echo(f"Not read in {where}: {others}. Name such a file itself to have it read.", err=True)
            yield from found
        else:
            yield path


def _count_others(others: Iterable[Path]) -> str:
    """Count by kind, in words, the files of a folder that are not taken for films; hidden files do not count."""
    kinds: Counter = Counter()
    for path in others:
        if path.name.startswith(".") or (path.is_dir() and not path.is_symlink()):
            continue
        link = path.is_symlink() and not path.is_file()  # to a folder, or to nothing
        kinds["links" if link else path.suffix.lower() or "without a suffix"] += 1
    return ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def _check_writable(out: Path, films: Sequence[Path], resume: bool) -> None:
    """Check that `out` is new or a CSV of this command, and none of the films.

    Raises:
        RunError: it is not.
    """
    where = click.format_filename(out)
    if out.exists() and any(film.exists() and film.samefile(out) for film in films):
        raise RunError(f"Expected --csv to name a file to be written, received one of the films: {where}.")
    if resume or not out.is_file():
        return
    with out.open("rb") as stream:
        begins = stream.read(len(OURS))
    if not OURS.startswith(begins):
        raise RunError(f"Expected --csv to name a new file or a CSV of this command, found another file: {where}.")


def _write_row(stream: io.FileIO, cells: Sequence) -> None:
    """Append a row of CSV, whole or not at all.

    Raises:
        RunError: the disk is full, or another reason of the system's.
    """
    row = io.StringIO(newline="")
    csv.writer(row, lineterminator="\n").writerow(cells)
    data, before = row.getvalue().encode(), os.fstat(stream.fileno()).st_size
    try:
        while data:
            data = data[stream.write(data) :]
    except OSError as error:
        if os.path.isfile(stream.name):
            stream.truncate(before)
        raise RunError(f"{click.format_filename(stream.name)} cannot be written: {error.strerror}.") from None


def _write_picture(path: Path, picture: bytes) -> None:
    """Write a heat map, whole or not at all. Raises as `_write_row`."""
    try:
        path.write_bytes(picture)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise RunError(f"{click.format_filename(path)} cannot be written: {error.strerror}.") from None


def _read_rows(out: Path, films: Sequence[Path], read: Callable[[Path], tuple]) -> list[tuple[Path, dict[str, str]]]:
    """Read the films and rows that a killed run left in `out`, and cut off a half-written last row.

    The rows do not name the model, so the last film is read again and compared.

    Raises:
        RunError: `out` was not written by this command, or for other films, another model or operating point.
    """
    where, remedy = click.format_filename(out), "Without --resume all films are read again."
    content = out.read_bytes()
    try:
        rows = list(csv.reader(io.StringIO(content[: content.rfind(b"\n") + 1].decode(), newline="")))
    except UnicodeDecodeError:
        raise RunError(f"Expected {where} as pneumo wrote it, received no UTF-8. {remedy}") from None
    if rows and len(rows[-1]) < len(COLUMNS):  # the last line break is inside a quoted file name
        rows.pop()
    again = io.StringIO(newline="")
    csv.writer(again, lineterminator="\n").writerows(rows)
    whole = again.getvalue().encode()
    if rows[:1] not in ([], [list(COLUMNS)]) or not content.startswith(whole) or {*map(len, rows)} - {len(COLUMNS)}:
        raise RunError(f"Expected {where} as pneumo wrote it, with columns {','.join(COLUMNS)}. {remedy}")
    by_name = {_guard(_name(film)): film for film in films}
    kept = []
    for cells in rows[1:]:
        if cells[0] not in by_name:
            raise RunError(f"Expected only the films named now in {where}, found {cells[0]}. {remedy}")
        kept.append((by_name[cells[0]], dict(zip(COLUMNS, cells, strict=True))))
    if done := [(film, row) for film, row in kept if not row["error"]]:
        film, last = done[-1]
        now = dict(zip(COLUMNS, read(film), strict=True))
        same = [row for _, row in done if row["population"] == now["population"]]
        if any(row["threshold"] != str(now["threshold"]) for row in same) or not _agree(last, now):
            raise RunError(
                f"{where} comes from another model or operating point: {last['file']} is {_describe(last)} there and "
                f"{_describe(now)} now. {remedy}"
            )
    os.truncate(out, len(whole))
    return kept


def _agree(before: dict[str, str], now: dict) -> bool:
    """Compare two rows of one film: the same but for the rounding of the probability."""
    if now["error"] or any(before[key] != now[key] for key in ("label", "warnings", "triage", "population")):
        return False
    return math.isclose(float(before["probability"]), now["probability"], rel_tol=0, abs_tol=SAME)


def _describe(row: dict) -> str:
    """Put a row into words."""
    return row["error"] or f"{row['label']} ({row['probability']}, threshold {row['threshold']})"


def _without(films: Sequence[Path], done: Sequence[Path]) -> list[Path]:
    """Leave out the films that are done; a film that was named twice is read twice."""
    times, left = Counter(done), []
    for film in films:
        if times[film]:
            times[film] -= 1
        else:
            left.append(film)
    return left


def _name(film: Path) -> str:
    return click.format_filename(film)


def _format(
    name: str, label: str, probability: float, _: float, warnings: str, error: str, triage: str, population: str
) -> str:
    """Format a row for people."""
    if error:
        return f"{'-':<10} {'-':>11}  {'-':<10}  {'-':<10}  {name}: {error}"
    cells = f"{label:<10} {probability:>11.4f}  {triage:<10}  {population:<10}  {name}"
    return cells + (f" ({warnings})" if warnings else "")


def _draw(prediction: "Prediction") -> bytes:
    """Draw film and heat map as a PNG."""
    from pneumo.model.heatmap import blend

    buffer = io.BytesIO()
    blend(prediction.film.pixels, prediction.overlay()).save(buffer, "PNG")
    return buffer.getvalue()


def _choose_name(stem: str, taken: set[str]) -> str:
    """Choose STEM.heatmap.png, or STEM-2, STEM-3 … where an earlier film has that name."""
    name, number = stem, 1
    while name.casefold() in taken:  # some file systems do not tell A from a
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.casefold())
    return name + HEATMAP_SUFFIX


def _guard(cell: object) -> object:
    """Put an apostrophe before a text that a spreadsheet would run as a formula (OWASP, CSV injection)."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell
