"""`pneumo serve` and `pneumo check`: serve with gunicorn, and say beforehand whether that can be."""

import os
import sys
from pathlib import Path

import click


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Else PORT, else 5000.")
def serve(port: int | None) -> None:
    """Serve the page and the JSON endpoint with gunicorn."""
    os.environ |= {"PORT": str(port)} if port else {}
    os.environ.setdefault("MALLOC_TRIM_THRESHOLD_", str(2**20))  # as in the Makefile: glibc gives memory back
    # the folder of app.py, wherever this was called; settings may be paths from there
    where = ["--config", "python:pneumo.web.server", "--pythonpath", str(Path(__file__).resolve().parents[2])]
    os.execv(sys.executable, [sys.executable, "-m", "gunicorn", *where])


@click.command()
def check() -> None:
    """Check that the server could start: card, model, site profile, keys, settings.

    Before a reload: pneumo check && kill -HUP PID
    """
    from pneumo.web.startup import check as check_startup

    card = check_startup()
    profile = f", site profile {card.profile}" if card.profile else ""
    click.echo(f"{card.name} {card.version}{profile} can be served.")
