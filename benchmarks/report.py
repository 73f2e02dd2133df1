"""serving.json, processors.json and batch.json -> README.md and throughput.svg beside them; measures nothing.

`make benchmark` comes here by itself; after a change of words only, `python -m benchmarks.report` does.
"""

import json
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
BLUE, VERMILLION = "#0072B2", "#D55E00"  # Okabe and Ito's, as in pneumo.report
NAMES = {"pneumo": "this server", "naive": "naive server"}
TIMES_NAIVE, TIMES_BARE, TIMES_BARE_MAPPED, QUEUE, FIRST_ANSWER, WORKER_MB = 5, 1.20, 1.35, 1.3, 1.5, 250
BIGGER = (4, 8, 16, 32)  # cores


def table(head: Iterable[object], rows: Iterable[Iterable[object]]) -> list[str]:
    """Lines of a Markdown table."""
    head = list(head)
    return [f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)]


def program(found: dict) -> str:
    """Which program had the model, where that was kept."""
    return f" in pneumo {found['program']}" if "program" in found else ""


def at(loads: list[dict], clients: int) -> dict:
    """The load with so many clients."""
    return next(load for load in loads if load["clients"] == clients)


def times_naive(result: dict) -> dict[int, float]:
    """Films a second of this server over those of the naive one, for each number of clients."""
    pairs = zip(result["load"]["pneumo"], result["load"]["naive"], strict=True)
    return {ours["clients"]: ours["films_a_second"] / theirs["films_a_second"] for ours, theirs in pairs}


def service_ms(result: dict) -> float:
    """What one film costs one core: its median when it is alone with one worker of one thread."""
    one = next(c for c in result["configurations"] if (c["workers"], c["threads"]) == (1, 1))
    return at(one["load"], 1)["median_ms"]


def queue_ms(result: dict) -> float:
    """Within what 95 % of the films of eight clients are to be answered."""
    return QUEUE * 8 * service_ms(result) / result["cores"]


def over(ratio: float) -> str:
    """By how much `ratio` is more than one."""
    return f"{100 * (ratio - 1):.1f} %"


def targets(result: dict) -> list[tuple[str, str, str, bool]]:
    """What is aimed at, how much of it is allowed, what was measured, and whether that is met."""
    lowest = min(times_naive(result).values())
    served, mapped = (result["ratio_to_bare"][name] for name in ("served", "served with heat map"))
    queue = queue_ms(result)
    p95 = at(result["load"]["pneumo"], 8)["p95_ms"]
    first, peak = result["first_answer_seconds"]["pneumo"]["median"], result["memory"]["pneumo"]["peak_mb"]
    return [
        (
            "Times the naive server's films a second, where that is least",
            f"≥ {TIMES_NAIVE}",
            f"{lowest:.2f}",
            lowest >= TIMES_NAIVE,
        ),
        ("Overhead over the bare invocation", f"≤ {over(TIMES_BARE)}", over(served), served <= TIMES_BARE),
        ("The same with heat map", f"≤ {over(TIMES_BARE_MAPPED)}", over(mapped), mapped <= TIMES_BARE_MAPPED),
        (
            f"95th percentile at 8 clients: {QUEUE} × 8 × {service_ms(result)} ms / {result['cores']} cores",
            f"≤ {queue:.0f} ms",
            f"{p95:.0f} ms",
            p95 <= queue,
        ),
        ("Start to first answer, median", f"≤ {FIRST_ANSWER} s", f"{first} s", first <= FIRST_ANSWER),
        ("Most memory a worker held", f"≤ {WORKER_MB} MB", f"{peak} MB", peak <= WORKER_MB),
    ]


def missed(result: dict) -> tuple[int, int]:
    """How many targets are missed, of how many."""
    met = [met for *_, met in targets(result)]
    return met.count(False), len(met)


def compared(what: str, pairs: list[tuple[float, float, str]]) -> str:
    """A sentence on `what`: quicker or slower with more threads, by (more, one, its words); less is quicker."""
    quicker, slower = (any(sign * (one - more) > 0 for more, one, _ in pairs) for sign in (1, -1))
    found = "quicker in part, slower in part" if quicker and slower else "quicker" if quicker else "slower"
    return f"{what}: {found if quicker or slower else 'the same'} ({', '.join(words for *_, words in pairs)})."


