"""reports/reliability.md, made of reports/reliability.json and nothing else.

`make reliability` comes here by itself; after a change of words only, `python -m tests.reliability.report` does.
"""

import json
import re

from tests.support.server import ROOT

HASH = re.compile(r"(?<=\b[0-9a-f]{8})[0-9a-f]{56}\b")  # all but the beginning of a SHA-256


def markdown(found: dict) -> str:
    """The report as a page: what was done, how often, what came of it, whether it held."""
    results = found["experiments"]
    lost = {name: result["lost"] for name, result in results.items() if "lost" in result and name != "kill"}
    lines = ["# Hard to break", "", f"`{found['command']}` on {found['machine']};"]
    model = f"model {found['model']['name']} {found['model']['version']} in pneumo {found['program']}"
    lines.append(f"{model}. Written by that command, not by hand.")
    lines += ["", "The server is started as `make run` starts it, on a port of its own, with the shipped model."]
    if lost:
        lines += ["", f"Accepted requests lost: **{sum(lost.values())}** ({', '.join(lost)})."]
    if killed := results.get("kill"):
        lines[-1] += (
            f" Of {killed['requests']:,} under `kill -9` of workers {killed['failed']} were lost, {killed['lost']} of "
            "them outside the killed worker: what is inside one that is killed nobody can save."
        )
    soaked = results.get("soak", {})
    if (slope := soaked.get("mb_per_1000_requests_second_half")) is not None:
        lines += ["", f"Slope of memory in the second half of the soak: **{slope} MB per 1,000 requests**;"]
        lines[-1] += f" the first half added {soaked['mb_added_first_half']} MB."
    lines += ["", "| what was done | how many | what happened | held |", "|---|---|---|---|"]
    for name, result in results.items():
        lines += ["| " + " | ".join((*row, "yes" if holds else "**no**")) + " |" for holds, *row in ROWS[name](result)]
    lines += ["", *notes(results)]
    return "\n".join(lines).rstrip() + "\n"


def counts(mapping: dict) -> str:
    """`200: 3, 415: 1`."""
    return ", ".join(f"{name}: {count:,}" for name, count in mapping.items()) or "none"


def soak(r: dict) -> list[tuple]:
    memory = (
        f"{r['mb_first']} MB at the start, {r['mb_half']} half-way, {r['mb_last']} at the end, {r['mb_most']} at most"
    )
    opened = [f"{what} {r['open_before'][what]} before, {r['open_after'][what]} after" for what in ("sockets", "files")]
    worker = "the same worker" if r["same_worker"] else "another worker"
    told = f"{counts(r['outcomes'])}; the server counted {r['counted_by_the_server']:,}; {memory}; {'; '.join(opened)}"
    return [
        (r["holds"], "Soak: " + counts(r["kinds"]), f"{r['requests']:,} by {r['clients']} clients", f"{told}; {worker}")
    ]


def kill(r: dict) -> list[tuple]:
    told = f"of {r['requests']:,} requests {r['failed']} failed; {r['inside_the_killed']} were inside the killed; "
    told += f"replaced within {r['slowest_replacement_seconds']} s"
    return [(r["holds"], "`kill -9` of one of two workers under load", f"{r['kills']}, {r['clients']} clients", told)]


def terminate(r: dict) -> list[tuple]:
    told = (
        f"{r['inside_at_the_signal']} requests were inside, {r['lost']} got no whole answer; begun after the signal: "
    )
    told += f"{counts(r['after_the_signal'])}; exit codes {r['exit_codes']}, after {r['slowest_end_seconds']} s at most"
    return [(r["holds"], "SIGTERM under load", f"{r['terminations']}, {r['clients']} clients", told)]


def reload(r: dict) -> list[tuple]:
    told = (
        f"{counts(r['outcomes'])}; {r['answered_by_the_new_model']} of {r['reloads']} times only the new model answered"
    )
    told += f" afterwards; other workers within {r['slowest_change_seconds']} s"
    return [(r["holds"], "SIGHUP with another model, under load", f"{r['reloads']}, {r['clients']} clients", told)]


def damaged_models(r: dict) -> list[tuple]:
    return [(r["holds"], f"Damaged: {', '.join(r['cases'])}", f"{r['models']}", f"{r['refused']} refused at start")]


def full_disk(r: dict) -> list[tuple]:
    return [(r["holds"], f"Full and read-only disk: {r['done']}", f"{r['requests']} requests", counts(r["outcomes"]))]


def slow_clients(r: dict) -> list[tuple]:
    rows = []
    for kind in ("headers", "bodies"):
        one = r[kind]
        told = (
            f"{one['answered']} of {one['normal_requests']} others answered, {one['told_to_come_again']} told to come "
        )
        told += f"again (503), {one['slowest_seconds']} s at most; "
        told += f"{one['health_checks_answered']} of {one['health_checks']} health checks"
        told += f", {one['slowest_health_check_seconds']} s at most"
        many = f"{one['slow_connections']} for {one['seconds']} s"
        rows.append((one["holds"], f"Connections whose {kind} trickle, a byte a second", many, told))
    return rows


def hostile_requests(r: dict) -> list[tuple]:
    told = f"{counts(r['statuses'])}; memory {r['mb_before']} MB before, {r['mb_peak']} at most ({r['mb_peak_at']}), "
    told += f"{r['mb_after']} after; slowest: {r['slowest_seconds']} s ({r['slowest_at']})"
    worker = "the same worker" if r["same_worker"] else "another worker"
    return [
        (r["holds"], "Hostile requests: forms, lengths, headers, bombs, liars", f"{r['requests']}", f"{told}; {worker}")
    ]


def fuzz(r: dict) -> list[tuple]:
    told = f"{counts(r['statuses'])}; memory {r['mb_before']} MB before, {r['mb_after']} after, "
    told += f"{r['mb_growth_after_a_third']} more than after a third"
    worker = "the same worker" if r["same_worker"] else "another worker"
    return [(r["holds"], f"Damaged films, {r['dicom']:,} of them DICOM", f"{r['inputs']:,}", f"{told}; {worker}")]


ROWS = {row.__name__: row for row in (
    soak, kill, terminate, reload, damaged_models, full_disk, slow_clients, hostile_requests, fuzz,
)}  # fmt: skip


def notes(results: dict) -> list[str]:
    """What the words of the table mean, and what refused models were answered."""
    lines = [
        "*right*: the whole answer with the expected status. *busy*: 503. *refused*: no connection. *broken*: a",
        "connection, and then no whole answer. Status 0: the server hung up without an answer. Half of the clients",
        "keep their connection, half open one for each request.",
    ]
    if cases := results.get("damaged_models", {}).get("cases"):
        lines += ["", "| damaged | the server said | exit code |", "|---|---|---|"]
        lines += [f"| {name} | {HASH.sub('…', case['said'])} | {case['exit_code']} |" for name, case in cases.items()]
    return lines


if __name__ == "__main__":
    measured = json.loads((ROOT / "reports" / "reliability.json").read_text(encoding="utf-8"))
    (ROOT / "reports" / "reliability.md").write_text(markdown(measured), encoding="utf-8")
