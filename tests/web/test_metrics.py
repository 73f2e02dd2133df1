"""GET /metrics: what is counted, in one process."""

import io
from dataclasses import replace

import pytest
from PIL import Image

from app import create_app
from pneumo.web.metrics import Metrics
from tests.support.films import TwoPopulations, saved
from tests.support.web import counts


def png(grey):
    return saved(Image.new("L", (64, 64), grey), "PNG")


def test_requests_films_and_refusals_are_counted(client):
    assert client.post("/predict", data=png(200), content_type="image/png").json["label"] == "PNEUMONIA"
    files = [(io.BytesIO(data), "Jane-Doe.png") for data in (png(10), png(20), b"no film", b"no film", png(250))]
    client.post("/predict", data={"file": files})
    client.post("/", data={"file": [(io.BytesIO(png(10)), "Jane-Doe.png"), (io.BytesIO(png(9)[:60]), "x")]})
    client.post("/predict?operating_point=Jane-Doe", data=png(10), content_type="image/png")
    client.get("/patients/Jane-Doe")
    client.delete("/predict")
    client.get("/health/live")
    answer = client.get("/metrics")
    assert answer.content_type.startswith("text/plain; version=")
    assert "Jane" not in answer.text
    counted = counts(answer.text)
    expected = {
        ("pneumo_requests_total", "predict", "answered"): 2,
        ("pneumo_requests_total", "predict", "refused"): 1,
        ("pneumo_requests_total", "page_answer", "answered"): 1,
        ("pneumo_requests_total", "none", "refused"): 2,
        ("pneumo_requests_total", "live", "answered"): 1,
        ("pneumo_films_total", "PNEUMONIA"): 2,
        ("pneumo_films_total", "NORMAL"): 3,
        ("pneumo_refusals_total", "unsupported_format"): 2,
        ("pneumo_refusals_total", "unreadable"): 1,
        ("pneumo_refusals_total", "unknown_operating_point"): 1,
        ("pneumo_refusals_total", "not_found"): 1,
        ("pneumo_refusals_total", "method_not_allowed"): 1,
        ("pneumo_requests_inside", "waiting"): 0,
        ("pneumo_requests_inside", "reading"): 0,
        ("pneumo_model_info", "mean-grey", "1"): 1,
        ("pneumo_request_seconds_count", "predict"): 3,
    }
    assert {key: counted.get(key) for key in expected} == expected
    kinds = {"pneumo_requests_total", "pneumo_films_total", "pneumo_refusals_total"}
    assert {key for key in counted if key[0] in kinds} == {key for key in expected if key[0] in kinds}


def test_drift_shows_by_population():
    model = TwoPopulations()
    client = create_app({"PREDICTOR": model, "TESTING": True}).test_client()
    ask = {"data": png(153), "content_type": "image/png"}  # 60 %: a child's 0.60, an adult's 0.36
    for population in ("child", "child", "adult"):
        client.post(f"/predict?population={population}", **ask)
    model.unlike = -10.0  # the limit is 9; what is further is refused as well, unless it is forced
    model.gate = replace(model.gate, largest_distance=11.0)
    client.post("/predict?population=adult", **ask)
    model.unlike = -12.0
    client.post("/predict?population=adult", **ask)
    client.post("/predict?population=adult&force=1", **ask)
    counted = counts(client.get("/metrics").text)
    assert [counted["pneumo_unfamiliar_films_total", one] for one in ("child", "adult")] == [0, 1]
    assert [counted["pneumo_probability_count", one] for one in ("child", "adult")] == [2, 2]
    assert [counted["pneumo_probability_bucket", limit, "child"] for limit in ("0.5", "0.7")] == [0, 2]
    assert [counted["pneumo_probability_bucket", limit, "adult"] for limit in ("0.3", "0.4")] == [0, 2]
    # 5 / 9 twice, then 5 / 9 and 10 / 9
    assert [counted["pneumo_distance_bucket", limit, "child"] for limit in ("0.5", "0.6")] == [0, 2]
    adults = [counted["pneumo_distance_bucket", limit, "adult"] for limit in ("0.5", "0.6", "1.0", "1.25")]
    assert adults == [0, 1, 1, 2]
    assert counted["pneumo_films_total", "NORMAL"] + counted["pneumo_films_total", "PNEUMONIA"] == 5
    assert counted["pneumo_refusals_total", "not_a_chest_film"] == 1


def test_times_fall_into_buckets_and_a_failure_is_no_refusal():
    metrics = Metrics("m", "1")
    for seconds in (0.02, 0.04, 0.2, 30):
        metrics.answered("predict", 200, seconds)
    for status in (500, 503, 429):
        metrics.answered("predict", status, 0)
    metrics.inside(4, 3)
    counted = counts(metrics.text()[0].decode())
    for bound, count in (("0.01", 3), ("0.025", 4), ("0.05", 5), ("0.25", 6), ("20.0", 6), ("60.0", 7), ("+Inf", 7)):
        assert counted["pneumo_request_seconds_bucket", "predict", bound] == count
    assert counted["pneumo_request_seconds_sum", "predict"] == pytest.approx(30.26)
    outcomes = {outcome: counted["pneumo_requests_total", "predict", outcome] for outcome in ("failed", "refused")}
    assert outcomes == {"failed": 1, "refused": 2}
    assert [counted["pneumo_requests_inside", state] for state in ("waiting", "reading")] == [4, 3]