def what_threads_gain(result: dict) -> list[str]:
    """Sentences on more threads against one, with as many workers as by default: for one client, and for eight."""
    workers, threads = result["default"]["workers"], result["default"]["threads"]
    loads = {one["threads"]: one["load"] for one in result["configurations"] if one["workers"] == workers}
    many = threads if threads > 1 else min((count for count in loads if count > 1), default=1)
    if many == 1 or not {1, many} <= set(loads):
        return []

    def pair(clients: int, key: str, words: str, sign: int = 1) -> tuple[float, float, str]:
        more, one = at(loads[many], clients)[key], at(loads[1], clients)[key]
        return sign * more, sign * one, words.format(more, one)

    median = "median {} against {} ms"
    eight = [
        pair(8, "median_ms", median),
        pair(8, "p95_ms", "95 % {} against {} ms"),
        pair(8, "films_a_second", "{} against {} films a second", -1),
    ]
    return [
        f"Measured with {workers} worker(s), {many} threads each against one.",
        compared("One client", [pair(1, "median_ms", median)]),
        compared("Eight clients", eight),
    ]


def folder_of_films(batch: dict | None) -> list[str]:
    """Lines on `pneumo predict`, of batch.json."""
    if not batch:
        return []
    lines = ["", "## A folder of films", ""]
    less, more = batch["films"]
    rows = [
        ("films a second", batch["films_a_second"], batch["bare_films_a_second"]),
        ("ms of a processor, a film", batch["processor_ms_a_film"], batch["bare_processor_ms_a_film"]),
    ]
    memory = " and ".join(f"{peak} MB" for peak in batch["peak_resident_mb"])
    return [
        *lines,
        *table(("", "`pneumo predict`", "bare, a thread a core"), rows),
        "",
        f"Figures of `batch.json`: model {batch['model']['name']} {batch['model']['version']}{program(batch)}, "
        f"{batch['machine']}. `pneumo predict` read {less} films, and {more}, {batch['rounds']} times each; *bare* is "
        "decoding and `invoke()` alone, before and after each. It keeps "
        f"{100 * batch['share_of_all_cores']:.0f} % of the pace (aimed at: {100 * batch['target']:.0f} %), the median "
        f"of all pairs, and held {memory} at most.",
    ]


def workers_and_threads(result: dict) -> list[str]:
    """Lines on what was measured of workers × threads, and how the default compares."""
    default = (result["default"]["workers"], result["default"]["threads"])
    rows, rates, alone = [], {}, {}
    for one in result["configurations"]:
        pair = one["workers"], one["threads"]
        lone, eight = at(one["load"], 1), at(one["load"], 8)
        rates[pair], alone[pair] = eight["films_a_second"], lone["median_ms"]
        name = f"{pair[0]} × {pair[1]}" + (", the default" if pair == default else "")
        memory = f"{pair[0]} × {one['resident_mb']}"
        rows.append((name, lone["median_ms"], eight["films_a_second"], eight["median_ms"], eight["p95_ms"], memory))
    bare = result["bare_ms_by_threads"]
    lines = table(
        ("workers × threads", "ms, one client", "films/s, 8 clients", "median ms", "95 % ms", "resident MB"), rows
    )
    lines += ["", f"`invoke()` alone, threads: {', '.join(f'{t}: {ms} ms' for t, ms in bare.items())}."]
    most, fastest = max(rates, key=rates.get), min(alone, key=alone.get)
    share = 100 * rates[default] / rates[most]
    lines.append(
        f"The default, {default[0]} × {default[1]}, reads {share:.0f} % of the films a second that the best, "
        f"{most[0]} × {most[1]}, reads at 8 clients, and answers a film that is alone in "
        f"{alone[default]} ms; the quickest, {fastest[0]} × {fastest[1]}, in {alone[fastest]} ms."
    )
    return lines


