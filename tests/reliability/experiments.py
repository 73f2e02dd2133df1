"""What is done to the service, and what came of it.

Each experiment takes a folder for logs, who is told of its progress, and whether the server is `bare`: without nginx in
front. It returns a Result.
"""

import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from pneumo.model.card import find_card
from tests.reliability import hostile
from tests.reliability.fuzz import DICOM_SHARE, GROWTH, check, pictures
from tests.support.dicom import RAMP, SLOPE, dicom
from tests.support.films import SAMPLES, saved
from tests.support.proxy import Proxy
from tests.support.server import (
    HOST,
    PATIENCE,
    ROOT,
    Ask,
    Endpoint,
    Load,
    Sent,
    Server,
    ask_all,
    environment,
    forget_peak,
    handles,
    has_model,
    megabytes,
    open_files,
    outcomes,
    under_load,
    until,
)

Say = Callable[[str], None]
GRACE = 30  # seconds; graceful_timeout of gunicorn.conf.py
STEADY = 1.0  # MB per 1,000 requests that memory may grow in the second half of a soak
NO_LIMITS = {"PROXY_RATE": 10**6, "PROXY_BURST": 10**5, "PROXY_CONNECTIONS": 10**4}  # all clients have one address
FULL = """set -e
for folder in "$1" /tmp /var/tmp; do mount --bind "$folder" "$folder"; mount -o remount,bind,ro "$folder"; done
mount -t tmpfs -o size=16k none "$TMPDIR"
head -c 1000000 /dev/zero > "$TMPDIR/full" 2> /dev/null || true
for file in "$1/x" /tmp/x "$TMPDIR/x"; do
  if (echo x > "$file") 2> /dev/null; then echo "could be written: $file" >&2; exit 9; fi
done
shift
exec "$@"
"""


@dataclass
class Result:
    """What was done, what was found, whether the service held, and the numbers."""

    done: str
    found: str
    holds: bool
    numbers: dict = field(default_factory=dict)


@contextmanager
def service(folder: Path, bare: bool, workers: int = 1, **options: object) -> Iterator[tuple[Server, Endpoint]]:
    """A server, and what clients talk to: nginx in front of it, or the `bare` server itself."""
    with Server(folder / "log", workers=workers, **{"PNEUMO_PROXIES": int(not bare)} | options) as server:
        if bare:
            yield server, server
        else:
            with Proxy(server.port, **NO_LIMITS) as proxy:
                yield server, proxy


def counts(found: dict) -> str:
    """`right: 3, busy: 1`."""
    return ", ".join(f"{name}: {count:,}" for name, count in found.items()) or "none"


def form(*files: bytes, **fields: str) -> tuple[str, bytes]:
    """Content type and body of a form with these films and fields."""
    films = [FileStorage(io.BytesIO(data), "film") for data in files]
    boundary, body = encode_multipart({**fields, "file": films})
    return f"multipart/form-data; boundary={boundary}", body


def film_asks() -> list[Ask]:
    """The sample films, without and with heat map."""
    films = [path.read_bytes() for path in SAMPLES]
    return [
        Ask(kind, path, "image/jpeg", film, 200)
        for film in films
        for kind, path in (("film", "/predict"), ("film with heat map", "/predict?heatmap=1"))
    ]


def mixed_asks() -> list[Ask]:
    """Films without and with heat map, posts of the page, and files that are refused."""
    noise = np.random.default_rng(1).integers(0, 256, (300, 300, 3), np.uint8)
    return [
        *film_asks(),
        *(Ask("page", "/", *form(path.read_bytes()), 200) for path in SAMPLES),
        Ask("no picture", "/predict", "image/jpeg", b"no picture " * 1000, 415),
        Ask("no chest film", "/predict", "image/png", saved(Image.fromarray(noise), "PNG"), 422),
        Ask("cut film", "/predict", "image/jpeg", SAMPLES[0].read_bytes()[:9000], 422),
        Ask("form without film", "/", *form(force="1"), 400),
    ]


