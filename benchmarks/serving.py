"""What a served film costs, beside the bare model invocation and beside the server that tutorials show.

    make benchmark                                  # minutes; writes serving.json and README.md of this folder
    python -m benchmarks.serving --quick FOLDER     # less of everything, for a look

One run on one machine: this server as `make run` starts it, the same behind nginx, `naive.py`, and `invoke()` alone.
Whatever is compared takes turns, so that a disturbance meets all of it: the ratios count, not the milliseconds. Films
are the shipped samples at their original size.
"""

import argparse
import json
import os
import platform
import queue
import re
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from jinja2 import Environment, StrictUndefined

from pneumo import __version__
from pneumo.films.film import to_input
from pneumo.films.images import decode
from pneumo.model.card import Card, read_card
from pneumo.web import settings
from tests.support.films import SAMPLES
from tests.support.proxy import Proxy
from tests.support.server import HOST, PATIENCE, ROOT, Ask, Endpoint, Load, Server, megabytes

FOLDER = ROOT / "benchmarks"
BARE, SERVED, MAPPED, NGINX, NAIVE = (
    "bare invocation",
    "served",
    "served with heat map",
    "served behind nginx",
    "naive server",
)
FILMS = [path.read_bytes() for path in SAMPLES]
CLIENTS = (1, 8)
MOST = 1.02  # of the bare pace: a film cannot take less than its bare part
UNLIMITED = {"PROXY_RATE": 10**6, "PROXY_BURST": 10**5}


@dataclass(frozen=True)
class Plan:
    """How much is measured; `rounds` of single films, each with every film once; seconds of each load."""

    starts: int = 5
    rounds: int = 15
    loads: int = 3
    seconds: float = 4
    folder: int = 200


QUICK = Plan(starts=1, rounds=2, loads=1, seconds=1, folder=8)


class NaiveServer(Server):
    """The server of `naive.py`, from a folder where gunicorn does not find this project's settings."""

    def __init__(self, log: Path) -> None:
        arguments = ("-m", "gunicorn", "--workers", "1", "--timeout", str(PATIENCE), "--no-control-socket", "naive:app")
        # Both servers run on the processor; TensorFlow would take a graphics card where there is one.
        quiet = {"CUDA_VISIBLE_DEVICES": -1, "TF_CPP_MIN_LOG_LEVEL": 3}
        super().__init__(log, arguments=arguments, folder=FOLDER, PYTHONPATH=ROOT, **quiet)

    def ready(self) -> bool:
        """Whether it answers a film."""
        return self.post("/predict", "image/jpeg", FILMS[0])[0] == 200


def in_turns(steps: dict[str, Callable[[int], object]], count: int, rounds: int) -> dict[str, list[float]]:
    """Milliseconds of each step, called with 0 to `count` - 1 in each round.

    In each round each step is called once more before, unmeasured: what ran before it has cooled its caches, and
    threads of that may still spin.
    """
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(rounds):
        for name in list(steps)[:: 1 if turn % 2 else -1]:
            steps[name](0)
            for number in range(count):
                started = time.perf_counter()
                steps[name](number)
                times[name].append((time.perf_counter() - started) * 1000)
    return times


def make_interpreter(card: Card, threads: int) -> Interpreter:
    """An interpreter of the served model with an input; what an int8 model reads does not change how long it takes."""
    interpreter = Interpreter(str(card.file("served")), num_threads=threads)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.zeros((1, card.size, card.size, 3), "f4"))
    interpreter.invoke()  # the first pass is slow
    return interpreter


def asking(
    server: Endpoint, path: str = "/predict", films: Sequence[bytes] = FILMS, kind: str = "image/jpeg"
) -> Callable[[int], None]:
    """A function that sends the film of that number on a connection that is kept, and expects an answer."""
    connection = HTTPConnection(HOST, server.port, timeout=PATIENCE)

    def ask(number: int) -> None:
        if connection.sock and select.select([connection.sock], [], [], 0)[0]:
            connection.close()  # the server has: it waits 2 s for the next request
        connection.request("POST", path, films[number], {"Content-Type": kind})
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(f"Expected 200, received {answer.status}: {answer.read().decode()}")
        answer.read()

    return ask


def put_under_load(server: Endpoint, clients: int, seconds: float) -> tuple[list[float], float]:
    """Milliseconds of each film, and films a second, while so many clients have one film after the other read.

    Raises:
        RuntimeError: a film was not answered.
    """
    asks = [Ask("film", "/predict", "image/jpeg", film, 200) for film in FILMS]
    load = Load(server.port, asks, clients).start()
    time.sleep(0.25 * seconds)  # the queue grows
    begin = time.monotonic()
    time.sleep(seconds)
    end = time.monotonic()
    sent = load.stop()
    if wrong := [one for one in sent if one.outcome != "right"]:
        raise RuntimeError(f"Expected answers to all films, received {wrong[0].outcome} {wrong[0].detail}.")
    inside = [one for one in sent if begin <= one.ended <= end]
    return [1000 * (one.ended - one.begun) for one in inside], len(inside) / (end - begin)


