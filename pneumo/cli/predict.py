"""`pneumo predict` reads films and folders of films into a table, a CSV file or parts. `--resume` continues a CSV."""

import io
import os
import sys
from collections import Counter
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo.cli import films as cli_films
from pneumo.cli.archive import SHARD, read_archive
from pneumo.cli.films import FILE, FOLDER, each, model_option, point_option, population_option, progress
from pneumo.errors import RunError

if TYPE_CHECKING:
    from pneumo.archive.listing import Film
    from pneumo.model.predictor import Prediction, Predictor


@click.command()
@click.argument("sources", nargs=-1, type=click.Path(), metavar="FILE_OR_DIR...")
@click.option("--list", "lists", multiple=True, metavar="FILE", help="Read the films that FILE names, one a line.")
@click.option("--csv", "out", type=FILE, help="Write one row per film into this file instead of a table to stdout.")
@click.option("--resume", is_flag=True, help="Keep the rows that --csv already has, and read the other films.")
@click.option(
    "--heatmaps", type=FOLDER, help="Write each film with its heat map into this folder, as NAME.heatmap.png."
)
@click.option("--parts", metavar="DIR_OR_URL", help="Write the rows into this folder, a file for every 1000 films.")
@click.option("--parquet", is_flag=True, help="With --parts: as Parquet instead of CSV.")
@click.option("--shard", type=SHARD, metavar="I/N", help="With --parts: only the I-th of N shares, I from 0 to N - 1.")
@click.option("--force", is_flag=True, help="Read pictures even if they do not look like chest films.")
@point_option
@population_option
@model_option
def predict(
    sources: tuple[str, ...],
    lists: tuple[str, ...],
    out: Path | None,
    resume: bool,
    heatmaps: Path | None,
    parts: str | None,
    parquet: bool,
    shard: tuple[int, int] | None,
    force: bool,
    operating_point: str | None,
    population: str | None,
    model: str | None,
) -> None:
    """Read films, and all films in folders. A file that cannot be read becomes a row with the reason.

    Films and folders may be URLs, such as s3://bucket/films; a glob in quotes or a DICOMDIR stands for its films.
    """
    if not sources and not lists:
        raise click.UsageError("Expected films, folders or --list, received none of them.")
    if resume and not out:
        raise click.UsageError("--resume needs --csv, the file to continue.")
    if (parquet or shard) and not parts:
        raise click.UsageError("--parquet and --shard need --parts, the folder to write into.")
    if parts and (out or heatmaps):
        raise click.UsageError("Expected --parts alone, received --csv or --heatmaps, too. `pneumo merge` makes a CSV.")
    options = {"operating_point": operating_point, "force": force, "population": population}
    if parts:
        return read_archive(lambda: cli_films.load(model), sources, lists, shard or (0, 1), parts, parquet, options)
    films = list_all(sources, lists)
    if out:
        _check_out(out, films, resume)
    predictor = cli_films.load(model)
    for folder in filter(None, (heatmaps, out and out.parent)):
        folder.mkdir(parents=True, exist_ok=True)
    count = _write_table(predictor, films, out, resume, heatmaps, options)
    click.echo(f"{count} of {len(films)} read by {predictor.card.name} {predictor.card.version}.", err=True)
    raise SystemExit(0 if count else 1)


def list_all(sources: Sequence[str], lists: Sequence[str]) -> "list[Film]":
    """List all films that are named, and say on stderr what was passed over."""
    from pneumo.archive.listing import find_films

    return list(find_films(sources, lists, say=lambda words: click.echo(words, err=True)))


def _write_table(
    predictor: "Predictor",
    films: "Sequence[Film]",
    out: Path | None,
    resume: bool,
    heatmaps: Path | None,
    options: dict,
) -> int:
    """Read the films and write their rows; return how many could be read."""
    from pneumo.archive.rows import COLUMNS, to_csv, to_row
    from pneumo.cli.resume import read_rows
    from pneumo.data.dataset import bare_name

    def read(film: "Film", draw: bool = heatmaps is not None) -> tuple[tuple, bytes]:
        """Read a film and return only what is written: its row, and its heat map as PNG."""
        result = cli_films.read(predictor, film, **options)
        picture = _draw(result) if draw and not isinstance(result, str) else b""
        return to_row(click.format_filename(film), result), picture

    kept = read_rows(out, films, lambda film: read(film, draw=False)[0]) if resume and out.exists() else []
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
            _append(stream, to_csv([COLUMNS]))
        if not out:
            click.echo("label      probability  triage      population  file")
        hidden = not out and sys.stdout.isatty()
        results = progress(each(read, left), "reading", len(left), hidden)
        for film, (row, picture) in zip(left, results, strict=True):
            if picture:  # before the row, so that a film with a row is complete
                _write_picture(heatmaps / _choose_name(bare_name(film), taken), picture)
            _append(stream, to_csv([row]))
            count += not row[COLUMNS.index("error")]
            if not out:
                click.echo(_format(*row))
    return count


def _check_out(out: Path, films: "Sequence[Film]", resume: bool) -> None:
    """Check that `out` is none of the films, and new or a CSV of this command.

    Raises:
        RunError: it is not.
    """
    from pneumo.archive.rows import check_writable

    where = click.format_filename(out)
    paths = (film for film in films if isinstance(film, Path))
    if out.exists() and any(film.exists() and film.samefile(out) for film in paths):
        raise RunError(f"Expected --csv to name a file to be written, received one of the films: {where}.")
    if not resume:
        check_writable(out, where)


def _append(stream: FileIO, row: bytes) -> None:
    """Append a row of CSV, whole or not at all.

    Raises:
        RunError: the disk is full, or another reason of the system's.
    """
    before = os.fstat(stream.fileno()).st_size
    try:
        while row:
            row = row[stream.write(row) :]
    except OSError as error:
        if os.path.isfile(stream.name):
            stream.truncate(before)
        raise RunError(f"{click.format_filename(stream.name)} cannot be written: {error.strerror}.") from None


def _write_picture(path: Path, picture: bytes) -> None:
    """Write a heat map, whole or not at all. Raises as `_append`."""
    try:
        path.write_bytes(picture)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise RunError(f"{click.format_filename(path)} cannot be written: {error.strerror}.") from None


def _without(films: "Sequence[Film]", done: "Sequence[Film]") -> "list[Film]":
    """Leave out the films that are done; a film that was named twice is read twice."""
    times, left = Counter(done), []
    for film in films:
        if times[film]:
            times[film] -= 1
        else:
            left.append(film)
    return left


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
    from pneumo.archive.listing import HEATMAP_SUFFIX

    name, number = stem, 1
    while name.casefold() in taken:  # some file systems do not tell A from a
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.casefold())
    return name + HEATMAP_SUFFIX
