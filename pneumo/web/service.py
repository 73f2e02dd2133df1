"""What every route needs; an app has one."""

from dataclasses import dataclass
from pathlib import Path

from flask import current_app

from pneumo.model.predictor import Predictor
from pneumo.web.admission import FilmQueue
from pneumo.web.metrics import Metrics


@dataclass(frozen=True)
class Service:
    """The model, the queue before it, the counts, the hashes of keys, the origins that may ask, the sample films."""

    predictor: Predictor
    queue: FilmQueue
    metrics: Metrics
    keys: frozenset[bytes]
    origins: frozenset[str]
    samples: tuple[Path, ...]


def get_service() -> Service:
    """Return the service of the app that answers this request."""
    return current_app.extensions["pneumo"]
