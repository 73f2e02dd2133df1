"""gunicorn as `make run` and `pneumo serve` start it: workers that are killed, models that change, where it listens."""

import json
import shutil
import signal
import socket
from pathlib import Path

import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from pneumo.model.card import find_card
from tests.support.films import SAMPLES, saved
from tests.support.server import ROOT, Ask, Load, Server, megabytes, outcomes, until

SERVE = ("-c", "from pneumo.cli.main import main; main()", "serve")
FILM = "image/jpeg", SAMPLES[0].read_bytes()


def counts(server):
    """Every line of /metrics as {(name, label values in the order of the labels' names): value}."""
    return {
        (sample.name, *(sample.labels[key] for key in sorted(sample.labels))): sample.value
        for family in text_string_to_metric_families(server.get("/metrics")[1])
        for sample in family.samples
    }


def metrics_folders(server):
    """The folders that its workers write their counts to."""
    maps = [Path(f"/proc/{worker}/maps").read_text().split() for worker in server.workers()]
    return {Path(word).parent for words in maps for word in words if "/gauge_livemax_" in word}


def test_workers_count_together_and_what_a_killed_one_counted_stays(tmp_path):
    with Server(tmp_path / "log", workers=2, PNEUMO_LOG="json") as server:
        before = counts(server)["pneumo_requests_total", "ready", "answered"]
        (folder,) = metrics_folders(server)
        for _ in range(10):
            assert server.get("/health/live")[0] == 200
        assert server.post("/predict", *FILM)[0] == 200
        now = counts(server)
        assert now["pneumo_requests_total", "live", "answered"] == 10
        assert now["pneumo_requests_total", "predict", "answered"] == 1
        assert [value for key, value in now.items() if key[0] == "pneumo_model_info"] == [1]
        victim = server.workers()[0]
        server.signal(signal.SIGKILL, victim)
        until(lambda: victim not in server.workers() and server.ready(), "another worker")
        now = counts(server)
        assert now["pneumo_requests_total", "live", "answered"] == 10
        assert now["pneumo_requests_total", "ready", "answered"] > before
        assert now["pneumo_requests_inside", "waiting"] == now["pneumo_requests_inside", "reading"] == 0
    assert server.process.returncode == 0
    assert not folder.exists()
    lines = [json.loads(line) for line in server.log.read_text().splitlines() if not line.startswith("INFO: ")]
    assert {"gunicorn.error", "pneumo"} == {line["logger"] for line in lines}


@pytest.fixture
def card(tmp_path):
    """A copy of the shipped model's card, gate and served file, which a test may spoil."""
    shipped = find_card("vgg16-chest-xray")
    for suffix in (".tflite", ".gate.npz"):
        shutil.copy(shipped.with_suffix(suffix), tmp_path)
    return Path(shutil.copy(shipped, tmp_path))


def test_a_reload_serves_a_model_that_can_be_and_else_keeps_the_one_there_is(card, tmp_path):
    contents, model = json.loads(card.read_text()), card.with_suffix(".tflite")
    log, whole = tmp_path / "log", model.read_bytes()
    with Server(log, arguments=SERVE, folder=tmp_path, PNEUMO_MODEL=card.name, PYTHONPATH=ROOT) as server:

        def reload(said):
            old, refused = server.workers(), log.read_text().count("Not reloaded")
            server.signal(signal.SIGHUP)
            until(lambda: not set(old) & set(server.workers()) and server.ready(), "other workers")
            words = log.read_text()
            assert words.count("Not reloaded, the old model goes on: ") - refused == bool(said)
            assert said in words
            assert server.post("/predict", *FILM)[0] == 200
            return json.loads(server.get("/health/ready")[1])["model"]["version"]

        card.write_text(json.dumps(contents | {"version": "changed"}))
        assert reload("") == "changed"
        model.write_bytes(whole[:1000])
        card.write_text(json.dumps(contents | {"version": "damaged"}))
        assert reload(f"Expected {model.name} to have SHA-256 {contents['files']['served']['sha256']}, ") == "changed"
        server.signal(signal.SIGKILL, server.worker())  # the next worker starts from memory
        until(server.ready, "another worker")
        assert "changed" in server.get("/health/ready")[1]
        model.write_bytes(whole)
        wrong = contents | {"version": "wrong", "output": contents["output"] | {"shape": [1, 9, 9, 1]}}
        card.write_text(json.dumps(wrong))
        assert reload("Expected the model's outputs to be ") == "changed"
        card.write_text(json.dumps(contents | {"version": "whole"}))
        assert reload("") == "whole"
    assert server.process.returncode == 0


def test_memory_goes_back_after_many_large_films(tmp_path):
    picture = Image.effect_noise((2800, 2800), 40).convert("RGBA")
    asks = [Ask("large", "/predict?force=1", "image/png", saved(picture, "PNG", compress_level=1), 200)]
    with Server(tmp_path / "log", arguments=SERVE, folder=tmp_path, PYTHONPATH=ROOT) as server:
        sent = Load(server.port, asks, clients=4, total=8).start().wait()
        assert outcomes(sent) == {"right": 8}
        assert megabytes(server.worker()) < 250  # 100 before; 31 MB for each film as it is decoded


def test_it_listens_on_ipv6(tmp_path):
    with Server(tmp_path / "log", PNEUMO_HOST="::") as server:
        for address in ("::1", "127.0.0.1"):
            with socket.create_connection((address, server.port), timeout=30) as connection:
                connection.sendall(b"GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
