"""What the templates show: the page around the answers, and of each film its answer, picture and heat map."""

import time
from datetime import UTC, datetime

import numpy as np
from flask import current_app, render_template
from PIL import Image

from pneumo import __version__
from pneumo.errors import PneumoError
from pneumo.films.film import Film
from pneumo.films.images import FORMATS, decode
from pneumo.model import heatmap
from pneumo.model.predictor import Prediction
from pneumo.web.service import Service, get_service

PREVIEW_SIDE = 1024


def render_page(
    results: list[dict] | None = None,
    problem: dict | None = None,
    operating_point: str | None = None,
    population: str | None = None,
) -> str:
    """Return the whole page, with the `results` of `read_for_page` or with the `problem` of the whole request."""
    service = get_service()
    card, limit = service.predictor.card, current_app.config["MAX_CONTENT_LENGTH"]
    return render_template(
        "index.html",
        results=results or [],
        problem=problem,
        operating_point=operating_point or card.default_operating_point,
        population=population,
        model=card.contents,
        samples=[path.name for path in service.samples],
        formats=["WebP" if name == "WEBP" else name for name in FORMATS],
        max_megabytes=limit // 2**20,
        version=__version__,
    )


def read_for_page(
    name: str, data: bytes, service: Service, request_id: str, operating_point: str, force: bool, population: str | None
) -> dict:
    """Read one film; return all that the templates show of it, or its `problem` where it is refused."""
    result = {"name": name, "bytes": len(data), "problem": None, "forced": force, "read_at": datetime.now(UTC)}
    started = time.perf_counter()
    try:
        prediction = service.predictor.predict(data, operating_point, force, population)
    except PneumoError as error:
        service.metrics.refused(error.error)
        return result | {"problem": error.members()}
    service.metrics.read(prediction)
    preview = Image.fromarray(_to_look_at(prediction.film, data))
    preview.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    return result | {
        "answer": prediction.to_json() | {"request_id": request_id},
        "film": heatmap.to_data_uri(preview, "JPEG", quality=85),
        "overlay": draw(prediction),
        "raised": bool(prediction.strengths.max() > 0),
        "milliseconds": round((time.perf_counter() - started) * 1000),
    }


def draw(prediction: Prediction) -> str | None:
    """Return the overlay as a data URI; None where the model has no map."""
    picture = prediction.overlay()
    return heatmap.to_data_uri(picture) if picture else None


def draw_legend() -> str:
    """Return the scale beside every heat map, the overlay of all strengths from 0 to 1, as a data URI."""
    ramp = np.linspace(0, 1, heatmap.LONGER_SIDE)[None]
    return heatmap.to_data_uri(heatmap.draw_overlay(ramp, 8, 1))


def summarize(count: int, problems: list[dict]) -> str:
    """Return how many of `count` films were read and what refused the others, for the log."""
    refused = ",".join(sorted({problem["error"] for problem in problems}))
    return f"read {count - len(problems)} of {count}" + (f" ({refused})" if refused else "")


def _to_look_at(film: Film, data: bytes) -> np.ndarray:
    """Return the film (H, W) uint8 in the detail that a person looks at: the network's may be less."""
    reduced = film.pixels.size < film.width * film.height
    return decode(data, PREVIEW_SIDE).pixels if reduced else film.pixels
