"""Continue a CSV of `pneumo predict` that a killed run left behind, as if it had not been killed."""

import csv
import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from pneumo.archive.listing import Film
from pneumo.archive.rows import COLUMNS, guard, to_csv
from pneumo.errors import RunError

SAME = 1e-4  # two processors' probabilities of one model differ by less, those of two models by more


def read_rows(out: Path, films: Sequence[Film], read: Callable[[Film], tuple]) -> list[tuple[Film, dict[str, str]]]:
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
    whole = to_csv(rows)
    if rows[:1] not in ([], [list(COLUMNS)]) or not content.startswith(whole) or {*map(len, rows)} - {len(COLUMNS)}:
        raise RunError(f"Expected {where} as pneumo wrote it, with columns {','.join(COLUMNS)}. {remedy}")
    by_name = {guard(click.format_filename(film)): film for film in films}
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