def measure_load(servers: dict[str, Endpoint], plan: Plan) -> dict:
    """Films a second, median and 95th percentile of each server at CLIENTS, the servers in turns."""
    found = {(name, clients): ([], []) for name in servers for clients in CLIENTS}
    for turn in range(plan.loads):
        for name in list(servers)[:: 1 if turn % 2 else -1]:
            for clients in CLIENTS:
                took, rate = put_under_load(servers[name], clients, plan.seconds)
                found[name, clients][0].extend(took)
                found[name, clients][1].append(rate)
    return {
        name: [
            {
                "clients": clients,
                "films_a_second": round(statistics.median(found[name, clients][1]), 1),
                "median_ms": round(statistics.median(found[name, clients][0]), 1),
                "p95_ms": round(float(np.percentile(found[name, clients][0], 95)), 1),
            }
            for clients in CLIENTS
        ]
        for name in servers
    }


def measure_starts(plan: Plan, folder: Path) -> tuple[float, dict]:
    """Seconds from the start to readiness, and to a first answer of this server and of the naive one: medians."""
    ready, first = [], {"pneumo": [], "naive": []}
    for _ in range(plan.starts):
        started = time.perf_counter()
        with Server(folder / "log", workers=settings.NUMBERS["WEB_CONCURRENCY"][0]) as server:
            ready.append(time.perf_counter() - started)
            asking(server)(0)
            first["pneumo"].append(time.perf_counter() - started)
        started = time.perf_counter()
        with NaiveServer(folder / "log"):  # it is there when it has answered
            first["naive"].append(time.perf_counter() - started)
    median = {name: {"median": round(statistics.median(seconds), 2)} for name, seconds in first.items()}
    return round(statistics.median(ready), 2), median


def bare_pace(card: Card, films: int) -> float:
    """Films a second of decoding and `invoke()` alone, with a thread a core."""
    free: queue.SimpleQueue[Interpreter] = queue.SimpleQueue()
    for _ in range(settings.cores()):
        free.put(make_interpreter(card, threads=1))

    def read(number: int) -> None:
        to_input(decode(FILMS[number % len(FILMS)], card.size).pixels, card.size)
        interpreter = free.get()
        interpreter.invoke()
        free.put(interpreter)

    started = time.perf_counter()
    with ThreadPoolExecutor(settings.cores()) as pool:
        list(pool.map(read, range(films)))
    return films / (time.perf_counter() - started)


def measure_folder(card: Card, plan: Plan) -> dict:
    """Films a second of `pneumo predict` over a folder, without its start, and the bare pace before and after it."""

    def predict(films: int) -> tuple[float, float]:
        """Seconds and peak resident megabytes."""
        with tempfile.TemporaryDirectory() as folder:
            for number in range(films):
                Path(folder, f"{number:06}.jpeg").symlink_to(SAMPLES[number % len(SAMPLES)])
            command = [sys.executable, "-c", "from pneumo.cli.main import main; main()", "predict", folder]
            started = time.perf_counter()
            running = subprocess.Popen([*command, "--csv", f"{folder}/out.csv"], cwd=ROOT, stderr=subprocess.DEVNULL)
            _, status, usage = os.wait4(running.pid, 0)
            if status:
                raise RuntimeError(f"Expected `pneumo predict` to end with 0, received {status}.")
            return time.perf_counter() - started, usage.ru_maxrss * 1024 / 1e6

    cores, found = settings.cores(), []
    for _ in range(plan.loads):
        before = bare_pace(card, plan.folder)
        (start, _), (seconds, peak) = predict(cores), predict(plan.folder)
        pace = (plan.folder - cores) / (seconds - start)  # a film a core is in the start
        found.append((pace, (before + bare_pace(card, plan.folder)) / 2, peak))
    return {
        "films": plan.folder,
        "films_a_second": round(statistics.median(pace for pace, *_ in found), 1),
        "bare_films_a_second": round(statistics.median(bare for _, bare, _ in found), 1),
        "share": round(statistics.median(pace / bare for pace, bare, _ in found), 3),
        "peak_mb": round(max(peak for *_, peak in found)),
    }


