"""DICOM beside JPEG, and the node between real peers: killed at every state, sent films three times, and its pace.

    python -m benchmarks.hospital                            # some minutes; writes reports/hospital.json and .md
    python -m benchmarks.hospital --kills 5 --films 8 --report runs/hospital

dcmtk's storescu sends, Debian's Orthanc is the archive. Progress goes to stderr. Ends with 1 where something was lost
or doubled.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from benchmarks.serving import asking, in_turns
from pneumo import __version__
from pneumo.model.card import find_card, read_card
from pneumo.node.store import STATES, Row
from tests.support.films import SAMPLES
from tests.support.hospital import NORMAL, Archive, NodeProcess, film, free_port, send_to_peer, storescu
from tests.support.server import ROOT, Server, until

TEMPLATE = ROOT / "benchmarks" / "hospital.md.j2"
MOST = 3  # times the JPEG that the DICOM file of a film may take
KINDS = {"SR": "reports", "OT": "captures"}


def say(what: str) -> None:
    """Tell the progress."""
    print(what, file=sys.stderr, flush=True)


def study_of(number: int) -> str:
    """The Study Instance UID of `film(number)`."""
    return f"1.2.3.4.{number}.1"


def write_films(folder: Path, numbers: Sequence[int], **elements: object) -> list[Path]:
    """Write sample films, a study each; every other one shows a pneumonia."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in numbers:
        path = folder / f"{number}.dcm"
        options = {} if number % 2 else {"path": NORMAL}
        path.write_bytes(film(number, **options, **elements))
        paths.append(path)
    return paths


def send(port: int, paths: Sequence[Path], called: str = "PNEUMO") -> None:
    """Send films and be told that they are safe.

    Raises:
        RuntimeError: one was not taken.
    """
    done = storescu(port, *paths, called=called)
    if done.returncode:
        raise RuntimeError(f"Expected storescu to end with 0, received {done.returncode}: {done.stderr}")


def rows_of(node: NodeProcess) -> dict[str, Row]:
    """The node's rows by study."""
    store = node.store()
    try:
        return {row.study: row for row in store.find_where("TRUE")}
    finally:
        store.close()


def reach(archive: Archive, node: NodeProcess, number: int, wanted: str, folder: Path) -> None:
    """Send a film, and return when it is in the state that is wanted: the archive stands still, or is away."""
    study = study_of(number)
    if wanted in ("read", "refused"):
        archive.process.send_signal(signal.SIGSTOP)
    if wanted == "failed":
        archive.stop()
    elements = {"ViewPosition": "LL"} if wanted == "refused" else {}
    send(node.port, write_films(folder, [number], **elements))
    if wanted != "received":  # there it is as soon as storescu has ended
        until(lambda: rows_of(node)[study].state == wanted, f"a film that is {wanted}", 120)


def kill(archive: Archive, node: NodeProcess, folder: Path, times: int) -> dict:
    """Kill the node with a film in each state in turn, start it again, and count what is in the archive at the end.

    `found` counts the states in which the killed node left its film.
    """
    found: Counter[str] = Counter()
    numbers = range(1, times + 1)
    for number, wanted in zip(numbers, islice(cycle(STATES), times), strict=True):
        reach(archive, node, number, wanted, folder)
        node.kill()
        found[rows_of(node)[study_of(number)].state] += 1
        if wanted in ("read", "refused"):
            archive.process.send_signal(signal.SIGCONT)
        if wanted == "failed":
            archive.start()
        node.start()
        say(f"killed {number} of {times}, {wanted}")
    studies = [study_of(number) for number in numbers]
    counts = count_results(archive, node, studies)
    return {"times": times, "found": {state: found[state] for state in STATES}, **counts}


def send_three_times(archive: Archive, node: NodeProcess, folder: Path, numbers: Sequence[int]) -> dict:
    """Send the same films three times, twice while the first still waits and once after its results are there."""
    paths, studies = write_films(folder, numbers), [study_of(number) for number in numbers]
    send(node.port, paths)
    send(node.port, paths)
    count_results(archive, node, studies)
    send(node.port, paths)
    return count_results(archive, node, studies)