def soak(folder: Path, say: Say, bare: bool, requests: int, clients: int = 4) -> Result:
    """Many requests of every kind: memory, open files and the worker stay, and every request is accounted for."""
    with service(folder, bare) as (server, front):
        worker, asks = server.worker(), mixed_asks()
        ask_all(front, asks)  # what is only loaded with the first film, is loaded
        time.sleep(3)  # longer than gunicorn keeps a connection
        before, counted, began = handles(worker), server.counted(), time.monotonic()
        load, samples = Load(front.port, asks, clients, total=requests).start(), []
        while load.running():
            samples.append((len(load.sent), megabytes(worker)))
            if len(samples) % 60 == 0:
                say(f"{samples[-1][0]} of {requests} requests, {samples[-1][1]:.0f} MB")
            time.sleep(0.5)
        sent, seconds = load.wait(), time.monotonic() - began
        samples.append((len(sent), megabytes(worker)))
        with suppress(TimeoutError):
            until(lambda: handles(worker) == before, "as many open files as before", 15)
        after, said, same = handles(worker), server.counted() - counted, server.workers() == [worker]
    memory, results = memory_of(samples, requests), outcomes(sent)
    slope = memory["mb_per_1000_requests_second_half"]
    found = f"{counts(results)}; the server counted {said:,}; memory {memory['mb_first']} MB at the start, "
    found += f"{memory['mb_half']} half-way, {memory['mb_last']} at the end, {slope} MB more per 1,000 requests of the "
    found += f"second half; open files {sum(before.values())} before, {sum(after.values())} after"
    holds = results == {"right": requests} and said == requests and same and before == after
    kinds = dict(sorted(Counter(one.kind for one in sent).items()))
    return Result(
        f"Soak: {requests:,} requests by {clients} clients ({counts(kinds)})",
        found,
        holds and slope is not None and slope < STEADY,
        {"requests": requests, "seconds": round(seconds), "outcomes": results, "same_worker": same, **memory},
    )


def memory_of(samples: list[tuple[int, float]], requests: int) -> dict:
    """What a soak's memory did, of (requests so far, MB); the first half may still fill caches."""
    late = [sample for sample in samples if sample[0] >= requests / 2]
    slope = float(np.polyfit(*zip(*late, strict=True), 1)[0] * 1000) if len(late) > 2 else None
    first, half, last = (round(size, 1) for _, size in (samples[0], late[0], samples[-1]))
    return {
        "mb_first": first,
        "mb_half": half,
        "mb_last": last,
        "mb_most": round(max(size for _, size in samples), 1),
        "mb_per_1000_requests_second_half": None if slope is None else round(slope, 3),
    }


def kill(folder: Path, say: Say, bare: bool, times: int, clients: int = 12, between: float = 1) -> Result:
    """`kill -9` of one of two workers under load: nginx sends most of what was inside it again; bare, that is lost."""
    inside, seconds = 0, []
    with (
        service(folder, bare, workers=2) as (server, front),
        under_load(front, film_asks(), clients) as load,
    ):
        for number in range(times):
            time.sleep(between)
            victim = server.workers()[number % 2]
            server.signal(signal.SIGSTOP, victim)  # so that what is counted inside it is there when it is killed
            inside += server.connections(victim)
            began = time.monotonic()
            server.signal(signal.SIGKILL, victim)
            until(lambda victim=victim: victim not in server.workers() and server.ready(), "another worker")
            seconds.append(time.monotonic() - began)
            say(f"killed {number + 1} of {times}")
        time.sleep(between)
        sent = load.stop()
    results = outcomes(sent)
    failed = len(sent) - results.get("right", 0)
    lost = max(0, failed - inside)
    return Result(
        f"`kill -9` of one of two workers, {times} times under {clients} clients",
        f"{counts(results)}; {inside} were inside the killed, {lost} others failed; another worker within "
        f"{max(seconds):.1f} s",
        lost == 0,
        {"outcomes": results, "inside_the_killed": inside, "failed": failed, "lost": lost},
    )


