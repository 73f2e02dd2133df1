"""Try to break the service, behind nginx and bare, and write reports/reliability.json and .md: `make reliability`.

    python -m tests.reliability                                   # half an hour
    python -m tests.reliability --soak 200 --fuzz 300 --only soak,fuzz --report runs/reliability

Progress goes to stderr. Ends with 1 where the pair did not hold; what the bare server does not hold is said only.
"""

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

from jinja2 import Environment

from pneumo import __version__
from pneumo.model.card import find_card, read_card
from tests.reliability import experiments
from tests.support.server import ROOT

TEMPLATE = Path(__file__).with_name("report.md.j2")
HASH = re.compile(r"(?<=\b[0-9a-f]{8})[0-9a-f]{56}\b")  # all but the beginning of a SHA-256
ONCE = ("soak", "fuzz", "damaged_models")  # behind nginx only: they are long, and say nothing of slow clients


def chosen(arguments: argparse.Namespace) -> dict[str, Callable]:
    """The experiments in their order, with the sizes asked for."""
    every = {
        "kill": partial(experiments.kill, times=arguments.times),
        "terminate": partial(experiments.terminate, times=arguments.times),
        "reload": partial(experiments.reload, times=arguments.times),
        "damaged_models": experiments.damaged_models,
        "full_disk": experiments.full_disk,
        "slow_clients": partial(experiments.slow_clients, connections=500, seconds=arguments.slow_seconds),
        "hostile_requests": experiments.hostile_requests,
        "fuzz": partial(experiments.fuzz, inputs=arguments.fuzz),
        "soak": partial(experiments.soak, requests=arguments.soak),
    }
    only = arguments.only.split(",") if arguments.only else list(every)
    if unknown := set(only) - set(every):
        raise SystemExit(f"Expected experiments of {', '.join(every)}, received {', '.join(sorted(unknown))}.")
    return {name: every[name] for name in every if name in only}


def page(found: dict) -> str:
    """The report as Markdown."""
    filling = Environment(autoescape=False, keep_trailing_newline=True)
    filling.filters["shorten"] = lambda sentence: HASH.sub("…", sentence)
    return filling.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        **found,
        lost=sum(one["numbers"].get("lost", 0) for one in found["results"] if not one["bare"]),
        broken=[one["done"] for one in found["results"] if one["bare"] and not one["holds"]],
    )


def run(todo: dict[str, Callable]) -> list[dict]:
    """What came of each experiment, in the pair and, unless it is one of ONCE, of the bare server."""
    results = []
    with tempfile.TemporaryDirectory(prefix="pneumo-reliability-") as folder:
        for name, experiment in todo.items():
            for bare in (False,) if name in ONCE else (False, True):
                began = time.monotonic()

                def say(what: str, name: str = name, bare: bool = bare, began: float = began) -> None:
                    where = "bare" if bare else "behind nginx"
                    print(f"{name} {where}, {time.monotonic() - began:.0f} s: {what}", file=sys.stderr, flush=True)

                result = experiment(Path(folder), say, bare)
                say(f"{'held' if result.holds else 'DID NOT HOLD'}: {result.found}")
                results.append({"name": name, "bare": bare, **asdict(result)})
    return results


def main() -> int:
    """Run the experiments and write what came of them; 1 where one did not hold behind nginx."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__.splitlines()[0])
    add = partial(parser.add_argument, type=int)
    add("--soak", default=10_000, metavar="N", help="requests of the soak (10,000)")
    add("--fuzz", default=20_000, metavar="N", help="damaged films (20,000)")
    add("--times", default=10, metavar="N", help="kills, terminations and reloads (10 each)")
    add("--slow-seconds", default=60, metavar="S", help="how long 500 slow connections go on (60)")
    parser.add_argument("--only", metavar="NAMES", help="some experiments, with commas between them")
    parser.add_argument("--report", type=Path, default=ROOT / "reports" / "reliability", metavar="PATH")
    arguments = parser.parse_args()
    asked = {name: value for name, value in vars(arguments).items() if value != parser.get_default(name)}
    asked.pop("report", None)
    found = {
        "command": "python -m tests.reliability" + "".join(f" --{n.replace('_', '-')} {v}" for n, v in asked.items()),
        "shorter": bool(asked),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load": round(os.getloadavg()[1], 1),
        "model": read_card(find_card("vgg16-chest-xray")).model,
        "program": __version__,
        "results": run(chosen(arguments)),
    }
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    arguments.report.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    arguments.report.with_suffix(".md").write_text(page(found), encoding="utf-8")
    return int(not all(one["holds"] for one in found["results"] if not one["bare"]))


if __name__ == "__main__":
    sys.exit(main())