def count_results(archive: Archive, node: NodeProcess, studies: Sequence[str]) -> dict:
    """Wait until the node has nothing to do, and count what the archive has of each study."""

    def is_done() -> bool:
        time.sleep(0.2)  # looking takes time from the node
        rows = rows_of(node)
        return all(study in rows and rows[study].state == "sent" for study in studies)

    until(is_done, f"{len(studies)} films whose results are sent", 120 + 5 * len(studies))
    counts = [{kind: len(ids) for kind, ids in archive.instances(study).items()} for study in studies]
    told = {name: sum(count.get(kind, 0) for count in counts) for kind, name in KINDS.items()}
    return {
        "films": len(studies),
        **told,
        "lost": sum(count.get(kind, 0) == 0 for count in counts for kind in KINDS),
        "doubled": sum(count.get(kind, 0) > 1 for count in counts for kind in KINDS),
    }


def measure_pace(archive: Archive, node: NodeProcess, folder: Path, numbers: Sequence[int]) -> dict:
    """Films a second that are acknowledged, each on the disk by then, and whose results the archive has."""
    paths, studies = write_films(folder, numbers), [study_of(number) for number in numbers]
    started = time.perf_counter()
    send(node.port, paths)
    acknowledged = time.perf_counter() - started
    count_results(archive, node, studies)
    through = time.perf_counter() - started
    megabytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
    return {
        "films": len(paths),
        "megabytes": round(megabytes, 2),
        "acknowledged_a_second": round(len(paths) / acknowledged, 1),
        "through_a_second": round(len(paths) / through, 1),
    }


def measure_formats(folder: Path, rounds: int) -> dict:
    """Milliseconds (medians) of the server's answers to the sample films, as JPEG and as DICOM, in turns."""
    films = [film(number, path) for number, path in enumerate(SAMPLES)]
    with Server(folder / "server.log") as server:
        steps = {"JPEG": asking(server), "DICOM": asking(server, films=films, kind="application/dicom")}
        found = {name: statistics.median(times) for name, times in in_turns(steps, len(films), rounds).items()}
    times = found["DICOM"] / found["JPEG"]
    median = {name: round(value, 1) for name, value in found.items()}
    return {"median_ms": median, "rounds": rounds, "times": round(times, 2), "most": MOST, "met": times <= MOST}


def page(found: dict) -> str:
    """The report as Markdown."""
    filling = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    return filling.from_string(TEMPLATE.read_text(encoding="utf-8")).render(found)


def run(folder: Path, kills: int, films: int) -> dict:
    """Kill, repeat, and measure the node's pace; the archive does not route here: what is sent is what arrives."""
    port = free_port()
    with (
        Archive(folder / "archive", port, route=False) as archive,
        NodeProcess(folder / "node", *send_to_peer(archive), port=port) as node,
    ):
        killed = kill(archive, node, folder / "kills", kills)
        say("three times")
        repeated = send_three_times(archive, node, folder / "repeated", range(1001, 1004))
        say("pace")
        pace = measure_pace(archive, node, folder / "pace", range(2001, 2001 + films))
        store = node.store()
        dropped = store.count()["dropped"]
        store.close()
    return {"kill": killed, "repeat": repeated, "pace": pace, "dropped": dropped}


def main() -> int:
    """Measure, and write the report; 1 where something was lost or doubled."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hospital", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="kills (20)")
    parser.add_argument("--films", type=int, default=64, metavar="N", help="films whose pace is measured (64)")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="times that each film is read (15)")
    parser.add_argument("--report", type=Path, default=ROOT / "reports" / "hospital", metavar="PATH")
    arguments = parser.parse_args()
    asked = "".join(f" --{n} {v}" for n, v in vars(arguments).items() if n != "report" and v != parser.get_default(n))
    load = round(os.getloadavg()[1], 1)
    with tempfile.TemporaryDirectory(prefix="pneumo-hospital-") as folder:
        formats = measure_formats(Path(folder), arguments.rounds)
        found = run(Path(folder), arguments.kills, arguments.films) | {"formats": formats}
    found |= {
        "command": f"python -m benchmarks.hospital{asked}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load": load,
        "model": read_card(find_card("vgg16-chest-xray")).model,
        "program": __version__,
    }
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    arguments.report.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    arguments.report.with_suffix(".md").write_text(page(found), encoding="utf-8")
    return int(any(found[name]["lost"] + found[name]["doubled"] for name in ("kill", "repeat")))


if __name__ == "__main__":
    sys.exit(main())