def terminate(folder: Path, say: Say, bare: bool, times: int, clients: int = 12) -> Result:
    """SIGTERM under load: who is inside gets a whole answer, who comes later is told so, and the server ends with 0."""
    sent, codes, seconds, lost, later = 0, set(), [], 0, Counter()
    for number in range(times):
        with service(folder, bare) as (server, front):
            with under_load(front, film_asks(), clients, stop_when_turned_away=True) as load:
                time.sleep(1)
                began = time.monotonic()
                server.process.terminate()
                codes.add(server.process.wait(PATIENCE))
                seconds.append(time.monotonic() - began)
            everything = load.wait()
        sent += len(everything)
        lost += sum(one.outcome not in ("right", "busy", "refused") for one in everything)
        later.update(one.outcome for one in everything if one.ended >= began)
        say(f"terminated {number + 1} of {times}: {dict(later)}")
    return Result(
        f"SIGTERM, {times} times under {clients} clients",
        f"{sent:,} requests; answers since the signal: {counts(later)}; exit codes {sorted(codes)}, after "
        f"{max(seconds):.1f} s at most",
        lost == 0 and codes == {0} and max(seconds) < GRACE,
        {"requests": sent, "lost": lost, "since_the_signal": dict(later), "exit_codes": sorted(codes)},
    )


def copy_model(folder: Path) -> Path:
    """Copy the served model, its gate and its card; returns the path of the card."""
    card, there = find_card("vgg16-chest-xray"), folder / "models"
    there.mkdir(parents=True)
    files = json.loads(card.read_text())["files"]
    for role in ("served", "gate"):
        shutil.copy(card.with_name(files[role]["file"]), there)
    return Path(shutil.copy(card, there))


def check_model(card: Path) -> tuple[int, str]:
    """Exit status and last line of `pneumo check` for that model."""
    command = [Path(sys.executable).with_name("pneumo"), "check"]
    done = subprocess.run(command, cwd=ROOT, env=environment(PNEUMO_MODEL=card), capture_output=True, text=True)
    *_, last = (done.stderr or done.stdout).strip().splitlines() or [""]
    return done.returncode, last.replace(f"{card.parent}/", "").removeprefix("Error: ")


def version_of(sent: Sent) -> str:
    """Which version of the model an answer names."""
    return json.loads(sent.text)["model"]["version"]


