"""GET /worklist: the node's films by triage and waiting time, a page a film, and what readers say of the answers.

There only where PNEUMO_NODE_STATE names the node's state folder.
"""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from flask import Blueprint, Flask, Response, abort, current_app, g, redirect, render_template, request, url_for
from PIL import Image

from pneumo import __version__
from pneumo.errors import SettingError
from pneumo.model import heatmap
from pneumo.node.store import VERDICTS, Row, Store
from pneumo.node.worklist import DAYS, MOST_DAYS, bound_share, count_older, list_waiting, tabulate
from pneumo.web.access import check_site

blueprint = Blueprint("worklist", __name__, url_prefix="/worklist")


def attach(app: Flask, folder: Path) -> None:
    """Serve the worklist of the node whose state is in that folder.

    Raises:
        SettingError: the server has no keys, or the folder cannot be written.
    """
    if not app.extensions["pneumo"].keys:
        raise SettingError("Expected PNEUMO_KEYS with PNEUMO_NODE_STATE, received none: the worklist names patients.")
    try:
        app.extensions["pneumo_node"] = Store(folder)
    except (OSError, sqlite3.Error) as error:
        raise SettingError(f"Expected the state folder of a node in PNEUMO_NODE_STATE, received {error}.") from None
    app.jinja_env.globals["bound_share"] = bound_share
    app.register_blueprint(blueprint)


@blueprint.get("/")
def worklist() -> str:
    """Show the films of the last `days` that wait for a reader, and the months behind them."""
    told = request.args.get("days", str(DAYS))
    if not (told.isdecimal() and 1 <= int(told) <= MOST_DAYS):
        abort(400, f"Expected days to be a whole number from 1 to {MOST_DAYS}, received something else.")
    store, now, days = get_store(), datetime.now(UTC), int(told)
    waiting = list_waiting(store, now, days)
    g.outcome = f"{len(waiting)} waiting"
    return render_template(
        "worklist.html",
        waiting=waiting,
        older=count_older(store, now, days),
        more_days=min(10 * days, MOST_DAYS),
        months=tabulate(store),
        counts=store.count(),
        version=__version__,
    )


@blueprint.get("/<uid>")
def worklist_film(uid: str) -> str:
    """Show what the model says of one film, and ask what the reader says."""
    row = find_row(uid)
    return render_template("worklist_film.html", row=row, picture=draw_capture(row), version=__version__)


@blueprint.post("/<uid>")
def worklist_verdict(uid: str) -> Response:
    """Store the reader's verdict and show the worklist.

    Raises:
        CrossSiteError: another site's page sent it.
    """
    check_site(request.headers, request.host or request.headers.get("Host", ""))
    verdict = request.form.get("verdict")
    if verdict not in VERDICTS:
        abort(400, f"Expected verdict to be {' or '.join(VERDICTS)}, received another.")
    get_store().judge(find_row(uid), verdict)
    g.outcome = verdict
    return redirect(url_for("worklist.worklist"), 303)


def get_store() -> Store:
    """Return the node's store."""
    return current_app.extensions["pneumo_node"]


def find_row(uid: str) -> Row:
    """Return a film's row, or answer 404."""
    row = get_store().find(uid)
    return row if row else abort(404, "Expected a film of this node, received another.")


def draw_capture(row: Row) -> str | None:
    """Return the film's secondary capture as a data URI, as long as the node keeps it."""
    import pydicom

    path = get_store().files.result(row.uid, "capture")
    try:
        return heatmap.to_data_uri(Image.fromarray(pydicom.dcmread(path).pixel_array))
    except FileNotFoundError:
        return None