def by_processor(results: Iterable[dict]) -> list[str]:
    """Lines with a row for each of `results`, which ran on different processors."""
    rows = []
    for result in results:
        median, ratio = result["median_ms"], result["ratio_to_bare"]
        names = ("bare invocation", "served", "served with heat map")
        p95 = at(result["load"]["pneumo"], 8)["p95_ms"]
        rows.append(
            (
                f"{result['processor']}; model {result['model']['version']}{program(result)}",
                *(median[name] for name in names),
                *(f"{ratio[name]:.2f}" for name in names[1:]),
                round(median["served with heat map"] - median["bare invocation"], 1),
                f"{min(times_naive(result).values()):.2f}",
                f"{p95:.0f} of {queue_ms(result):.0f} ms",
            )
        )
    head = ("processor", "bare ms", "served", "with heat map", "times bare", "with heat map", "ms more", "times naive")
    return table((*head, "95 % at 8 clients"), rows)


def page(result: dict, others: dict[str, dict], batch: dict | None = None) -> str:
    """README.md: `result` is the last run, `others` are the last on other processors, by their name."""
    plan, load, default = result["plan"], result["load"], result["default"]
    times, memory, start = times_naive(result), result["memory"], result["first_answer_seconds"]
    disk = {name: parts["packages_mb"] + parts["own_mb"] for name, parts in result["disk"].items()}
    resident = memory["pneumo"]["resident_mb"]
    lines = [
        "# Speed",
        "",
        "Written by `make benchmark`; the figures are in `serving.json`.",
        "",
        f"Model {result['model']['name']} {result['model']['version']}{program(result)}, {result['cores']} cores "
        f"({result['processor']}), over HTTP, {result['films']} films at their original size. *This server* is what "
        f"`make run` starts: {default['workers']} worker(s) × {default['threads']} model thread(s). *The naive server* "
        "is what tutorials show (`naive.py`): Flask under `gunicorn -w 1`, Pillow, Keras' `model.predict` with the "
        "same network in float32; TensorFlow takes all the cores. *Bare* is LiteRT's `invoke()` alone, with as many "
        "threads as a worker's model has. Clients run on the same cores.",
        "",
        "## Targets",
        "",
        *table(
            ("", "target", "measured", "met"),
            ((*words, "yes" if met else "**no**") for *words, met in targets(result)),
        ),
        "",
        f"The queue's target is what 8 films cost, shared by {result['cores']} cores that are never idle, and 30 % "
        f"more. What one costs a core is its median with 1 worker × 1 thread and one client: {service_ms(result)} ms, "
        "everything from the connection to the answer included.",
        "",
        "## One film",
        "",
        *table(
            ("", "median ms", "95 % ms", "times bare"),
            (
                (name, median, result["p95_ms"][name], f"{result['ratio_to_bare'][name]:.2f}")
                for name, median in result["median_ms"].items()
            ),
        ),
        "",
        f"{result['rounds']} of each, in turns, one client on one connection (the naive server closes it each time).",
        "",
        "## By processor",
        "",
        *by_processor([result, *others.values()]),
        "",
        "The last run on each, the one above first. What is not the network differs less between processors than the "
        "network, which instructions for int8 (VNNI, AMX) make several times as quick: receiving a film, its Huffman "
        "codes, Flask and gunicorn. So the quicker a film is answered, the larger is its overhead in per cent.",
        "",
        "## Many clients",
        "",
        "![Films a second and 95th percentile against clients](throughput.svg)",
        "",
        *table(
            ("clients", *(f"{name}: {what}" for name in NAMES.values() for what in ("films/s", "95 % ms")), "times"),
            (
                (
                    clients,
                    *(at(load[name], clients)[key] for name in NAMES for key in ("films_a_second", "p95_ms")),
                    f"{ratio:.1f}",
                )
                for clients, ratio in times.items()
            ),
        ),
        "",
        f"Each client sends its next film when the last is answered, on a new connection. {plan['loads']} load(s) of "
        f"{plan['seconds']} s (naive: {plan['naive_seconds']} s), in turns; the median of their films a second, the "
        "percentile of all their films; without the beginning, when the queue is not yet full.",
        *folder_of_films(batch),
        "",
        "## Start, memory, disk",
        "",
        *table(
            ("", *NAMES.values()),
            (
                ("start to first prediction, median", *(f"{start[name]['median']} s" for name in NAMES)),
                ("the slowest start", *(f"{start[name]['slowest']} s of {start[name]['starts']}" for name in NAMES)),
                ("resident, a worker after all this", *(f"{memory[name]['resident_mb']} MB" for name in NAMES)),
                ("the most it ever was", *(f"{memory[name]['peak_mb']} MB" for name in NAMES)),
                ("installed for serving", *(f"{disk[name]} MB" for name in NAMES)),
            ),
        ),
        "",
        "Starts find their files in the page cache. Installed is the sum of the files of the distributions (here: "
        "those of requirements-serve.txt, DICOM included; there: TensorFlow, Flask, gunicorn, Pillow and what they "
        "need) and of the program with its weights (here: what `.dockerignore` lets through), without Python and the "
        "system.",
        "",
        "## Workers × threads",
        "",
        *workers_and_threads(result),
        "",
        "Threads (`PNEUMO_THREADS`) are those that one film's model runs on; workers (`WEB_CONCURRENCY`) are processes "
        "with a model each. Threads share the work of the network alone: while a film is decoded the others idle, "
        "unless the next film is there. Workers read films side by side from one end to the other, and cost memory "
        "each; a lone film is read by one of them. So there is a worker a core, each with threads for a lone film.",
        *what_threads_gain(result),
        "",
        f"A bigger machine takes a worker of {default['threads']} thread(s) a core by itself "
        "(`gunicorn.conf.py`; in a container its quota counts). From this machine's memory a worker, not measured:",
        "",
        *table(
            ("cores", "workers × threads", "resident MB"),
            (
                (
                    cores,
                    f"{cores} × {default['threads']}",
                    cores * resident,
                )
                for cores in BIGGER
            ),
        ),
    ]
    return "\n".join(lines) + "\n"


