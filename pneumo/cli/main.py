"""`pneumo`: the group of its commands, of which `serve` is here and the others are in `cli_predict`, `_evaluate` ….

Nothing is imported before a command needs it. What a person can act on becomes one sentence on stderr and exit code 2.
"""

import os
import sys
from pathlib import Path

import click

from pneumo import __version__
from pneumo.cli.audit import audit
from pneumo.cli.data import data
from pneumo.cli.evaluate import evaluate
from pneumo.cli.notebook import notebook
from pneumo.cli.predict import predict
from pneumo.cli.pretrain import pretrain
from pneumo.cli.train import recipes, train
from pneumo.cli.training import compare, document
from pneumo.errors import PneumoError

ROOT = Path(__file__).resolve().parents[2]


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
@click.option("--port", type=click.IntRange(1, 65535), help="Else PORT, else 5000.")
def serve(port: int | None) -> None:
    """Serve the page and the JSON endpoint with gunicorn."""
    if not (ROOT / "gunicorn.conf.py").is_file():
        raise FileNotFoundError(f"Expected gunicorn.conf.py in {ROOT}, found none: serve from a checkout.")
    os.environ |= {"PORT": str(port)} if port else {}
    # from where it was called: settings may be paths
    where = ["--config", str(ROOT / "gunicorn.conf.py"), "--pythonpath", str(ROOT)]
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *where])


for command in (predict, evaluate, audit, data, pretrain, recipes, train, compare, notebook, document):
    main.add_command(command)