def reload(folder: Path, say: Say, bare: bool, times: int, clients: int = 8) -> Result:
    """`pneumo check` and SIGHUP under load with other models: each serves afterwards, and no request fails."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        card = copy_model(Path(scratch))
        contents, seconds, changed = json.loads(card.read_text()), [], 0
        with (
            service(folder, bare, PNEUMO_MODEL=card) as (server, front),
            under_load(front, film_asks(), clients, keep_text=True) as load,
        ):
            for number in range(times):
                old, contents["version"] = server.workers(), f"reloaded {number + 1}"
                card.with_suffix(".new").write_text(json.dumps(contents))
                card.with_suffix(".new").replace(card)
                began = time.monotonic()
                if check_model(card)[0] == 0:
                    server.signal(signal.SIGHUP)
                until(
                    lambda old=old: not set(old) & set(server.workers()) and all(map(has_model, server.workers())),
                    "other workers",
                )
                seconds.append(time.monotonic() - began)
                since = time.monotonic()
                until(lambda since=since: any(one.begun > since for one in load.sent), "an answer", PATIENCE)
                said = {version_of(one) for one in load.sent if one.begun > since and one.outcome == "right"}
                changed += said == {contents["version"]}
                say(f"reloaded {number + 1} of {times}")
            sent = load.stop()
    results = outcomes(sent)
    return Result(
        f"`pneumo check` and SIGHUP with another model, {times} times under {clients} clients",
        f"{counts(results)}; the new model answered {changed} of {times} times, within {max(seconds):.1f} s",
        results == {"right": len(sent)} and changed == times,
        {"outcomes": results, "lost": len(sent) - results.get("right", 0), "changed": changed},
    )


def damaged_models(folder: Path, say: Say, bare: bool, count: int | None = None) -> Result:
    """`pneumo check` refuses each damaged or wrong model in one sentence; SIGHUP all the same keeps the old model."""

    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    def halve(path: Path) -> None:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    def swap(path: Path) -> None:
        shutil.copy(path.with_suffix(".gate.npz"), path)

    damages = {
        "model cut in half": (".tflite", halve),
        "one bit of the model": (".tflite", flip),
        "another file as the model": (".tflite", swap),
        "no model": (".tflite", Path.unlink),
        "one bit of the gate": (".gate.npz", flip),
        "card cut in half": (".json", halve),
        "no card": (".json", Path.unlink),
    }
    damages, said, refused = dict(list(damages.items())[:count]), {}, 0
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        served = copy_model(Path(scratch))
        with service(folder, bare, PNEUMO_MODEL=served) as (server, front):
            for number, (name, (suffix, damage)) in enumerate(damages.items(), 1):
                shutil.rmtree(served.parent)
                damage(copy_model(Path(scratch)).with_suffix(suffix))
                status, said[name] = check_model(served)
                before = set(server.workers())
                server.signal(signal.SIGHUP)
                until(lambda number=number: server.log.read_text().count("Not reloaded") == number, "a line in the log")
                until(lambda before=before: not before & set(server.workers()) and server.ready(), "other workers")
                fine = outcomes(ask_all(front, film_asks()[:2])) == {"right": 2}
                refused += status != 0 and said[name].endswith(".") and fine
                say(f"{name}: {said[name]}")
    return Result(
        f"Damaged model in place of the served one: {', '.join(damages)}",
        f"{refused} of {len(damages)} refused by `pneumo check`, in a sentence; after SIGHUP the old model went on",
        refused == len(damages),
        {"models": len(damages), "refused": refused, "said": said},
    )


def full_disk(folder: Path, say: Say, bare: bool) -> Result:
    """Everything that the server could write to is read-only or full, except memory (/dev/shm): it answers."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = ("unshare", "--mount", "sh", "-c", FULL, "sh", str(ROOT))
        options = {"command": command, "TMPDIR": scratch, "PYTHONDONTWRITEBYTECODE": 1}
        large = saved(Image.effect_noise((3000, 3000), 60), "PNG")
        asks = [
            *mixed_asks(),
            Ask("film of DICOM", "/predict?force=1", "application/dicom", dicom(RAMP), 200),
            Ask("large upload", "/predict?force=1", "image/png", large, 200),
            Ask("large upload of the page", "/", *form(large, force="1"), 200),
        ]
        with service(folder, bare, **options) as (server, front):
            results = outcomes(ask_all(front, asks))
            written = [name for name in open_files(server.worker()).values() if name.startswith(scratch)]
    say(f"{results}")
    return Result(
        "The tree, /tmp and /var/tmp read-only, TMPDIR full",
        counts(results),
        results == {"right": len(asks)} and not written,
        {"outcomes": results, "files_in_tmpdir": len(written)},
    )


def slow_clients(folder: Path, say: Say, bare: bool, connections: int, seconds: float) -> Result:
    """Connections that send a byte a second, half of them of their headers, half of a body: are films still read?"""
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    with service(folder, bare) as (_, front):
        ask_all(front, film_asks()[:1])
        stop = threading.Event()
        beginnings = [head + b"X: ", head + b"Content-Length: 100000\r\n\r\n"]
        slow = threading.Thread(target=trickle, args=(front.port, beginnings, connections, stop), daemon=True)
        slow.start()
        time.sleep(3)
        load = Load(front.port, film_asks(), 2, patience=seconds).start()
        time.sleep(seconds)
        sent = load.stop()
        stop.set()
        slow.join(PATIENCE)
    results = outcomes(sent)
    longest = max(one.ended - one.begun for one in sent)
    say(f"{results}, {longest:.1f} s at most")
    return Result(
        f"{connections} connections that send a byte a second, for {seconds:.0f} s",
        f"films of two others: {counts(results)}; the slowest answer took {longest:.1f} s",
        results == {"right": len(sent)},
        {"connections": connections, "outcomes": results, "slowest_seconds": round(longest, 2)},
    )


def trickle(port: int, beginnings: list[bytes], connections: int, stop: threading.Event) -> None:
    """Keep so many connections that send one of `beginnings`, then a byte a second; replace what is closed."""
    slow: list[socket.socket | None] = [None] * connections
    while not stop.wait(1):
        for number, connection in enumerate(slow):
            try:
                if connection is None:
                    slow[number] = socket.create_connection((HOST, port), 1)
                    slow[number].sendall(beginnings[number % len(beginnings)])
                else:
                    connection.sendall(b"x")
            except OSError:
                slow[number] = None
    for connection in filter(None, slow):
        connection.close()


