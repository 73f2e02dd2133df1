"""GET /metrics: the counts of all workers, for Prometheus."""

from flask import Blueprint, Response

from pneumo.web.service import get_service

blueprint = Blueprint("metrics", __name__)


@blueprint.get("/metrics")
def metrics() -> Response:
    """Answer in Prometheus' text format."""
    text, content_type = get_service().metrics.text()
    return Response(text, content_type=content_type)
