"""`pneumo`: the group of its commands, each in a module of its own.

Nothing is imported before a command needs it. What a person can act on becomes one sentence on stderr and exit code 2.
"""

import errno

import click

from pneumo import __version__
from pneumo.cli.archive import merge
from pneumo.cli.audit import audit
from pneumo.cli.calibrate import calibrate
from pneumo.cli.compare import compare
from pneumo.cli.data import data
from pneumo.cli.document import document
from pneumo.cli.evaluate import evaluate
from pneumo.cli.node import node
from pneumo.cli.notebook import notebook
from pneumo.cli.predict import predict
from pneumo.cli.serve import check, serve
from pneumo.cli.train import recipes, train
from pneumo.errors import PneumoError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk is


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
        except OSError as error:
            if error.errno not in FULL:
                raise
            message = (
                f"{error.strerror}. What was being written{f' to {error.filename}' if error.filename else ''} is lost."
            )
        except ModuleNotFoundError as error:
            message = f"This needs the Python package {error.name}: install requirements.txt (`make setup`)."
        refusal = click.ClickException(message)
        refusal.exit_code = 2
        raise refusal


@click.group(cls=Group)
@click.version_option(__version__, prog_name="pneumo")
def main() -> None:
    """Read chest X-rays of children and adults for pneumonia. Not a medical device."""


READING = (predict, merge, evaluate, calibrate, audit)
for command in (*READING, data, recipes, train, compare, notebook, document, serve, check, node):
    main.add_command(command)
