"""Does `pneumo predict` keep every core busy, in memory that does not grow with the films?

    .venv/bin/python benchmarks/batch.py [FILMS]

Reads a folder of FILMS links to the shipped samples at their original size (400 unless given), then one of twice as
many, as the command does, in processes of their own. A film costs at least one bare `invoke()` with one thread and its
decoding: the share reached is that time over the cores' time that a film took, without the start, which is that of a
run over one film. Bare invocation and decoding are measured before, between and after the runs, since a machine's
clock changes. Writes benchmarks/batch.json.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ai_edge_litert.interpreter import Interpreter

from pneumo.card import read_card
from pneumo.images import decode, to_input
from pneumo.settings import cores

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = sorted((ROOT / "static" / "samples").glob("*.jpeg"))
FILMS, ROUNDS, TARGET = 400, 40, 0.9


class Floor:
    """What every film costs at least: seconds of a bare invocation with one thread, and of decoding a sample."""

    def __init__(self) -> None:
        self.films = [path.read_bytes() for path in SAMPLES]
        self.invoking: list[float] = []
        self.decoding: list[list[float]] = [[] for _ in self.films]  # some are larger
        card = read_card()
        self.interpreter = Interpreter(str(card.file("served")), num_threads=1)
        self.interpreter.allocate_tensors()
        first = to_input(decode(self.films[0]).pixels, card.size)
        self.interpreter.set_tensor(self.interpreter.get_input_details()[0]["index"], first)
        self.interpreter.invoke()  # the first pass is slow

    def measure(self) -> None:
        for number in range(ROUNDS):
            which = number % len(self.films)
            started = time.perf_counter()
            self.interpreter.invoke()
            invoked = time.perf_counter()
            decode(self.films[which])
            self.invoking.append(invoked - started)
            self.decoding[which].append(time.perf_counter() - invoked)

    def seconds(self) -> tuple[float, float]:
        """Medians of both, that of decoding as the mean of the samples."""
        return statistics.median(self.invoking), statistics.mean(map(statistics.median, self.decoding))


def predict(films: int) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak resident megabytes of `pneumo predict` over a folder of so many films."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(films):
            Path(folder, f"{number:06}.jpeg").symlink_to(SAMPLES[number % len(SAMPLES)])
        command = [sys.executable, "-c", "from pneumo.cli import main; main()", "predict", folder]
        started = time.perf_counter()
        running = subprocess.Popen([*command, "--csv", f"{folder}/out.csv"], cwd=ROOT, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(running.pid, 0)
        seconds = time.perf_counter() - started
        rows = Path(folder, "out.csv").read_text().count("\n") - 1
        if status or rows != films:
            raise RuntimeError(f"Expected {films} rows and exit status 0, received {rows} and {status}.")
    worked = usage.ru_utime + usage.ru_stime
    return seconds, worked, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6  # bytes there, else KiB


def main(films: int = FILMS) -> None:
    floor, runs = Floor(), []
    floor.measure()
    for count in (1, films, 2 * films):
        runs.append(predict(count))
        floor.measure()
    seconds, worked, megabytes = zip(*runs, strict=True)
    invoking, decoding = floor.seconds()
    read = 3 * films - 2  # one film of each run is in the start
    rate = read / (sum(seconds[1:]) - 2 * seconds[0])
    share = rate / (cores() / (invoking + decoding))
    card = read_card()
    result = {
        "machine": f"{platform.machine()}, {cores()} cores",
        "model": {"name": card.name, "version": card.version},
        "films": [films, 2 * films],
        "bare_invocation_ms": round(1000 * invoking, 1),
        "invocations_a_second_on_one_core": round(1 / invoking, 1),
        "decoding_ms": round(1000 * decoding, 1),
        "start_seconds": round(seconds[0], 2),
        "films_a_second": round(rate, 1),
        "processor_ms_a_film": round(1000 * (sum(worked[1:]) - 2 * worked[0]) / read, 1),
        "share_of_all_cores": round(share, 3),
        "target": TARGET,
        "peak_resident_mb": [round(peak) for peak in megabytes[1:]],
    }
    (ROOT / "benchmarks" / "batch.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
