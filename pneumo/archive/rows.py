"""The table of `pneumo predict`: its columns, one row per film, as CSV or Parquet."""

import csv
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from pneumo.errors import RunError

if TYPE_CHECKING:
    import pyarrow

    from pneumo.model.predictor import Prediction

COLUMNS = ("file", "label", "probability", "threshold", "warnings", "error", "triage", "population")
NUMBERS = ("probability", "threshold")
OURS = b"file,label,probability,"  # how every CSV of this command began, those of earlier versions, too
FORMULA = re.compile(r"[\t\r\n]|\s*[=+\-@＝＋－＠]")  # the same rule as `cell` in static/page.js
CSV, PARQUET = "csv", "parquet"


def to_row(name: str, result: "Prediction | str") -> tuple:
    """Make the row of a film, in the order of COLUMNS, from its prediction or the reason why there is none."""
    if isinstance(result, str):
        return (name, "", "", "", "", result, "", "")
    warnings, whose = " ".join(result.warnings), result.population["name"]
    return (name, result.label, result.probability, result.threshold, warnings, "", result.triage, whose)


def guard(cell: object) -> object:
    """Put an apostrophe before a text that a spreadsheet would run as a formula (OWASP, CSV injection)."""
    return f"'{cell}" if isinstance(cell, str) and FORMULA.match(cell) else cell


def to_csv(rows: Sequence[Sequence]) -> bytes:
    """Write rows as CSV, formulas guarded."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([guard(cell) for cell in row] for row in rows)
    return text.getvalue().encode()


def encode(rows: Sequence[Sequence], kind: str) -> bytes:
    """Write rows as a whole file: CSV with its header, or Parquet, where what is not known is null."""
    if kind == CSV:
        return to_csv([COLUMNS, *rows])
    from pyarrow import BufferOutputStream, parquet

    file = BufferOutputStream()
    parquet.write_table(to_table(rows), file, compression="zstd")
    return file.getvalue().to_pybytes()


def to_table(rows: Sequence[Sequence]) -> "pyarrow.Table":
    """Make a table of rows, where what is not known is null."""
    import pyarrow

    columns = [[None if cell == "" else cell for cell in column] for column in zip(*rows, strict=True)]
    return pyarrow.table(columns, schema=make_schema())


def decode(data: bytes, kind: str) -> Iterator[dict[str, str]]:
    """Read the rows of such a file as texts.

    Raises:
        RunError: it has other columns.
    """
    if kind == CSV:
        reader = csv.DictReader(io.StringIO(data.decode(), newline=""))
        names, rows = reader.fieldnames, reader
    else:
        from pyarrow import BufferReader, parquet

        table = parquet.read_table(BufferReader(data))
        names, rows = table.column_names, map(_to_texts, table.to_pylist())
    if tuple(names or ()) != COLUMNS:
        raise RunError(f"Expected a part with the columns {','.join(COLUMNS)}, received {','.join(names or ())}.")
    yield from rows


def join(files: Iterable[bytes], kind: str, stream: BinaryIO) -> Iterator[dict[str, str]]:
    """Write the rows of several such files into one, a file after the other; yield them as `decode` does.

    Raises:
        RunError: see `decode`.
    """
    if kind == CSV:
        stream.write(header := to_csv([COLUMNS]))
        for data in files:
            yield from decode(data, kind)  # first, as it looks at the columns
            stream.write(data[len(header) :])
        return
    from pyarrow import BufferReader, parquet

    with parquet.ParquetWriter(stream, make_schema(), compression="zstd") as writer:
        for data in files:
            yield from decode(data, kind)
            writer.write_table(parquet.read_table(BufferReader(data)))


def _to_texts(row: dict[str, str | float | None]) -> dict[str, str]:
    return {name: "" if cell is None else str(cell) for name, cell in row.items()}


def make_schema() -> "pyarrow.Schema":
    """The columns as Parquet has them."""
    import pyarrow

    types = [pyarrow.float64() if name in NUMBERS else pyarrow.string() for name in COLUMNS]
    return pyarrow.schema(list(zip(COLUMNS, types, strict=True)))


def check_writable(out: str | os.PathLike, where: str, kind: str = CSV) -> None:
    """Check that `out` is no file yet, or a table of this command.

    Raises:
        RunError: it is another file.
    """
    if not os.path.isfile(out):
        return
    if kind == PARQUET:
        from pyarrow import ArrowInvalid, parquet

        try:
            ours = tuple(parquet.read_schema(out).names) == COLUMNS
        except ArrowInvalid:
            ours = False
        if not ours:
            raise RunError(f"Expected a new file or a Parquet file of this command, found another file: {where}.")
        return
    with open(out, "rb") as stream:
        begins = stream.read(len(OURS))
    if not OURS.startswith(begins):
        raise RunError(f"Expected a new file or a CSV of this command, found another file: {where}.")