def name_processor() -> str:
    """Its name, and which instructions for int8 it has: without VNNI or AMX the network takes far longer."""
    told = Path("/proc/cpuinfo").read_text()
    found = re.search(r"model name\s*: (.*)", told)
    quick = [name for name in ("avx2", "avx_vnni", "avx512_vnni", "amx_int8") if re.search(rf"\b{name}\b", told)]
    return ", ".join([found[1] if found else "unknown", *quick])


def measure(plan: Plan) -> dict:
    """Everything; the keys say what."""
    card, cores, busy = read_card(), settings.cores(), os.getloadavg()[1]
    workers, threads = (settings.NUMBERS[name][0] for name in ("WEB_CONCURRENCY", "PNEUMO_THREADS"))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ready, first = measure_starts(plan, folder)
        pneumo = stack.enter_context(Server(folder / "pneumo", workers=workers))
        nginx = stack.enter_context(Proxy(pneumo.port, **UNLIMITED))
        naive = stack.enter_context(NaiveServer(folder / "naive"))
        interpreter = make_interpreter(card, threads)
        steps = {
            BARE: lambda number: interpreter.invoke(),
            SERVED: asking(pneumo),
            MAPPED: asking(pneumo, "/predict?heatmap=1"),
            NGINX: asking(nginx),
            NAIVE: asking(naive),
        }
        times = in_turns(steps, len(FILMS), plan.rounds)
        load = measure_load({"pneumo": pneumo, "nginx": nginx, "naive": naive}, plan)
        memory = {
            name: {key: round(max(megabytes(pid, state) for pid in server.workers())) for key, state in MEMORY.items()}
            for name, server in (("pneumo", pneumo), ("naive", naive))
        }
    median = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "machine": f"{platform.machine()}, {cores} cores, {threads} threads used",
        "processor": name_processor(),
        "others": round(busy, 1),
        "default": {"workers": workers, "threads": threads},
        "model": {"name": card.name, "version": card.version},
        "program": __version__,
        "rounds": len(times[SERVED]),
        "median_ms": {name: round(value, 1) for name, value in median.items()},
        "p95_ms": {name: round(float(np.percentile(values, 95)), 1) for name, values in times.items()},
        "ratio_to_bare": {name: round(value / median[BARE], 3) for name, value in median.items()},
        "ready_seconds": ready,
        "first_answer_seconds": first,
        "worker_resident_mb": memory["pneumo"]["resident_mb"],
        "memory": memory,
        "load": load,
        "folder": measure_folder(card, plan),
    }
    met = [target["met"] for target in list_targets(result)]
    return result | {"targets": {"missed": met.count(False), "of": len(met), "rows": list_targets(result)}}


MEMORY = {"resident_mb": "VmRSS", "peak_mb": "VmHWM"}


def list_targets(result: dict) -> list[dict]:
    """What is aimed at, the limit, what was measured, and whether it is met."""
    eight = {name: loads[-1]["films_a_second"] for name, loads in result["load"].items()}
    ratio, bare = result["ratio_to_bare"], result["folder"]["bare_films_a_second"]
    rows = [
        ("Times the naive server's films a second, 8 clients", "≥", 5, eight["pneumo"] / eight["naive"]),
        ("Times the bare invocation, one client", "≤", 1.2, ratio[SERVED]),
        ("The same with heat map", "≤", 1.35, ratio[MAPPED]),
        ("Films a second of 8 clients, of the bare pace on every core", "≥", 0.85, eight["pneumo"] / bare),
        ("Films a second of `pneumo predict`, of the bare pace", "≥", 0.9, result["folder"]["share"]),
        ("Seconds from the start to a first answer", "≤", 1.5, result["first_answer_seconds"]["pneumo"]["median"]),
        ("Most MB that a worker held", "≤", 250, result["memory"]["pneumo"]["peak_mb"]),
    ]
    return [
        {
            "aim": aim,
            "limit": f"{sign} {limit}",
            "measured": round(value, 2),
            "met": value >= limit if sign == "≥" else value <= limit,
        }
        for aim, sign, limit, value in rows
    ]


def page(result: dict) -> str:
    """The figures as Markdown."""
    template = Path(__file__).with_name("README.md.j2").read_text(encoding="utf-8")
    filling = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    return filling.from_string(template).render(result)


def main() -> None:
    """Measure, and write serving.json and README.md."""
    parser = argparse.ArgumentParser(description="Measure what benchmarks/README.md says.")
    parser.add_argument("--quick", type=Path, metavar="FOLDER", help="less of everything, into another folder")
    folder = (arguments := parser.parse_args()).quick or FOLDER
    result = measure(QUICK if arguments.quick else Plan())
    if (share := result["folder"]["share"]) > MOST:
        raise SystemExit(f"`pneumo predict` reached {share} of the bare pace: measure again when nothing else runs.")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "serving.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(page(result), encoding="utf-8")


if __name__ == "__main__":
    main()
