"""What a million films cost, and how large a shard should be: per-core rates, measured, and a simulated fleet.

    python -m benchmarks.scale [--price 0.05]     # minutes; writes reports/scale.* and the table in docs/scale.md

The rates are measured on one core of this machine. The fleet is simulated: every film of a million takes a time drawn
from those measured; how many machines are slow or fail is assumed (FLEET), and the report says so.
"""

import argparse
import heapq
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from benchmarks.serving import name_processor
from pneumo import __version__
from pneumo.archive.listing import Shard, find_films
from pneumo.archive.parts import FILMS
from pneumo.films.images import decode
from pneumo.model.card import read_card
from pneumo.model.predictor import Predictor
from pneumo.reports.document import fill
from pneumo.reports.figures import BLUE, GREY, VERMILLION, start_grid
from tests.support.dicom import dcmtk, dicom
from tests.support.films import SAMPLES
from tests.support.server import ROOT

MILLION, HOUR = 10**6, 3600
JPEG, PLAIN, LOSSLESS = "JPEG, as the data set has them", "DICOM, uncompressed", "DICOM, JPEG Lossless"
ROWS, COLUMNS = 2500, 2048  # of the DICOM films, as of a digital detector
GIGABITS = 10  # a second: the network of a usual machine in a data centre
SIZES = (100, 250, 500, 1000, 2000, 5000, 10_000, 100_000)  # films of a shard


@dataclass(frozen=True)
class Fleet:
    """What is assumed: `cores` workers of one core; `slow` of them take `slowness` times as long; how often one fails
    in an hour, and the seconds until another is in its place."""

    films: int = MILLION
    cores: int = 100
    slow: float = 0.05
    slowness: float = 2.0
    failures: float = 0.05
    replaced: float = 60.0


FLEET = Fleet()


def make_films(folder: Path, samples: Sequence[Path] = SAMPLES) -> dict[str, list[bytes]]:
    """The sample films in each of the three forms."""
    found: dict[str, list[bytes]] = {JPEG: [path.read_bytes() for path in samples], PLAIN: [], LOSSLESS: []}
    for data in found[JPEG]:
        film = Image.fromarray(decode(data).pixels).resize((COLUMNS, ROWS), Image.Resampling.BICUBIC)
        plain, packed = folder / "plain.dcm", folder / "packed.dcm"
        plain.write_bytes(dicom(np.asarray(film).astype(np.uint16) * 16, stored=12))
        dcmtk("dcmcjpeg", "+e1", plain, packed)
        found[PLAIN].append(plain.read_bytes())
        found[LOSSLESS].append(packed.read_bytes())
    return found


def measure_films(films: dict[str, list[bytes]], rounds: int) -> dict[str, dict]:
    """Seconds of every film on one core, all forms in turns, and of its decoding alone; and megabytes of a film."""
    every, card = os.sched_getaffinity(0), read_card()
    os.sched_setaffinity(0, {min(every)})
    try:
        predictor = Predictor(card, threads=1)
        seconds: dict[str, list[float]] = {kind: [] for kind in films}
        decoding: dict[str, list[float]] = {kind: [] for kind in films}
        for turn in range(rounds + 1):  # the first is not counted: the DICOM reader starts
            for kind, ones in films.items():
                for data in ones:
                    started = time.perf_counter()
                    decode(data, card.size)
                    decoded = time.perf_counter()
                    predictor.predict(data, force=True)
                    if turn:
                        decoding[kind].append(decoded - started)
                        seconds[kind].append(time.perf_counter() - decoded)
    finally:
        os.sched_setaffinity(0, every)
    return {
        kind: {
            "seconds": [round(value, 4) for value in seconds[kind]],
            "decoding": round(statistics.mean(decoding[kind]), 4),
            "megabytes": round(statistics.mean(map(len, films[kind])) / 1e6, 2),
        }
        for kind in films
    }


def measure_start(folder: Path, runs: int = 3) -> float:
    """Seconds that a process takes for one film, its first: nearly all of them are the start."""
    took = []
    for _ in range(runs):
        started = time.perf_counter()
        command = [sys.executable, "-m", "pneumo", "predict", SAMPLES[0], "--csv", folder / "out.csv"]
        subprocess.run([*map(str, command)], cwd=ROOT, check=True, capture_output=True)
        took.append(time.perf_counter() - started)
    return round(statistics.median(took), 2)


def measure_listing(folder: Path, names: int = 20_000) -> float:
    """Microseconds a name of an archive for a shard to find its own films, on a disk of this machine."""
    for number in range(names):
        path = folder / "names" / f"{number % 20}" / f"{number}.jpeg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    started = time.perf_counter()
    list(find_films([str(folder / "names")], shard=Shard(0, 1000)))
    return round((time.perf_counter() - started) / names * 1e6, 1)


def compute_costs(films: dict[str, dict], price: float) -> list[dict]:
    """Core hours and money of a million films of each form, what bounds them, and what they ask of a network."""
    rows = []
    for kind, one in films.items():
        mean = statistics.mean(one["seconds"])
        rows.append(
            {
                "kind": kind,
                "films_a_second": round(1 / mean, 1),
                "core_hours": round(mean * MILLION / HOUR, 1),
                "money": round(mean * MILLION / HOUR * price, 2),
                "gigabytes": round(one["megabytes"] * MILLION / 1000),
                "decoding": round(one["decoding"] / mean, 2),
                "cores_of_a_link": round(GIGABITS * 1000 / 8 / (one["megabytes"] / mean)),
            }
        )
    return rows


