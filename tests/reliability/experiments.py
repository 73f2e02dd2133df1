"""What is done to the server, and what came of it.

Each experiment takes a folder for logs and who is told of its progress; it returns numbers, and `holds`: whether the
server held out.
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
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image
from werkzeug.datastructures import FileStorage
from werkzeug.test import encode_multipart

from pneumo.model.card import find_card
from tests.reliability import hostile
from tests.reliability.fuzz import DICOM_SHARE, GROWTH, check, pictures, saved
from tests.support.films import SAMPLES
from tests.support.server import (
    HOST,
    PATIENCE,
    ROOT,
    Ask,
    Load,
    Sent,
    Server,
    ask_all,
    environment,
    forget_peak,
    free_port,
    handles,
    has_model,
    megabytes,
    open_files,
    outcomes,
    under_load,
    until,
)

Say = Callable[[str], None]
GRACE = 30  # graceful_timeout of gunicorn.conf.py
STEADY = 1.0  # MB per 1,000 requests that a soak which holds may gain in its second half: a film or two
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


def soak(folder: Path, say: Say, requests: int, clients: int = 4) -> dict:
    """Many requests of every kind: memory, files, sockets and the worker stay, and every request is accounted for."""
    with Server(folder / "soak.log") as server:
        worker, asks = server.worker(), mixed_asks()
        ask_all(server, asks)  # what is only loaded with the first film, is loaded
        time.sleep(3)  # longer than gunicorn keeps a connection
        before, counted, began = handles(worker), server.counted(), time.monotonic()
        load, samples = Load(server.port, asks, clients, total=requests).start(), []
        while load.running():
            samples.append((len(load.sent), megabytes(worker)))
            if len(samples) % 60 == 0:
                say(f"{samples[-1][0]} of {requests} requests, {samples[-1][1]:.0f} MB")
            time.sleep(0.5)
        sent, seconds = load.wait(), time.monotonic() - began
        samples.append((len(sent), megabytes(worker)))
        after = until_handles(worker, before)
        said, same = server.counted() - counted, server.workers() == [worker]
    memory = memory_of(samples, requests)
    slope = memory["mb_per_1000_requests_second_half"]
    results = outcomes(sent)
    return {
        "requests": requests,
        "clients": clients,
        "seconds": round(seconds, 1),
        "kinds": dict(sorted(Counter(one.kind for one in sent).items())),
        "outcomes": results,
        "counted_by_the_server": said,
        "lost": requests - results.get("right", 0),
        "same_worker": same,
        "memory_samples": len(samples),
        **memory,
        "open_before": before,
        "open_after": after,
        "holds": results == {"right": requests}
        and said == requests
        and same
        and before == after
        and slope is not None
        and slope < STEADY,
    }


def memory_of(samples: list[tuple[int, float]], requests: int) -> dict:
    """What a soak's memory did, of (requests so far, MB): the first half may fill what the second has to live with."""
    late = [sample for sample in samples if sample[0] >= requests / 2]
    slope = float(np.polyfit(*zip(*late, strict=True), 1)[0] * 1000) if len(late) > 2 else None
    first, half, last = (round(size, 1) for _, size in (samples[0], late[0], samples[-1]))
    return {
        "mb_first": first,
        "mb_half": half,
        "mb_last": last,
        "mb_most": round(max(size for _, size in samples), 1),
        "mb_added_first_half": round(half - first, 1),
        "mb_per_1000_requests_second_half": None if slope is None else round(slope, 3),
    }


def until_handles(worker: int, before: dict[str, int]) -> dict[str, int]:
    """What a worker has open when its connections had time to close."""
    with suppress(TimeoutError):
        until(lambda: handles(worker) == before, "as many open files as before", 15)
    return handles(worker)


def kill(folder: Path, say: Say, times: int, clients: int = 12, between: float = 2) -> dict:
    """`kill -9` of one of two workers under load: it is replaced, and at most the requests inside it fail."""
    rounds, inside = [], []
    with Server(folder / "kill.log", workers=2) as server, under_load(server, film_asks(), clients) as load:
        for number in range(times):
            time.sleep(between)
            victim = server.workers()[number % 2]
            # stopped first, so that what is counted inside it is still there when it is killed
            server.signal(signal.SIGSTOP, victim)
            inside.append(server.connections(victim))
            began = time.monotonic()
            server.signal(signal.SIGKILL, victim)
            until(lambda victim=victim: victim not in server.workers() and server.ready(), "another worker")
            rounds.append(time.monotonic() - began)
            say(f"killed {number + 1} of {times}")
        time.sleep(between)
        sent = load.stop()
        ready = server.ready()
    results = outcomes(sent)
    failed = len(sent) - results.get("right", 0)
    return {
        "kills": times,
        "clients": clients,
        "requests": len(sent),
        "outcomes": results,
        "inside_the_killed": sum(inside),
        "failed": failed,
        "lost": max(0, failed - sum(inside)),
        "slowest_replacement_seconds": round(max(rounds), 2),
        "holds": ready and failed <= sum(inside) and set(results) <= {"right", "broken"},
    }