def plot(result: dict, path: Path) -> None:
    """Films a second and 95th percentile against clients, both servers; the ideal is the bare model on every core."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "pneumo"  # the same figures, the same file
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for name, colour in zip(NAMES, (BLUE, VERMILLION), strict=True):
        load = result["load"][name]
        clients = [one["clients"] for one in load]
        for axis, key in zip(axes, ("films_a_second", "p95_ms"), strict=True):
            values = [one[key] for one in load]
            axis.plot(clients, values, "o-", color=colour, label=NAMES[name])
            axis.annotate(f"{values[-1]:g}", (clients[-1], values[-1]), xytext=(6, -3), textcoords="offset points")
    limit = 1000 * result["cores"] / result["bare_ms_by_threads"]["1"]
    axes[0].axhline(limit, color="grey", linestyle=":", label="bare invocation on every core")
    axes[0].set(title="films a second", ylim=(0, None))
    axes[1].set(title="95th percentile, ms", yscale="log")
    for axis in axes:
        axis.set_xscale("log", base=2)
        axis.set_xticks(clients, clients)
        axis.set(xlabel="clients")
        axis.spines[["top", "right"]].set_visible(False)
        axis.grid(alpha=0.3)
        axis.margins(x=0.12)
    axes[0].legend(loc="center right", frameon=False)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def keep(result: dict, folder: Path = FOLDER) -> None:
    """Write serving.json; what it held goes into processors.json if it was measured on another processor."""
    result = result | {"targets": dict(zip(("missed", "of"), missed(result), strict=True))}
    last, others = folder / "serving.json", other_processors(folder)
    if last.exists():
        replaced = json.loads(last.read_text())
        others[replaced["processor"]] = replaced
    others.pop(result["processor"], None)
    (folder / "processors.json").write_text(json.dumps(others, indent=2) + "\n")
    last.write_text(json.dumps(result, indent=2) + "\n")


def other_processors(folder: Path = FOLDER) -> dict[str, dict]:
    """The last runs on other processors than that of serving.json, by the processor's name."""
    path = folder / "processors.json"
    return json.loads(path.read_text()) if path.exists() else {}


def folder_figures(folder: Path = FOLDER) -> dict | None:
    """What batch.json holds, if it is there."""
    path = folder / "batch.json"
    return json.loads(path.read_text()) if path.exists() else None


def write(folder: Path = FOLDER) -> None:
    """Make both files in `folder` of its serving.json, processors.json and batch.json."""
    result = json.loads((folder / "serving.json").read_text())
    (folder / "README.md").write_text(page(result, other_processors(folder), folder_figures(folder)))
    plot(result, folder / "throughput.svg")


if __name__ == "__main__":
    write()
