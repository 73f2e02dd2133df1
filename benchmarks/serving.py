"""What a served prediction costs beside the bare model invocation, in one run on this machine.

    .venv/bin/python benchmarks/serving.py

Starts the server as `make run` does, with one worker, and takes turns: one bare `invoke()` here with as many threads
as the worker has, one film over HTTP, one film over HTTP with its heat map. Films are the shipped samples at their
original size. Writes benchmarks/serving.json; `pneumo document` puts its figures into the README.
"""

import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

from pneumo.card import read_card
from pneumo.images import decode, to_input

ROOT = Path(__file__).resolve().parent.parent
PORT, THREADS, ROUNDS, WARM_UP = 5099, 2, 60, 5


def request(connection: http.client.HTTPConnection, path: str, film: bytes) -> dict:
    connection.request("POST", path, film, {"Content-Type": "image/jpeg"})
    answer = connection.getresponse()
    body = json.loads(answer.read())
    if answer.status != 200:
        raise RuntimeError(f"Expected 200, received {answer.status}: {body}")
    return body


def start_server() -> tuple[subprocess.Popen, float]:
    """Start gunicorn and wait until it is ready; returns it and the seconds that took."""
    environment = os.environ | {"PORT": str(PORT), "WEB_CONCURRENCY": "1", "PNEUMO_THREADS": str(THREADS)}
    started = time.perf_counter()
    command = [Path(sys.executable).with_name("gunicorn"), "-c", "gunicorn.conf.py"]
    server = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    while time.perf_counter() - started < 30:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=5)
        try:
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return server, time.perf_counter() - started
        except ConnectionError:
            time.sleep(0.02)
        finally:
            connection.close()
    server.terminate()
    raise RuntimeError("The server was not ready within 30 s.")


def resident_megabytes(server: subprocess.Popen) -> float:
    """Resident memory of the worker, gunicorn's only child, in MB."""
    (worker,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    status = Path(f"/proc/{worker}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


def main() -> None:
    films = [path.read_bytes() for path in sorted((ROOT / "static" / "samples").glob("*.jpeg"))]
    card = read_card()
    bare = Interpreter(str(card.file("served")), num_threads=THREADS)
    bare.allocate_tensors()
    batches = [to_input(decode(film).pixels, card.size) for film in films]
    server, ready = start_server()
    times: dict[str, list[float]] = {"bare invocation": [], "served": [], "served with heat map": []}
    try:
        connection = http.client.HTTPConnection("127.0.0.1", PORT)
        for number in range(ROUNDS + WARM_UP):
            film, batch = films[number % len(films)], batches[number % len(films)]
            bare.set_tensor(bare.get_input_details()[0]["index"], batch)
            steps = {
                "bare invocation": bare.invoke,
                "served": lambda film=film: request(connection, "/predict", film),
                "served with heat map": lambda film=film: request(connection, "/predict?heatmap=1", film),
            }
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                if number >= WARM_UP:
                    times[name].append((time.perf_counter() - started) * 1000)
        memory = resident_megabytes(server)
    finally:
        server.terminate()
        server.wait()
    median = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {THREADS} threads used",
        "model": {"name": card.name, "version": card.version},
        "films": len(films),
        "rounds": ROUNDS,
        "median_ms": {name: round(value, 1) for name, value in median.items()},
        "ratio_to_bare": {name: round(value / median["bare invocation"], 3) for name, value in median.items()},
        "ready_seconds": round(ready, 2),
        "worker_resident_mb": round(memory),
    }
    (ROOT / "benchmarks" / "serving.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
