"""Everything that is done to the service to see whether it breaks; `make reliability` runs it.

    python -m tests.reliability                                   # some ten minutes; writes reports/reliability.*
    python -m tests.reliability --soak 200 --fuzz 300 --only soak,fuzz --report runs/reliability

Progress goes to stderr. Ends with 1 where something did not hold.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pneumo import __version__
from pneumo.model.card import find_card, read_card
from tests.reliability import experiments, report
from tests.support.server import ROOT


def chosen(arguments: argparse.Namespace) -> dict[str, Callable]:
    """The experiments in their order, with the sizes asked for."""
    every = {
        "soak": partial(experiments.soak, requests=arguments.soak),
        "kill": partial(experiments.kill, times=arguments.times),
        "terminate": partial(experiments.terminate, times=arguments.times),
        "reload": partial(experiments.reload, times=arguments.times),
        "damaged_models": experiments.damaged_models,
        "full_disk": experiments.full_disk,
        "slow_clients": partial(experiments.slow_clients, connections=arguments.slow, seconds=arguments.slow_seconds),
        "hostile_requests": experiments.hostile_requests,
        "fuzz": partial(experiments.fuzz, inputs=arguments.fuzz),
    }
    only = arguments.only.split(",") if arguments.only else list(every)
    if unknown := set(only) - set(every):
        raise SystemExit(f"Expected experiments of {', '.join(every)}, received {', '.join(sorted(unknown))}.")
    return {name: every[name] for name in every if name in only}


def main() -> int:
    """Run the experiments and write what came of them; 1 where one did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__.splitlines()[0])
    add = partial(parser.add_argument, type=int)
    add("--soak", default=10_000, metavar="N", help="requests of the soak (10,000)")
    add("--fuzz", default=20_000, metavar="N", help="damaged films (20,000)")
    add("--times", default=10, metavar="N", help="kills, terminations and reloads (10 each)")
    add("--slow", default=40, metavar="N", help="slow connections (40)")
    add("--slow-seconds", default=60, metavar="S", help="how long they go on (60)")
    parser.add_argument("--only", metavar="NAMES", help="some experiments, with commas between them")
    parser.add_argument("--report", type=Path, default=ROOT / "reports" / "reliability", metavar="PATH")
    arguments, results = parser.parse_args(), {}
    todo, card = chosen(arguments), read_card(find_card("vgg16-chest-xray"))
    with tempfile.TemporaryDirectory(prefix="pneumo-reliability-") as folder:
        for name, experiment in todo.items():
            began = time.monotonic()

            def say(what: str, name: str = name, began: float = began) -> None:
                print(f"{name}, {time.monotonic() - began:.0f} s: {what}", file=sys.stderr, flush=True)

            say("begins")
            results[name] = experiment(Path(folder), say)
            say("held" if results[name]["holds"] else "DID NOT HOLD")
    asked = {name: value for name, value in vars(arguments).items() if value != parser.get_default(name)}
    asked.pop("report", None)
    options = "".join(f" --{name.replace('_', '-')} {value}" for name, value in asked.items())
    found = {
        "command": f"python -m tests.reliability{options}",
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "model": card.model,
        "program": __version__,
        "experiments": results,
    }
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    arguments.report.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    arguments.report.with_suffix(".md").write_text(report.markdown(found), encoding="utf-8")
    return int(not all(result["holds"] for result in results.values()))


if __name__ == "__main__":
    sys.exit(main())
