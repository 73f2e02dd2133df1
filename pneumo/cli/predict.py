"""`pneumo predict`: films and folders of them -> a table or a CSV, row by row; a killed run goes on where it was."""

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
from pneumo.cli.films import FILE, FOLDER, each, model_option, point_option, progress
from pneumo.errors import RunError

if TYPE_CHECKING:
    from pneumo.model.predictor import Prediction

COLUMNS = ("file", "label", "probability", "threshold", "warnings", "error", "triage")
OURS = b"file,label,probability,"  # how every CSV of this command began, those of earlier versions, too
HEATMAP_SUFFIX = ".heatmap.png"
FORMULA = re.compile(r"[\t\r\n]|\s*[=+\-@＝＋－＠]")  # as the page's own CSV has it: `cell` in static/page.js
SAME = 1e-4  # another processor may round a probability by less than this; another model differs by more


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE_OR_DIR...")
@click.option("--csv", "out", type=FILE, help="Write a row a film here, instead of a table to stdout.")
@click.option("--resume", is_flag=True, help="Keep the rows that are in --csv already and go on with the other films.")
@click.option("--heatmaps", type=FOLDER, help="Write each film with its overlay here, as NAME.heatmap.png.")
@click.option("--force", is_flag=True, help="Read pictures that do not look like chest films all the same.")
@point_option
@model_option
def predict(
    paths: tuple[Path, ...],
    out: Path | None,
    resume: bool,
    heatmaps: Path | None,
    force: bool,
    operating_point: str | None,
    model: str | None,
) -> None:
    """Read films; folders are searched for pictures. A file that cannot be read is a row with the reason."""
    from pneumo.data.dataset import bare_name

    if resume and not out:
        raise click.UsageError("Expected --resume with --csv: it goes on with that file.")
    films = list(_pictures(paths))
    if out:
        _check_writable(out, films, resume)
    predictor = cli_films.load(model)
    for folder in filter(None, (heatmaps, out and out.parent)):
        folder.mkdir(parents=True, exist_ok=True)

    def row(film: Path, drawn: bool = heatmaps is not None) -> tuple[tuple, bytes]:
        """A film's cells, and its heat map as PNG; what else was known of it is forgotten here."""
        result = cli_films.read(predictor, film, operating_point, force)
        if isinstance(result, str):
            return (_name(film), "", "", "", "", result, ""), b""
        notes = " ".join(result.warnings)
        cells = (_name(film), result.label, result.probability, result.threshold, notes, "", result.triage)
        return cells, _heatmap(result) if drawn else b""

    kept = _resumed(out, films, lambda film: row(film, drawn=False)[0]) if resume and out.exists() else []
    if resume:
        click.echo(f"{len(kept)} of {len(films)} films are in {click.format_filename(out)} already.", err=True)
    answered = [film for film, cells in kept if not cells["error"]]
    taken, read = set(), len(answered)
    for film in answered if heatmaps else ():  # they have their names, and it must be these
        if not (picture := heatmaps / _free(bare_name(film), taken)).is_file():
            raise RunError(f"Expected the heat maps of the rows that are there already, found no {picture}.")
    left = _without(films, [film for film, _ in kept])
    with open(out or os.devnull, "ab" if kept else "wb", buffering=0) as stream:
        if not kept:
            _write_row(stream, COLUMNS)
        if not out:
            click.echo("label      probability  triage     file")
        hidden = not out and sys.stdout.isatty()
        results = progress(each(row, left), "reading", len(left), hidden)
        for film, (cells, picture) in zip(left, results, strict=True):
            if picture:  # before its row: what has a row is complete
                _write_picture(heatmaps / _free(bare_name(film), taken), picture)
            _write_row(stream, [_guarded(cell) for cell in cells])
            read += not cells[COLUMNS.index("error")]
            if not out:
                click.echo(_line(*cells))
    click.echo(f"{read} of {len(films)} read by {predictor.card.name} {predictor.card.version}.", err=True)
    raise SystemExit(0 if read else 1)


def _pictures(paths: Sequence[Path]) -> Iterator[Path]:
    """Every file that was named, whatever its suffix, and the pictures in folders, without our own heat maps."""
    from pneumo.data.dataset import is_picture

    for path in paths:
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if not p.name.endswith(HEATMAP_SUFFIX)]
            found = [p for p in inside if is_picture(p)]
            if not found:
                click.echo(f"Expected pictures in {click.format_filename(path)}, found none.", err=True)
            if passed := _passed_over(set(inside) - set(found)):
                where = click.format_filename(path)
                click.echo(f"Not read in {where}: {passed}. Name such a file itself to have it read.", err=True)
            yield from found
        else:
            yield path


