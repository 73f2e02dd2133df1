"""GET /openapi.json: the interface for programs, in OpenAPI 3.1."""

import json
from pathlib import Path

from flask import Blueprint, Response, current_app, jsonify, request

from pneumo import __version__

blueprint = Blueprint("openapi", __name__)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """Answer static/openapi.json with this program's version, and the prefix it is served under."""
    document = json.loads(Path(current_app.static_folder, "openapi.json").read_text(encoding="utf-8"))
    document["info"]["version"] = __version__
    document["servers"] = [{"url": request.root_path or "/"}]
    return jsonify(document)
