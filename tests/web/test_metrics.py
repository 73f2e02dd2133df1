"""GET /metrics: what is counted in one process, and that several workers' numbers are one."""

import http.client
import io
import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from app import create_app
from pneumo.web.metrics import Metrics
from tests.support.films import SAMPLES

ROOT = Path(__file__).parents[2]


def samples(text):
    """Every line as {(name, label values in the order of the labels' names): value}."""
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def png(grey):
    buffer = io.BytesIO()
    Image.fromarray(np.full((64, 64), grey, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_requests_films_and_refusals_are_counted(mean_grey):
    client = create_app({"PREDICTOR": mean_grey, "TESTING": True}).test_client()
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
    counted = samples(answer.text)
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
        ("pneumo_requests_inside", "arriving"): 0,
        ("pneumo_requests_inside", "waiting"): 0,
        ("pneumo_requests_inside", "reading"): 0,
        ("pneumo_model_info", "mean-grey", "1"): 1,
        ("pneumo_request_seconds_count", "predict"): 3,
    }
    assert {key: counted.get(key) for key in expected} == expected
    kinds = {"pneumo_requests_total", "pneumo_films_total", "pneumo_refusals_total"}
    assert {key for key in counted if key[0] in kinds} == {key for key in expected if key[0] in kinds}


def test_times_fall_into_buckets_and_a_failure_is_no_refusal():
    metrics = Metrics("m", "1")
    for seconds in (0.02, 0.04, 0.2, 30):
        metrics.answered("predict", 200, seconds)
    for status in (500, 503, 429):
        metrics.answered("predict", status, 0)
    metrics.inside(2, 4, 3)
    counted = samples(metrics.text()[0].decode())
    for bound, count in (("0.01", 3), ("0.025", 4), ("0.05", 5), ("0.25", 6), ("20.0", 6), ("60.0", 7), ("+Inf", 7)):
        assert counted["pneumo_request_seconds_bucket", "predict", bound] == count
    assert counted["pneumo_request_seconds_sum", "predict"] == pytest.approx(30.26)
    outcomes = {outcome: counted["pneumo_requests_total", "predict", outcome] for outcome in ("failed", "refused")}
    assert outcomes == {"failed": 1, "refused": 2}
    assert [counted["pneumo_requests_inside", s] for s in ("arriving", "waiting", "reading")] == [2, 4, 3]


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def worker_environment(port, workers):
    return os.environ | {"PORT": str(port), "WEB_CONCURRENCY": str(workers), "PNEUMO_THREADS": "1"}


def get(port, path, body=None):
    """One request on a connection of its own, so that any worker may take it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST" if body else "GET", path, body, {"Content-Type": "image/jpeg"} if body else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def until(condition, seconds=60):
    """Ask again and again until there is an answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if answer := condition():
                return answer
        except OSError:
            pass
        time.sleep(0.05)
    raise AssertionError("expected an answer in time, received none")


def children(process):
    return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()


def folders(process):
    """The folder of its metrics for each worker that has some."""
    maps = [Path(f"/proc/{child}/maps").read_text() for child in children(process)]
    return [Path(found[1]) for one in maps if (found := re.search(r" (/\S+/pneumo-metrics-\S+)/gauge_livemax_", one))]


def test_workers_count_together_what_an_ended_one_counted_stays_and_memory_goes_back(tmp_path):
    port = free_port()
    environment = worker_environment(port, 2) | {"PNEUMO_LOG": "json"}
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", "gunicorn"], cwd=ROOT, env=environment, stderr=log)
    try:
        until(lambda: len(folders(server)) == 2 and get(port, "/health/ready")[0] == 200)
        (where,) = set(folders(server))
        film = SAMPLES[0].read_bytes()
        for _ in range(10):
            assert get(port, "/health/live")[0] == 200
        assert get(port, "/predict", film)[0] == 200

        def counted():
            return samples(get(port, "/metrics")[1])

        now = counted()
        assert now["pneumo_requests_total", "live", "answered"] == 10
        assert now["pneumo_requests_total", "predict", "answered"] == 1
        assert [value for key, value in now.items() if key[0] == "pneumo_model_info"] == [1]
        first = children(server)[0]
        os.kill(int(first), signal.SIGKILL)
        until(lambda: first not in children(server))
        until(lambda: len(folders(server)) == 2)
        now = counted()
        assert now["pneumo_requests_total", "live", "answered"] == 10
        assert now["pneumo_requests_inside", "waiting"] == 0
        # many large pictures at a time leave nothing behind
        buffer = io.BytesIO()
        Image.new("RGBA", (2800, 2800), (90, 90, 90, 200)).save(buffer, "PNG", compress_level=1)
        with ThreadPoolExecutor(12) as pool:
            answers = list(pool.map(lambda _: get(port, "/predict?force=1", buffer.getvalue())[0], range(24)))
        assert set(answers) <= {200, 503}
        for worker in children(server):
            status = Path(f"/proc/{worker}/status").read_text()
            assert int(status.split("VmRSS:")[1].split()[0]) * 1024 < 250e6
    finally:
        server.terminate()
        assert server.wait(60) == 0
    assert not where.exists()
    assert '"endpoint": "predict"' in (tmp_path / "log").read_text()