def terminate(folder: Path, say: Say, times: int, clients: int = 12) -> dict:
    """SIGTERM under load: whoever is inside gets a whole answer, nobody else is let in, and the server ends with 0."""
    inside, lost, later, sent, codes, seconds = 0, 0, Counter(), 0, [], []
    for number in range(times):
        with Server(folder / "terminate.log") as server:
            with under_load(server, film_asks(), clients, stop_when_refused=True) as load:
                time.sleep(1)
                began = time.monotonic()
                server.process.terminate()
                codes.append(server.process.wait(PATIENCE))
                seconds.append(time.monotonic() - began)
            everything = load.wait()
        before = [one for one in everything if one.begun < began]
        sent += len(everything)
        inside += sum(one.ended > began for one in before)
        lost += sum(one.outcome != "right" for one in before)
        later.update(outcomes([one for one in everything if one.begun >= began]))
        say(f"terminated {number + 1} of {times}")
    return {
        "terminations": times,
        "clients": clients,
        "requests": sent,
        "inside_at_the_signal": inside,
        "lost": lost,
        "after_the_signal": dict(later),
        "exit_codes": sorted(set(codes)),
        "slowest_end_seconds": round(max(seconds), 1),
        # broken: let into the kernel's queue by a worker that takes nobody any more, and cut off at its end
        "holds": lost == 0 and set(codes) == {0} and max(seconds) < GRACE and not later["broken"],
    }


def copy_model(folder: Path) -> Path:
    """Copy the served model, its gate and its card; returns the path of the card."""
    card, there = find_card("vgg16-chest-xray"), folder / "models"
    there.mkdir(parents=True)
    files = json.loads(card.read_text())["files"]
    for role in ("served", "gate"):
        shutil.copy(card.with_name(files[role]["file"]), there)
    return Path(shutil.copy(card, there))


