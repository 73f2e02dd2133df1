"""What Prometheus is told. No label holds anything that a stranger sent: all come from sets that the code knows.

Under several gunicorn workers their numbers meet in files in PROMETHEUS_MULTIPROC_DIR, which pneumo.web.server makes
before anything here is imported: the library looks for that variable once.
"""

import os

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.multiprocess import MultiProcessCollector

from pneumo.model.card import UNFAMILIAR
from pneumo.model.predictor import Prediction

# A film takes 0.05 s where nobody waits, a DICOM file 0.3 s, and browsers give up after 120 s.
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 60, 120)
PROBABILITIES = (0.01, 0.05, *(tenth / 10 for tenth in range(1, 10)), 0.95, 0.99, 1)
DISTANCES = (0.25, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5, 2, 3)  # beyond 1 a film is unfamiliar

disable_created_metrics()


class Metrics:
    """The counts of one process since its start, and the model it serves."""

    def __init__(self, model: str, version: str) -> None:
        self._registry = CollectorRegistry()
        add = {"registry": self._registry}
        self._requests = Counter(
            "pneumo_requests", "Requests answered, refused (4xx, or busy) or failed", ["endpoint", "outcome"], **add
        )
        self._seconds = Histogram(
            "pneumo_request_seconds", "From the request's headers to its answer", ["endpoint"], buckets=SECONDS, **add
        )
        self._refusals = Counter("pneumo_refusals", "Requests and films refused, by reason", ["error"], **add)
        self._films = Counter("pneumo_films", "Films read, by label", ["label"], **add)
        whose = ["population"]
        self._unfamiliar = Counter("pneumo_unfamiliar_films", "Films read that the model knows none like", whose, **add)
        self._probability = Histogram(
            "pneumo_probability", "Of pneumonia, of the films read", whose, buckets=PROBABILITIES, **add
        )
        self._distance = Histogram(
            "pneumo_distance", "Of the films read, from familiar ones: up to 1", whose, buckets=DISTANCES, **add
        )
        # livesum, livemax: a worker that has ended waits for nothing and serves no model
        inside = Gauge(
            "pneumo_requests_inside",
            "Requests with films: waiting, or with a film being read",
            ["state"],
            multiprocess_mode="livesum",
            **add,
        )
        self._inside = [inside.labels(state) for state in ("waiting", "reading")]
        self._model = Gauge(
            "pneumo_model_info", "The model served: always 1", ["name", "version"], multiprocess_mode="livemax", **add
        )
        self._model.labels(model, version).set(1)
        self.inside(0, 0)

    def answered(self, endpoint: str, status: int, seconds: float) -> None:
        """Count one request by the name of its route, and how long it took."""
        busy_or_bad = 400 <= status < 500 or status == 503
        outcome = "answered" if status < 400 else "refused" if busy_or_bad else "failed"
        self._requests.labels(endpoint, outcome).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def refused(self, error: str) -> None:
        """Count one request or film by the word of its problem."""
        self._refusals.labels(error).inc()

    def read(self, prediction: Prediction) -> None:
        """Count one film by its label; one that was not forced also by how likely and how familiar it is."""
        self._films.labels(prediction.label).inc()
        if prediction.refused:  # what is no chest film says nothing of how the films change
            return
        population = prediction.population["name"]
        self._unfamiliar.labels(population).inc(prediction.triage == UNFAMILIAR)  # 0 makes the count known as 0
        self._probability.labels(population).observe(prediction.probability)
        self._distance.labels(population).observe(prediction.distance)

    def inside(self, waiting: int, reading: int) -> None:
        """Set how many requests with films wait, and how many have a film read now."""
        for state, count in zip(self._inside, (waiting, reading), strict=True):
            state.set(count)

    def text(self) -> tuple[bytes, str]:
        """Everything in Prometheus' text format, of all workers where there are several, and its content type."""
        registry = self._registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)
        return generate_latest(registry), CONTENT_TYPE
