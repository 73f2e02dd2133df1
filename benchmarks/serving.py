"""What a served film costs, beside the bare model invocation and beside the server that tutorials show.

    make benchmark                                  # minutes; what is measured goes into this folder
    python -m benchmarks.serving --quick FOLDER     # less of everything, for a look

One run on one machine: this server as `make run` starts it, `naive.py`, and `invoke()` alone. Films are the shipped
samples at their original size. Whatever is compared takes turns, so that a disturbance meets all of it. Writes
serving.json, and keeps the last run on every other processor in processors.json; `report.py` makes README.md and
throughput.svg of both, `pneumo document` the README's section on speed.
"""

import argparse
import platform
import re
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from benchmarks import report
from benchmarks.disk import closure, disk, pinned, served_files
from benchmarks.load import (
    READY,
    ROOT,
    Client,
    Server,
    film_request,
    naive_server,
    pneumo_server,
    put_under_load,
    steady,
)
from pneumo import __version__
from pneumo.model.card import Card, read_card
from pneumo.web import settings

CLIENTS = (1, 2, 4, 8, 16)
BARE, SERVED, MAPPED, NAIVE = "bare invocation", "served", "served with heat map", "naive server"
TUTORIAL = ("flask", "gunicorn", "pillow", "tensorflow")  # what naive.py needs


@dataclass(frozen=True)
class Plan:
    """How much is measured; `rounds` of single films, each with every film once."""

    starts: int = 5
    naive_starts: int = 3
    rounds: int = 15
    loads: int = 3
    seconds: float = 3  # of each load
    naive_seconds: float = 7  # at 16 clients the naive server takes seconds for one film
    configuration_seconds: float = 2


QUICK = Plan(starts=1, naive_starts=1, rounds=2, loads=1, seconds=1, naive_seconds=1, configuration_seconds=1)


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


def bare(card: Card, threads: int) -> Callable[[int], None]:
    """The model's `invoke()` alone; what an int8 model reads does not change how long it takes."""
    interpreter = Interpreter(str(card.file("served")), num_threads=threads)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.zeros((1, card.size, card.size, 3), "f4"))
    return lambda number: interpreter.invoke()


def single_films(films: list[bytes], card: Card, threads: list[int], pneumo: Server, naive: Server, plan: Plan) -> dict:
    """Milliseconds of one film without a queue, and of `invoke()` with numbers of `threads`, that of a worker first."""
    client, other = Client(pneumo.port), Client(naive.port)
    plain, mapped = ([film_request(film, heatmap, keep=True) for film in films] for heatmap in (False, True))
    names = [BARE, *(f"{BARE}, threads: {count}" for count in threads[1:])]
    steps = {name: bare(card, count) for name, count in zip(names, threads, strict=True)} | {
        SERVED: lambda number: client.ask(plain[number]),
        MAPPED: lambda number: client.ask(mapped[number]),
        NAIVE: lambda number: other.ask(plain[number]),
    }
    times = in_turns(steps, len(films), plan.rounds)
    client.close()
    other.close()
    return times


def under_load(
    servers: dict[str, tuple[Server, float]], films: list[bytes], counts: tuple[int, ...], loads: int
) -> dict:
    """Films a second, median and 95th percentile of each server (and for how many seconds) at `counts` of clients.

    Films a second are the median of `loads` loads, in turns; the milliseconds are those of all their films.
    """
    requests = [film_request(film) for film in films]
    found = {(name, clients): ([], []) for name in servers for clients in counts}
    for turn in range(loads):
        for clients in counts:
            print(f"load {turn + 1} of {loads}, {clients} clients", flush=True)
            for name in list(servers)[:: 1 if turn % 2 else -1]:
                server, seconds = servers[name]
                took, rate = steady(put_under_load(server.port, requests, clients, seconds))
                found[name, clients][0].extend(1000 * one for one in took)
                found[name, clients][1].append(rate)
    return {
        name: [
            {"clients": clients, "films_a_second": round(statistics.median(found[name, clients][1]), 1)}
            | {"median_ms": round(statistics.median(took), 1), "p95_ms": round(float(np.percentile(took, 95)), 1)}
            for clients in counts
            for took in [found[name, clients][0]]
        ]
        for name in servers
    }


def configurations(cores: int) -> list[tuple[int, int]]:
    """Workers × threads worth a look: powers of two that use half the cores to twice as many; and one of each."""
    powers = [2**n for n in range(cores.bit_length()) if 2**n <= cores]
    fitting = [(w, t) for w in powers for t in powers if cores / 2 <= w * t <= 2 * cores]
    return sorted({(1, 1), *fitting})


