"""Does `pneumo predict` keep every core busy, in memory that does not grow with the films?

    .venv/bin/python benchmarks/batch.py [FILMS]

Reads a folder of FILMS links to the shipped samples at their original size (200 unless given), then one of twice as
many, as the command does, in processes of their own; four times. A film costs at least one bare `invoke()` with one
thread and its decoding: the share reached is that time over the time that a film took. Both are measured with a thread
a core, and in pairs: the bare films right before and right after each run, since a machine's clock, and who else is on
it, change. The start is left out: it is that of a run right before, over a film a core. Writes benchmarks/batch.json
and its lines of benchmarks/README.md, unless a film took less than its bare part, which cannot be.
"""

import json
import os
import platform
import queue
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

from pneumo import __version__
from pneumo.films.film import to_input
from pneumo.films.images import decode
from pneumo.model.card import read_card
from pneumo.web.settings import cores

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = sorted((ROOT / "static" / "samples").glob("*.jpeg"))
FILMS, BARE, ROUNDS, TARGET = 200, 50, 4, 0.9  # BARE films a core
MOST = 1.02  # a larger share was measured wrongly


class Floor:
    """What every film costs at least: a bare invocation with one thread, and decoding; on every core at once."""

    def __init__(self) -> None:
        self.films, self.size = [path.read_bytes() for path in SAMPLES], (card := read_card()).size
        self.free: queue.SimpleQueue[Interpreter] = queue.SimpleQueue()
        first = to_input(decode(self.films[0], self.size).pixels, self.size)
        for _ in range(cores()):
            interpreter = Interpreter(str(card.file("served")), num_threads=1)
            interpreter.allocate_tensors()
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], first)
            interpreter.invoke()  # the first pass is slow
            self.free.put(interpreter)

    def read(self, number: int) -> None:
        decode(self.films[number % len(self.films)], self.size)
        interpreter = self.free.get()
        interpreter.invoke()
        self.free.put(interpreter)

    def measure(self, films: int) -> tuple[float, float]:
        """Seconds and processor seconds a film."""
        started, worked = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(cores()) as pool:
            list(pool.map(self.read, range(films)))
        return (time.perf_counter() - started) / films, (time.process_time() - worked) / films


@dataclass(frozen=True)
class Pair:
    """Seconds and processor seconds a film: of a run over so many `films`, without its start, and bare beside it."""

    films: int
    seconds: float
    worked: float
    bare_seconds: float
    bare_worked: float
    start_seconds: float
    megabytes: float


def predict(films: int) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak resident megabytes of `pneumo predict` over a folder of so many films."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(films):
            Path(folder, f"{number:06}.jpeg").symlink_to(SAMPLES[number % len(SAMPLES)])
        command = [sys.executable, "-c", "from pneumo.cli.main import main; main()", "predict", folder]
        started = time.perf_counter()
        running = subprocess.Popen([*command, "--csv", f"{folder}/out.csv"], cwd=ROOT, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(running.pid, 0)
        seconds = time.perf_counter() - started
        rows = Path(folder, "out.csv").read_text().count("\n") - 1
        if status or rows != films:
            raise RuntimeError(f"Expected {films} rows and exit status 0, received {rows} and {status}.")
    worked = usage.ru_utime + usage.ru_stime
    return seconds, worked, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6  # bytes there, else KiB


def pairs(films: int) -> list[Pair]:
    """Runs over `films` and over twice as many, in turns."""
    floor, found, bare = Floor(), [], BARE * cores()
    floor.measure(bare)  # a machine's clock falls when it has worked for some time
    before = floor.measure(bare)
    for number in range(2 * ROUNDS):
        count = films * (1 + number % 2)
        start, run = predict(cores()), predict(count)  # a film a core is in the start
        after = floor.measure(bare)
        seconds, worked = ((run[i] - start[i]) / (count - cores()) for i in (0, 1))
        beside = map(statistics.mean, zip(before, after, strict=True))
        found.append(Pair(count, seconds, worked, *beside, start_seconds=start[0], megabytes=run[2]))
        before = after
    return found


def summary(found: list[Pair]) -> dict:
    """Medians over all pairs, of memory the most.

    Raises:
        SystemExit: a film took less than its bare part.
    """
    median = {name: statistics.median(vars(pair)[name] for pair in found) for name in vars(found[0])}
    share, worked = (
        statistics.median(vars(pair)[f"bare_{name}"] / vars(pair)[name] for pair in found)
        for name in ("seconds", "worked")
    )
    if max(share, worked) > MOST:
        raise SystemExit(
            f"Expected a film to cost no less than its bare part, received {share:.3f} of its time and {worked:.3f} of "
            "its processor time as the bare part: measure again when nothing else runs. Nothing was written."
        )
    sizes = sorted({pair.films for pair in found})
    return {
        "films": sizes,
        "rounds": len(found) // len(sizes),
        "start_seconds": round(median["start_seconds"], 2),
        "films_a_second": round(1 / median["seconds"], 1),
        "bare_films_a_second": round(1 / median["bare_seconds"], 1),
        "processor_ms_a_film": round(1000 * median["worked"], 1),
        "bare_processor_ms_a_film": round(1000 * median["bare_worked"], 1),
        "share_of_all_cores": round(share, 3),
        "target": TARGET,
        "peak_resident_mb": [round(max(pair.megabytes for pair in found if pair.films == size)) for size in sizes],
    }


def main(films: int = FILMS) -> None:
    card = read_card()
    result = {
        "machine": f"{platform.machine()}, {cores()} cores",
        "model": {"name": card.name, "version": card.version},
        "program": __version__,
        **summary(pairs(films)),
    }
    (ROOT / "benchmarks" / "batch.json").write_text(json.dumps(result, indent=2) + "\n")
    subprocess.run([sys.executable, "-m", "benchmarks.report"], cwd=ROOT, check=True)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
