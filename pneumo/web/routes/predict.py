"""POST /predict: films in, JSON out."""

from flask import Blueprint, Response, g, jsonify, request

from pneumo.errors import PneumoError
from pneumo.web.service import Service, get_service
from pneumo.web.uploads import read_uploads
from pneumo.web.view import draw, summarize

blueprint = Blueprint("predict", __name__)


@blueprint.post("/predict", strict_slashes=False)
def predict() -> Response:
    """Read the films: one gives its answer or its problem, several a list with one entry for each.

    Raises:
        PneumoError: see `read_uploads`, `Card.operating_point`, `Card.check_population` and, for a single film,
            `Predictor.predict`.
    """
    service = get_service()
    operating_point = service.predictor.card.operating_point(request.args.get("operating_point"))
    population = service.predictor.card.check_population(request.args.get("population"))
    options = operating_point, population, _is_set("force"), _is_set("heatmap")
    films = [data for _, data in read_uploads()]
    if len(films) == 1:
        entry = service.queue.read(_read, service, films[0], *options)
        g.outcome = entry["label"]
        return jsonify(entry | {"request_id": g.request_id})
    entries = []
    for film in films:
        try:
            entries.append(service.queue.read(_read, service, film, *options))
        except PneumoError as error:
            service.metrics.refused(error.error)
            entries.append(error.members())
    g.outcome = summarize(len(entries), [entry for entry in entries if "error" in entry])
    return jsonify({"predictions": entries, "request_id": g.request_id})


def _read(
    service: Service, data: bytes, operating_point: str, population: str | None, force: bool, with_map: bool
) -> dict:
    prediction = service.predictor.predict(data, operating_point, force, population)
    service.metrics.read(prediction)
    answer = prediction.to_json()
    return answer | {"heatmap": draw(prediction)} if with_map else answer


def _is_set(name: str) -> bool:
    """Whether the query has NAME=1."""
    return request.args.get(name, "0").lower() in ("1", "true", "yes")