def measure_configurations(films: list[bytes], pairs: list[tuple[int, int]], plan: Plan) -> list[dict]:
    """Load with one client and with eight, for each of workers × threads; all of them stand ready and take turns."""
    first = [film_request(films[0])]
    with ExitStack() as stack:
        servers = {
            pair: (stack.enter_context(pneumo_server(first, *pair)), plan.configuration_seconds) for pair in pairs
        }
        for pair, (server, _) in servers.items():
            put_under_load(server.port, first, 4 * pair[0], 1)  # every worker is there, and warm
        found = under_load(servers, films, (1, 8), plan.loads)
        return [
            {"workers": workers, "threads": threads, "load": found[workers, threads], **server.memory()}
            for (workers, threads), (server, _) in servers.items()
        ]


def processor() -> str:
    """Its name, and which instructions for int8 it has: without VNNI or AMX the network takes far longer."""
    told = Path("/proc/cpuinfo").read_text()
    found = re.search(r"model name\s*: (.*)", told)
    quick = [name for name in ("avx2", "avx_vnni", "avx512_vnni", "amx_int8") if re.search(rf"\b{name}\b", told)]
    return ", ".join([found[1] if found else "unknown", *quick])


def measure(plan: Plan) -> dict:
    """Everything; the keys say what."""
    films = [path.read_bytes() for path in sorted((ROOT / "static" / "samples").glob("*.jpeg"))]
    card, cores = read_card(), settings.cores()
    workers, threads = (settings.NUMBERS[name][0] for name in ("WEB_CONCURRENCY", "PNEUMO_THREADS"))
    first = film_request(films[0])
    starts: dict[str, list[list[float]]] = {"pneumo": [], "naive": []}
    print("starts", flush=True)
    for turn in range(max(plan.starts, plan.naive_starts)):
        if turn < plan.starts:
            with pneumo_server([READY, first]) as server:
                starts["pneumo"].append(server.answered)
        if turn < plan.naive_starts:
            with naive_server([first]) as server:
                starts["naive"].append(server.answered)
    with pneumo_server([READY, first]) as pneumo, naive_server([first]) as naive:
        print("single films", flush=True)
        others = [count for count in (1, 2, 4, 8) if count <= cores and count != threads]
        times = single_films(films, card, [threads, *others], pneumo, naive, plan)
        both = {"pneumo": (pneumo, plan.seconds), "naive": (naive, plan.naive_seconds)}
        load = under_load(both, films, CLIENTS, plan.loads)
        memory = {name: server.memory() for name, (server, _) in both.items()}
    median = {name: statistics.median(values) for name, values in times.items()}
    told = [BARE, SERVED, MAPPED, NAIVE]
    weights = [card.file(role) for role in ("base", "top")] + [ROOT / "benchmarks" / "naive.py"]
    return {
        "machine": f"{platform.machine()}, {cores} cores, {threads} threads used",
        "processor": processor(),
        "cores": cores,
        "default": {"workers": workers, "threads": threads},
        "model": {"name": card.name, "version": card.version},
        "program": __version__,
        "films": len(films),
        "rounds": len(times[SERVED]),
        "plan": asdict(plan),
        "median_ms": {name: round(median[name], 1) for name in told},
        "p95_ms": {name: round(float(np.percentile(times[name], 95)), 1) for name in told},
        "ratio_to_bare": {name: round(median[name] / median[BARE], 3) for name in told},
        "bare_ms_by_threads": {
            str(count): round(median[BARE if count == threads else f"{BARE}, threads: {count}"], 1)
            for count in sorted([threads, *others])
        },
        "ready_seconds": round(statistics.median(ready for ready, _ in starts["pneumo"]), 2),
        "first_answer_seconds": {
            name: {"median": round(statistics.median(last), 2), "slowest": round(max(last), 2), "starts": len(last)}
            for name, every in starts.items()
            for last in [[answered[-1] for answered in every]]
        },
        "worker_resident_mb": memory["pneumo"]["resident_mb"],
        "memory": memory,
        "disk": {"pneumo": disk(pinned(), served_files()), "naive": disk(closure(TUTORIAL), weights)},
        "load": load,
        "configurations": measure_configurations(films, sorted({*configurations(cores), (workers, threads)}), plan),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what benchmarks/README.md says.")
    parser.add_argument("--quick", type=Path, metavar="FOLDER", help="less of everything, into another folder")
    folder = (arguments := parser.parse_args()).quick or ROOT / "benchmarks"
    started = time.perf_counter()
    result = measure(QUICK if arguments.quick else Plan())
    folder.mkdir(parents=True, exist_ok=True)
    report.keep(result, folder)
    report.write(folder)
    print(f"{folder}: measured in {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
