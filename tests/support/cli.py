"""Run the command line in this process, and read what it wrote."""

import csv

from click.testing import CliRunner

from pneumo.cli.main import main


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments], catch_exceptions=False)


def texts(table):
    """Rows of Parquet or Ray as those of CSV."""
    return [{name: "" if cell is None else str(cell) for name, cell in row.items()} for row in table]


def by_file(table):
    return sorted(table, key=lambda row: row["file"])


def rows(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))