def hostile_requests(folder: Path, say: Say, bare: bool) -> Result:
    """What `hostile` makes: each is answered or refused, by the same worker, and memory comes back."""
    answers, bad, slowest, peak = {}, [], 0.0, 0.0
    with service(folder, bare) as (server, front):
        ask_all(front, film_asks()[:2])
        worker, before = server.worker(), megabytes(server.worker())
        forget_peak(worker)
        for name, data in hostile.requests():
            began = time.monotonic()
            answers[name] = status = exchange(front.port, data)
            # who never sent a whole request may get no answer; 501 and 505 say what HTTP of them is not spoken
            whole = b"\r\n\r\n" in data and not name.startswith(("length", "chunks"))
            if not (200 <= status < 500 or status in (501, 505) or (status == 0 and not whole)):
                bad.append(name)
                say(f"{name}: {status}")
            slowest = max(slowest, time.monotonic() - began)
        same = server.workers() == [worker]
        peak, after = (megabytes(worker, what) if same else 0.0 for what in ("VmHWM", "VmRSS"))
        fine = outcomes(ask_all(front, film_asks()[:2])) == {"right": 2}
    statuses = dict(sorted(Counter(map(str, answers.values())).items()))
    return Result(
        f"{len(answers)} hostile requests: forms, lengths, headers, bombs, files that lie",
        f"{counts(statuses)}; memory {before:.0f} MB before, {peak:.0f} at most, {after:.0f} after; the slowest took "
        f"{slowest:.1f} s" + (f"; neither answered nor refused: {', '.join(bad)}" if bad else ""),
        same and not bad and fine,
        {"statuses": statuses, "neither_answered_nor_refused": bad, "same_worker": same, "answers": answers},
    )


def exchange(port: int, data: bytes) -> int:
    """Send bytes, hang up behind them, and read what comes back: its status, 0 if nothing did."""
    with socket.create_connection((HOST, port), timeout=PATIENCE) as connection:
        received = b""
        with suppress(OSError):  # refused before all of it was sent: the answer is there
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        with suppress(OSError):
            while some := connection.recv(65536):
                received += some
    line = received.split(b"\r\n")[0].split()
    return int(line[1]) if len(line) > 1 and line[1].isdigit() else 0


def fuzz(folder: Path, say: Say, bare: bool, inputs: int) -> Result:
    """The fuzz of the test suite, against a running service with the shipped model."""
    dicoms = [("DICOM", dicom(RAMP)), ("DICOM", dicom(SLOPE, stored=12, PhotometricInterpretation="MONOCHROME1"))]
    share = inputs // DICOM_SHARE
    with service(folder, bare) as (server, front):
        ask_all(front, film_asks()[:2])
        worker = server.worker()
        before, memory = megabytes(worker), partial(megabytes, worker)

        def post(data: bytes, number: int) -> int:
            if number % 500 == 0:
                say(f"{number} of {inputs} damaged films")
            asks = (
                lambda: ("/predict", "application/octet-stream", data),
                lambda: ("/predict?heatmap=1", *form(data, data[:40])),
                lambda: ("/", *form(data)),
            )
            return front.post(*asks[number % 3]())[0]

        seen, growth = check(post, pictures(), inputs - share, folder, 1, memory)
        seen_dicom, growth_dicom = check(post, dicoms, share, folder, 2, memory)
        same, after = server.workers() == [worker], megabytes(worker)
    statuses = {str(status): count for status, count in sorted((seen + seen_dicom).items())}
    more = growth + growth_dicom
    return Result(
        f"{inputs:,} damaged films, {share:,} of them DICOM",
        f"{counts(statuses)}; memory {before:.0f} MB before, {after:.0f} after, {more:.1f} more than after a third",
        same and sum(statuses.values()) == inputs and more < GROWTH,
        {"inputs": inputs, "statuses": statuses, "same_worker": same, "mb_growth_after_a_third": round(more, 1)},
    )
