"""Run the command line in this process, and read what it wrote."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from pneumo.cli.main import main

ROOT = Path(__file__).parents[2]

# The command with the model that says the mean grey, as a program of its own; it first acts on each film's grey.
COMMAND = """
import os, signal, time
from pathlib import Path
from pneumo.archive import parts
from pneumo.cli import films as cli_films, main as cli
from tests.support.films import MeanGrey

def act(grey):
    {act}

class Acting(MeanGrey):
    def look(self, pixels):
        act(pixels[0, 0])
        return super().look(pixels)

cli_films.load, cli_films.cores, parts.FILMS = lambda model: Acting(), lambda: 2, 4
cli.main()
"""
KILL = "if grey == {deadly}: os.kill(os.getpid(), signal.SIGKILL)"


def start(act, *arguments):
    """Start the command in this folder; it runs the statement `act` before each film."""
    command = [sys.executable, "-c", COMMAND.format(act=act), *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


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
