"""`pneumo node`: receive films from an archive or a modality, read them, send the results back."""

import logging
import re
import signal
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo.cli.films import FILE, load, model_option, point_option, population_option
from pneumo.errors import SettingError

if TYPE_CHECKING:
    from pneumo.node.senders import Sender

_TITLE = re.compile(r"(?! *$)[ -\[\]-~]{1,16}")  # PS3.5 6.2, AE: ASCII without backslash, not blank


def check_title(context: click.Context, option: click.Parameter, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """Check AE titles, those of this node or of callers.

    Raises:
        BadParameter: one is too long, or has other characters.
    """
    for title in (value,) if isinstance(value, str) else value:
        if not _TITLE.fullmatch(title):
            raise click.BadParameter(f"Expected an AE title of 1 to 16 ASCII characters, received {title!r}.")
    return value


@click.command()
@click.option("--state", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder of this node.")
@click.option("--to", metavar="AE@HOST:PORT", help="Send results there by C-STORE.")
@click.option("--stow", metavar="URL", help="Or send them to this DICOMweb service by STOW-RS.")
@click.option("--title", default="PNEUMO", show_default=True, callback=check_title, help="AE title of this node.")
@click.option("--host", default="0.0.0.0", show_default=True, help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=11112, show_default=True, help="Port to listen on.")
@click.option(
    "--caller", "callers", multiple=True, metavar="AE", callback=check_title, help="Who may call. [default: everybody]"
)
@click.option("--idle", type=click.FloatRange(1), default=60, show_default=True, help="Seconds of silence allowed.")
@click.option("--most", type=click.IntRange(1), default=32, show_default=True, help="Associations at a time.")
@click.option("--keep", type=click.IntRange(0), default=0, show_default=True, metavar="DAYS", help="Keep sent films.")
@click.option(
    "--identify", type=click.IntRange(0), default=30, show_default=True, metavar="DAYS", help="Keep IDs of sent films."
)
@click.option("--certificate", type=FILE, help="Listen with TLS: certificate and key in one PEM file.")
@click.option("--trust", type=FILE, help="PEM file of authorities: callers then need a certificate of one of them.")
@click.option("--to-tls", is_flag=True, help="Send results with TLS, checked by --trust, as --certificate.")
@click.option("--force", is_flag=True, help="Read films even if they do not look like chest films.")
@point_option
@population_option
@model_option
def node(
    state: Path,
    to: str | None,
    stow: str | None,
    title: str,
    host: str,
    port: int,
    callers: tuple[str, ...],
    idle: float,
    most: int,
    keep: int,
    identify: int,
    certificate: Path | None,
    trust: Path | None,
    to_tls: bool,
    force: bool,
    operating_point: str | None,
    population: str | None,
    model: str | None,
) -> None:
    """Receive DICOM films, read them, and send the results to the same study."""
    from pneumo.node.node import Node, lock_folder
    from pneumo.node.receiver import Receiver
    from pneumo.node.store import Store
    from pneumo.node.tls import make_server_tls

    if trust and not (certificate or to_tls):
        raise click.UsageError("Expected --certificate or --to-tls beside --trust: without them there is no TLS.")
    sender = make_sender(title, to, stow, certificate, trust, to_tls)
    tls = make_server_tls(certificate, trust) if certificate else None
    logging.basicConfig(level=logging.INFO, format="%(asctime)s [%(levelname)s] %(message)s")
    for name in ("pydicom", "pynetdicom", "highdicom"):  # they repeat what was sent
        logging.getLogger(name).setLevel(logging.ERROR)
    held = lock_folder(state)  # noqa: F841  until this process ends
    store = Store(state)
    working = Node(
        store,
        load(model),
        sender,
        keep=timedelta(days=keep),
        identify=timedelta(days=identify),
        operating_point=operating_point,
        population=population,
        force=force,
    )
    receiver = Receiver(store, working.notify, title, callers, idle, most)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: working.stop())
    working.start()
    port = receiver.start(host, port, tls)
    click.echo(f"{title} listens on {host}:{port}; results go to {to or stow}.")
    ended_well = working.wait()
    receiver.stop()
    store.close()
    sys.exit(0 if ended_well else 1)


def make_sender(
    title: str, to: str | None, stow: str | None, certificate: Path | None, trust: Path | None, to_tls: bool
) -> "Sender":
    """Make what sends the results.

    Raises:
        UsageError: where they go is not said, or said twice, or TLS is asked for where the URL decides.
        SettingError: `read_peer`, `make_client_tls`.
    """
    from pneumo.node.senders import StoreSender, WebSender
    from pneumo.node.tls import make_client_tls

    if (to is None) == (stow is None):
        raise click.UsageError("Expected either --to or --stow: where the results go.")
    if stow:
        if to_tls:
            raise click.UsageError("Expected --to-tls with --to only. With --stow, give a URL of https:// instead.")
        return WebSender(stow)
    return StoreSender(title, *read_peer(to), make_client_tls(certificate, trust) if to_tls else None)


def read_peer(text: str) -> tuple[str, str, int]:
    """Read AE@HOST:PORT.

    Raises:
        SettingError: it is something else.
    """
    title, _, address = text.partition("@")
    host, _, port = address.rpartition(":")
    if not (_TITLE.fullmatch(title) and host and port.isdecimal()):
        raise SettingError(
            f"Expected --to as AE@HOST:PORT, for instance ORTHANC@localhost:4242, received {text!r}. "
            "An AE title has 1 to 16 ASCII characters; ask the archive's administrator for all three."
        )
    if not 1 <= int(port) <= 65535:
        raise SettingError(f"Expected a port from 1 to 65535 in --to, received {port}.")
    return title, host, int(port)