def reload(folder: Path, say: Say, times: int, clients: int = 8, between: float = 1) -> dict:
    """SIGHUP under load after the card was replaced: no request fails, and the answers come from the new model."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        card = copy_model(Path(scratch))
        contents = json.loads(card.read_text())
        seconds, versions = [], []
        with (
            Server(folder / "reload.log", PNEUMO_MODEL=card) as server,
            under_load(server, film_asks(), clients, keep_text=True) as load,
        ):
            for number in range(times):
                time.sleep(between)
                old, contents["version"] = server.workers(), f"reloaded {number + 1}"
                new = card.with_suffix(".new")
                new.write_text(json.dumps(contents))
                new.replace(card)
                began = time.monotonic()
                server.signal(signal.SIGHUP)
                until(
                    lambda old=old: not set(old) & set(server.workers()) and all(map(has_model, server.workers())),
                    "other workers",
                )
                seconds.append(time.monotonic() - began)
                changed = time.monotonic()
                until(lambda changed=changed: any(one.begun > changed for one in load.sent), "an answer", PATIENCE)
                said = {version_of(one) for one in load.sent if one.begun > changed and one.outcome == "right"}
                versions.append(said == {contents["version"]})
                say(f"reloaded {number + 1} of {times}")
            sent = load.stop()
    results = outcomes(sent)
    return {
        "reloads": times,
        "clients": clients,
        "requests": len(sent),
        "outcomes": results,
        "lost": len(sent) - results.get("right", 0),
        "answered_by_the_new_model": sum(versions),
        "slowest_change_seconds": round(max(seconds), 1),
        "holds": results == {"right": len(sent)} and all(versions),
    }


def version_of(sent: Sent) -> str:
    """Which version of the model an answer names."""
    return json.loads(sent.text)["model"]["version"]


def damaged_models(folder: Path, say: Say) -> dict:
    """A model, gate or card that is not what it was: the server refuses to start, and says why in one sentence."""

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
        "empty model": (".tflite", lambda path: path.write_bytes(b"")),
        "no model": (".tflite", Path.unlink),
        "one bit of the gate": (".gate.npz", flip),
        "no gate": (".gate.npz", Path.unlink),
        "card cut in half": (".json", halve),
        "no card": (".json", Path.unlink),
    }
    cases = {}
    for name, (suffix, damage) in damages.items():
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            card = copy_model(Path(scratch))
            damage(card.with_suffix(suffix))
            port = free_port()
            done = subprocess.run(
                [sys.executable, "-m", "gunicorn"],
                cwd=ROOT,
                env=environment(PORT=port, WEB_CONCURRENCY=1, PNEUMO_MODEL=card),
                capture_output=True,
                text=True,
                timeout=PATIENCE,
            )
        wrong = [line for line in done.stderr.splitlines() if "[ERROR]" in line]
        sentence = wrong[0].split("[ERROR] ")[1].replace(f"{card.parent}/", "") if wrong else ""
        clear = len(wrong) == 1 and "Traceback" not in done.stderr and sentence.endswith(".")
        cases[name] = {"exit_code": done.returncode, "said": sentence, "refused": done.returncode != 0 and clear}
        say(f"{name}: {sentence}")
    return {
        "models": len(cases),
        "refused": sum(case["refused"] for case in cases.values()),
        "cases": cases,
        "holds": all(case["refused"] for case in cases.values()),
    }


def full_disk(folder: Path, say: Say) -> dict:
    """Everything that the server could write to is read-only or full, except memory (/dev/shm): it answers."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        spaces = (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"])
        attempts = [[*space, "sh", "-c", FULL, "sh", str(ROOT), "true"] for space in spaces]
        variables = environment(TMPDIR=scratch)
        works = [space for space, attempt in zip(spaces, attempts, strict=True) if runs(attempt, variables)]
        if not works:
            done = "not done: this machine lets nobody mount"
            return {"done": done, "requests": 0, "outcomes": {}, "holds": False}
        command = (*works[0], "sh", "-c", FULL, "sh", str(ROOT))
        log = folder / "disk.log"
        with Server(log, command=command, TMPDIR=scratch, PYTHONDONTWRITEBYTECODE=1) as server:
            from tests.support.dicom import RAMP, dicom

            large = Image.effect_noise((3000, 3000), 60)
            asks = [
                *mixed_asks(),
                Ask("film of DICOM", "/predict?force=1", "application/dicom", dicom(RAMP), 200),
                Ask("large upload", "/predict?force=1", "image/png", saved(large, "PNG"), 200),
                Ask("large upload of the page", "/", *form(saved(large, "PNG"), force="1"), 200),
            ]
            sent = ask_all(server, asks)
            written = [name for name in open_files(server.worker()).values() if name.startswith(scratch)]
        mounts = "the tree, /tmp and /var/tmp mounted read-only, TMPDIR a full file system of 16 kB (tmpfs)"
    results = outcomes(sent)
    say(f"{results}")
    return {
        "done": mounts,
        "requests": len(sent),
        "outcomes": results,
        "files_in_tmpdir": len(written),
        "holds": results == {"right": len(sent)} and not written,
    }


def runs(command: list[str], variables: dict[str, str]) -> bool:
    """Whether a command ends well."""
    return subprocess.run(command, env=variables, capture_output=True, timeout=PATIENCE).returncode == 0


def slow_clients(folder: Path, say: Say, connections: int, seconds: float) -> dict:
    """Connections that send a byte a second, of their headers or of their body: is everybody else answered?

    With the film's answer, that is: told to come again is not enough.
    """
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    kinds = {"headers": head + b"X: ", "bodies": head + b"Content-Length: 100000\r\n\r\n"}
    results = {}
    for kind, beginning in kinds.items():
        with Server(folder / f"slow-{kind}.log") as server:
            ask_all(server, film_asks()[:1])
            worker, stop = server.worker(), threading.Event()
            slow = [
                threading.Thread(target=trickle, args=(server.port, beginning, stop), daemon=True)
                for _ in range(connections)
            ]
            for thread in slow:
                thread.start()
            time.sleep(1)
            load = Load(server.port, film_asks(), 2, patience=seconds).start()
            watched = []
            while time.monotonic() < load.began + seconds:
                began = time.monotonic()
                try:
                    watched.append((server.get("/health/live", seconds)[0] == 200, time.monotonic() - began))
                except OSError:
                    watched.append((False, time.monotonic() - began))
                time.sleep(0.5)
            sent = load.stop()
            stop.set()
            for thread in slow:
                thread.join(PATIENCE)
            same = server.workers() == [worker]
        counts = outcomes(sent)
        answered, busy = counts.get("right", 0), counts.get("busy", 0)
        results[kind] = {
            "slow_connections": connections,
            "seconds": seconds,
            "normal_requests": len(sent),
            "outcomes": counts,
            "answered": answered,
            "told_to_come_again": busy,
            "slowest_seconds": round(max((one.ended - one.begun for one in sent), default=0.0), 2),
            "health_checks": len(watched),
            "health_checks_answered": sum(fine for fine, _ in watched),
            "slowest_health_check_seconds": round(max(took for _, took in watched), 2),
            "same_worker": same,
            "holds": same and answered == len(sent) > 0 and all(fine for fine, _ in watched),
        }
        say(f"slow {kind}: {counts}, {results[kind]['slowest_seconds']} s at most")
    return {**results, "holds": all(one["holds"] for one in results.values())}


