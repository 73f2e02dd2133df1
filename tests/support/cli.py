"""Run the command line in this process, and read what it wrote."""

import csv

from click.testing import CliRunner

from pneumo.cli.main import main

# The command, as a program of its own, with the model that says the mean grey; it is killed when it looks at the film
# of the grey DEADLY. SETTINGS is run before it.
KILLED = """
import os, signal
from pneumo.archive import parts
from pneumo.cli import films as cli_films, main as cli
from tests.support.films import MeanGrey

class Deadly(MeanGrey):
    def look(self, pixels):
        if pixels[0, 0] == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().look(pixels)

cli_films.load = lambda model: Deadly()
SETTINGS
cli.main()
"""


def write_killed(grey: int, settings: str) -> str:
    """Return the program of a command that is killed at the film of that grey."""
    return KILLED.replace("DEADLY", str(grey)).replace("SETTINGS", settings)


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