def simulate(seconds: np.ndarray, overhead: float, size: int, fleet: Fleet, rng: np.random.Generator) -> dict:
    """Read an archive in shards of `size` films with a fleet; a shard that failed goes on with its next part.

    `seconds` are those of films to draw from; `overhead` those of each start of a shard. Returns `hours` until the last
    shard is done, `core_hours` that were paid, and the minutes that every shard took, from its first start to its end.
    """
    parts = rng.choice(seconds, fleet.films).reshape(fleet.films // size, -1, min(size, FILMS)).sum(axis=2)
    pace = np.where(rng.random(fleet.cores) < fleet.slow, fleet.slowness, 1.0)
    free, waiting = [(0.0, worker) for worker in range(fleet.cores)], [(0.0, shard) for shard in range(len(parts))]
    done, begun, ended, paid = np.zeros(len(parts), int), np.full(len(parts), np.inf), np.zeros(len(parts)), 0.0
    while waiting:
        (since, shard), (now, worker) = heapq.heappop(waiting), heapq.heappop(free)
        now = max(now, since)
        begun[shard] = min(begun[shard], now)
        times = overhead + np.cumsum(parts[shard, done[shard] :]) * pace[worker]
        fails = rng.exponential(HOUR / fleet.failures) if fleet.failures else np.inf
        if fails < times[-1]:
            done[shard] += np.searchsorted(times, fails, side="right")
            heapq.heappush(waiting, (now + fails, shard))
            heapq.heappush(free, (now + fails + fleet.replaced, worker))
        else:
            ended[shard] = now + times[-1]
            heapq.heappush(free, (ended[shard], worker))
        paid += min(fails, times[-1])
    return {"hours": ended.max() / HOUR, "core_hours": paid / HOUR, "minutes": (ended - begun) / 60}


def simulate_sizes(result: dict, runs: int, fleet: Fleet = FLEET) -> list[dict]:
    """Hours until the end and core hours for each size of a shard, of JPEG films: mean and worst of some runs."""
    seconds = np.array(result["films"][JPEG]["seconds"])
    overhead = result["start_seconds"] + result["listing_microseconds"] * fleet.films / 1e6
    ideal, rows = seconds.mean() * fleet.films / fleet.cores / HOUR, []
    for size in SIZES:
        found = [simulate(seconds, overhead, size, fleet, np.random.default_rng(run)) for run in range(runs)]
        calm = simulate(seconds, overhead, size, replace(fleet, slow=0, failures=0), np.random.default_rng(0))
        rows.append(
            {
                "size": size,
                "shards": fleet.films // size,
                "calm_hours": round(calm["hours"], 3),
                "hours": round(statistics.mean(one["hours"] for one in found), 3),
                "worst_hours": round(max(one["hours"] for one in found), 3),
                "core_hours": round(statistics.mean(one["core_hours"] for one in found), 2),
                "times_ideal": round(statistics.mean(one["hours"] for one in found) / ideal, 2),
                "minutes": np.percentile(found[0]["minutes"], (5, 50, 95, 100)).round(2).tolist(),
            }
        )
    return rows


def measure(price: float, rounds: int = 12, runs: int = 10) -> dict:
    """Everything; the keys say what."""
    busy = os.getloadavg()[1]
    with tempfile.TemporaryDirectory() as name:
        folder, card = Path(name), read_card()
        result = {
            "machine": name_processor(),
            "others": round(busy, 1),
            "model": {"name": card.name, "version": card.version},
            "program": __version__,
            "price": price,
            "films": measure_films(make_films(folder), rounds),
            "start_seconds": measure_start(folder),
            "listing_microseconds": measure_listing(folder),
            "fleet": asdict(FLEET),
        }
    result["costs"] = compute_costs(result["films"], price)
    result["sizes"] = simulate_sizes(result, runs)
    return result | {"best": min(result["sizes"], key=lambda row: row["hours"])}


def draw(result: dict, path: Path) -> None:
    """Draw the seconds of a film, and the hours until the end by the size of a shard."""
    figure, (left, right) = start_grid(2, 2, 4)
    for (kind, one), colour in zip(result["films"].items(), (BLUE, VERMILLION, GREY), strict=True):
        left.ecdf(1000 * np.array(one["seconds"]), color=colour, label=kind)
    left.set(xlabel="Milliseconds of a film on one core", ylabel="Share of films", xscale="log")
    left.legend(fontsize=8)
    sizes = [row["size"] for row in result["sizes"]]
    for key, colour, words in (
        ("calm_hours", BLUE, "nothing fails"),
        ("hours", VERMILLION, "with slow and failing machines"),
        ("worst_hours", GREY, "the worst run"),
    ):
        right.plot(sizes, [row[key] for row in result["sizes"]], "o-", color=colour, label=words)
    right.set(xlabel="Films in a shard", ylabel="Hours until the last shard is done", xscale="log", yscale="log")
    right.legend(fontsize=8)
    figure.savefig(path, dpi=120)


def write(name: str, result: dict) -> str:
    """Fill a template of this folder."""
    filling = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=False,  # Markdown
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return filling.get_template(name).render(result, gigabits=GIGABITS, rows=ROWS, columns=COLUMNS)


def main() -> None:
    """Measure, and write the report and the table in docs/scale.md."""
    parser = argparse.ArgumentParser(description="Measure what reports/scale.md says.")
    parser.add_argument("--price", type=float, default=0.05, help="of a core for an hour")
    result = measure(parser.parse_args().price)
    (ROOT / "reports" / "scale.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    (ROOT / "reports" / "scale.md").write_text(write("scale.md.j2", result), encoding="utf-8")
    draw(result, ROOT / "reports" / "scale.png")
    page = ROOT / "docs" / "scale.md"
    page.write_text(fill(page.read_text(encoding="utf-8"), {"costs": write("costs.md.j2", result)}), encoding="utf-8")


if __name__ == "__main__":
    main()