def trickle(port: int, beginning: bytes, stop: threading.Event) -> None:
    """Send `beginning` and then a byte a second; begin again when the server hangs up."""
    while not stop.is_set():
        try:
            with socket.create_connection((HOST, port), timeout=PATIENCE) as connection:
                connection.sendall(beginning)
                while not stop.wait(1):
                    connection.sendall(b"x")
        except OSError:
            stop.wait(1)


def hostile_requests(folder: Path, say: Say) -> dict:
    """What `hostile` makes: each is answered or refused, by the same worker, and memory comes back."""
    answers, bad, slowest, largest = {}, [], ("", 0.0), ("", 0.0)
    with Server(folder / "hostile.log") as server:
        ask_all(server, film_asks()[:2])
        worker, before = server.worker(), megabytes(server.worker())
        for number, (name, data) in enumerate(hostile.requests()):
            forget_peak(worker)
            began = time.monotonic()
            answers[name] = status = exchange(server.port, data)
            # what never was a whole request may be hung up on without an answer
            if not (200 <= status < 500 or (status == 0 and b"\r\n\r\n" not in data)):
                bad.append(name)
            slowest = max(slowest, (name, time.monotonic() - began), key=lambda one: one[1])
            if server.workers() == [worker]:
                largest = max(largest, (name, megabytes(worker, "VmHWM")), key=lambda one: one[1])
            if number % 10 == 0:
                say(f"{number} hostile requests, last: {name}: {status}")
        same = server.workers() == [worker]
        after = megabytes(worker) if same else None
        fine = ask_all(server, film_asks()[:2])
    counts = Counter(str(status) for status in answers.values())
    return {
        "requests": len(answers),
        "statuses": dict(sorted(counts.items())),
        "not_answered_nor_refused": bad,
        "same_worker": same,
        "mb_before": round(before, 1),
        "mb_peak": round(largest[1], 1),
        "mb_peak_at": largest[0],
        "mb_after": None if after is None else round(after, 1),
        "slowest_seconds": round(slowest[1], 2),
        "slowest_at": slowest[0],
        "answers": answers,
        "holds": same and not bad and outcomes(fine) == {"right": 2},
    }


def exchange(port: int, data: bytes) -> int:
    """Send bytes, hang up behind them, and read what comes back: its status, 0 if nothing did."""
    with socket.create_connection((HOST, port), timeout=PATIENCE) as connection:
        received = b""
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        except OSError:  # refused before all of it was sent: the answer is there
            pass
        try:
            while some := connection.recv(65536):
                received += some
        except OSError:
            pass
    line = received.split(b"\r\n")[0].split()
    return int(line[1]) if len(line) > 1 and line[1].isdigit() else 0


def fuzz(folder: Path, say: Say, inputs: int) -> dict:
    """The fuzz of the test suite, against a running server with the shipped model."""
    from tests.support.dicom import RAMP, SLOPE, dicom

    dicoms = [("DICOM", dicom(RAMP)), ("DICOM", dicom(SLOPE, stored=12, PhotometricInterpretation="MONOCHROME1"))]
    with Server(folder / "fuzz.log") as server:
        ask_all(server, film_asks()[:2])
        worker, done = server.worker(), 0
        before = megabytes(worker)

        def post(data: bytes, number: int) -> int:
            nonlocal done
            done += 1
            if done % 500 == 0:
                say(f"{done} of {inputs} damaged films")
            asks = (
                lambda: ("/predict", "application/octet-stream", data),
                lambda: ("/predict?heatmap=1", *form(data, data[:40])),
                lambda: ("/", *form(data)),
            )
            path, content_type, body = asks[number % 3]()
            return server.post(path, content_type, body)[0]

        share = inputs // DICOM_SHARE
        pictures_seen, growth = check(post, pictures(), inputs - share, folder, 1, lambda: megabytes(worker))
        dicoms_seen, growth_dicom = check(post, dicoms, share, folder, 2, lambda: megabytes(worker))
        same, after = server.workers() == [worker], megabytes(worker)
    statuses = {str(status): count for status, count in sorted((pictures_seen + dicoms_seen).items())}
    return {
        "inputs": sum(statuses.values()),
        "dicom": sum(dicoms_seen.values()),
        "statuses": statuses,
        "same_worker": same,
        "mb_before": round(before, 1),
        "mb_after": round(after, 1),
        "mb_growth_after_a_third": round(growth + growth_dicom, 1),
        "holds": same and sum(statuses.values()) == inputs and growth + growth_dicom < GROWTH,
    }