def _passed_over(others: Iterable[Path]) -> str:
    """How many files of each kind in a folder are not taken for films, in words; hidden files do not count."""
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
    if begins not in (b"", OURS):
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


def _resumed(out: Path, films: Sequence[Path], row: Callable[[Path], tuple]) -> list[tuple[Path, dict[str, str]]]:
    """The films and rows that a killed run left in `out`, whose half-written last row is cut off.

    Nothing in a row names the model: so the last film that was read is read again.

    Raises:
        RunError: `out` is not of this command, or of other films, another model or another operating point.
    """
    where, remedy = click.format_filename(out), "Without --resume all films are read anew."
    content = out.read_bytes()
    try:
        rows = list(csv.reader(io.StringIO(content[: content.rfind(b"\n") + 1].decode(), newline="")))
    except UnicodeDecodeError:
        raise RunError(f"Expected {where} as pneumo wrote it, received no UTF-8. {remedy}") from None
    if rows and len(rows[-1]) < len(COLUMNS):  # a quoted file name may hold the line break that the cut found
        rows.pop()
    again = io.StringIO(newline="")
    csv.writer(again, lineterminator="\n").writerows(rows)
    whole = again.getvalue().encode()
    if rows[:1] not in ([], [list(COLUMNS)]) or not content.startswith(whole) or {*map(len, rows)} - {len(COLUMNS)}:
        raise RunError(f"Expected {where} as pneumo wrote it, with columns {','.join(COLUMNS)}. {remedy}")
    of_name = {_guarded(_name(film)): film for film in films}
    kept = []
    for cells in rows[1:]:
        if cells[0] not in of_name:
            raise RunError(f"Expected {where} to be of these films, found {cells[0]} in it. {remedy}")
        kept.append((of_name[cells[0]], dict(zip(COLUMNS, cells, strict=True))))
    if answered := [(film, cells) for film, cells in kept if not cells["error"]]:
        film, last = answered[-1]
        now = dict(zip(COLUMNS, row(film), strict=True))
        if any(cells["threshold"] != str(now["threshold"]) for _, cells in answered) or not _same(last, now):
            raise RunError(
                f"Expected {where} to be of this model and operating point, but {last['file']} is {_said(last)} there "
                f"and {_said(now)} now. {remedy}"
            )
    os.truncate(out, len(whole))
    return kept


def _same(before: dict[str, str], now: dict) -> bool:
    """Whether a film is read as it was."""
    if now["error"] or any(before[key] != now[key] for key in ("label", "warnings", "triage")):
        return False
    return math.isclose(float(before["probability"]), now["probability"], rel_tol=0, abs_tol=SAME)


def _said(cells: dict) -> str:
    """A row in words."""
    return cells["error"] or f"{cells['label']}, {cells['probability']} by threshold {cells['threshold']}"


def _without(films: Sequence[Path], done: Sequence[Path]) -> list[Path]:
    """The films that are not done; one that was named twice is to be done twice."""
    times, left = Counter(done), []
    for film in films:
        if times[film]:
            times[film] -= 1
        else:
            left.append(film)
    return left


def _name(film: Path) -> str:
    return click.format_filename(film)


def _line(name: str, label: str, probability: float, threshold: float, notes: str, error: str, triage: str) -> str:
    """A row for people."""
    if error:
        return f"{'-':<10} {'-':>11}  {'-':<9}  {name}: {error}"
    return f"{label:<10} {probability:>11.4f}  {triage:<9}  {name}" + (f" ({notes})" if notes else "")


def _heatmap(prediction: "Prediction") -> bytes:
    """Film and overlay, as PNG."""
    from pneumo.model.heatmap import blend

    buffer = io.BytesIO()
    blend(prediction.film.pixels, prediction.overlay()).save(buffer, "PNG")
    return buffer.getvalue()


def _free(stem: str, taken: set[str]) -> str:
    """STEM.heatmap.png, or STEM-2, STEM-3 … where an earlier film had that name."""
    name, number = stem, 1
    while name.casefold() in taken:  # on some file systems A and a are one name
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.casefold())
    return name + HEATMAP_SUFFIX


def _guarded(cell: object) -> object:
    """A text that a spreadsheet would run as a formula gets an apostrophe in front (OWASP, CSV injection)."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell
