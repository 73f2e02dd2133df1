"""GET /health/live and /health/ready: whether the process answers, and with which model. They need no key."""

from flask import Blueprint, Response, jsonify

from pneumo.web.service import get_service

blueprint = Blueprint("health", __name__, url_prefix="/health")


@blueprint.get("/live")
def live() -> Response:
    """Say that the process answers."""
    return jsonify({"live": True})


@blueprint.get("/ready")
def ready() -> Response:
    """Name the model. It was loaded and had one film put through before the app existed."""
    return jsonify({"ready": True, "model": get_service().predictor.card.model})
