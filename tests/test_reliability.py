"""What `make reliability` does to a running server, a few times each, and that its report is what it measured."""

import json
import signal

import pytest

from pneumo import __version__
from tests.reliability import experiments, hostile, report
from tests.support.films import SAMPLES
from tests.support.server import ROOT, Server, until

REPORT = ROOT / "reports" / "reliability.json"


def quiet(_: str) -> None:
    """Nobody is told of the progress."""


def predicted(server, film):
    """The probability that it answers."""
    return json.loads(server.post("/predict", "image/jpeg", film)[1])["probability"]


def test_a_killed_worker_is_replaced_and_only_what_was_inside_it_fails(tmp_path):
    result = experiments.kill(tmp_path, quiet, times=1, clients=6, between=0.5)
    assert result["holds"], result
    assert result["inside_the_killed"] >= result["failed"]
    assert result["outcomes"]["right"] >= 6


def test_a_server_that_is_told_to_end_answers_whoever_is_inside(tmp_path):
    result = experiments.terminate(tmp_path, quiet, times=1, clients=6)
    assert result["inside_at_the_signal"] > 0
    assert (result["lost"], result["exit_codes"]) == (0, [0])
    assert result["slowest_end_seconds"] < experiments.GRACE
    assert result["after_the_signal"]["refused"] == 6  # every client ends by being told that nobody is there
    assert "broken" not in result["after_the_signal"]


def test_a_reload_changes_the_model_and_no_request_fails(tmp_path):
    result = experiments.reload(tmp_path, quiet, times=1, clients=4, between=0.5)
    assert result["holds"], result
    assert result["answered_by_the_new_model"] == 1


def test_a_reload_of_a_damaged_model_changes_nothing(tmp_path):
    card = experiments.copy_model(tmp_path)
    model = card.with_suffix(".tflite")
    whole, film = model.read_bytes(), SAMPLES[0].read_bytes()
    with Server(tmp_path / "log", PNEUMO_MODEL=card) as server:
        before, answer = server.workers(), predicted(server, film)
        model.write_bytes(bytes(len(whole) // 2))  # over the file that is served, and shorter
        server.signal(signal.SIGHUP)
        until(lambda: "Not reloaded" in (tmp_path / "log").read_text(), "a line in the log")
        assert predicted(server, film) == answer
        assert server.workers() == before
        model.write_bytes(whole)
        contents = json.loads(card.read_text())
        steps = contents["input"]["preprocessing"]
        contents["input"]["preprocessing"] = ["nosuch"]
        card.write_text(json.dumps(contents))
        server.signal(signal.SIGHUP)
        until(lambda: "nosuch" in (tmp_path / "log").read_text(), "another line")
        assert predicted(server, film) == answer
        assert server.workers() == before
        contents["input"]["preprocessing"] = steps
        card.write_text(json.dumps(contents))
        server.signal(signal.SIGHUP)
        until(lambda: not set(before) & set(server.workers()), "other workers")


def test_a_damaged_model_is_refused_at_the_start_in_one_sentence(tmp_path):
    result = experiments.damaged_models(tmp_path, quiet)
    assert result["holds"], result["cases"]
    assert "Expected vgg16-chest-xray.tflite to have SHA-256" in result["cases"]["one bit of the model"]["said"]


def test_damaged_films_are_answered_or_refused(tmp_path):
    result = experiments.fuzz(tmp_path, quiet, inputs=60)
    assert (result["inputs"], result["same_worker"]) == (60, True)
    assert sum(result["statuses"].values()) == 60
    assert all(200 <= int(status) < 500 for status in result["statuses"])


def test_hostile_requests_are_different_and_the_small_ones_are_what_they_say():
    seen = dict(hostile.connections())
    assert len(set(seen.values())) == len(seen)
    scans = hostile.many_scans(64, 5)
    assert scans.count(b"\xff\xda") == hostile.many_scans(64, 0).count(b"\xff\xda") + 5
    assert hostile.png_of(7, 9, b"")[16:24] == b"\0\0\0\x07\0\0\0\x09"


def test_the_report_says_what_was_measured():
    lost = {"terminations": 2, "clients": 3, "requests": 40, "inside_at_the_signal": 6, "lost": 1}
    lost |= {"after_the_signal": {"refused": 3}, "exit_codes": [0], "slowest_end_seconds": 1.5, "holds": False}
    found = {
        "command": "c",
        "machine": "m",
        "model": {"name": "n", "version": "1"},
        "program": "1",
        "experiments": {"terminate": lost},
    }
    page = report.markdown(found)
    assert "Accepted requests lost: **1** (terminate)." in page
    killed = {"kills": 3, "clients": 2, "requests": 1500, "failed": 7, "inside_the_killed": 6, "lost": 1}
    found["experiments"]["kill"] = killed | {"slowest_replacement_seconds": 0.5, "holds": False}
    page = report.markdown(found)
    assert "lost: **1** (terminate). Of 1,500 under `kill -9` of workers 7 were lost, 1 of them outside" in page
    assert (
        "| SIGTERM under load | 2, 3 clients | 6 requests were inside, 1 got no whole answer; begun after the signal: "
        "refused: 3; exit codes [0], after 1.5 s at most | **no** |" in page
    )


def test_memory_of_a_soak_by_hand():
    # 20 MB in the first half of 4,000 requests; then 2 MB in 2,000
    samples = [(0, 100.0), (1000, 121.0), (2000, 120.0), (3000, 121.0), (4000, 122.0)]
    memory = experiments.memory_of(samples, 4000)
    assert memory.pop("mb_per_1000_requests_second_half") == pytest.approx(1.0)
    assert memory == {
        "mb_first": 100.0,
        "mb_half": 120.0,
        "mb_last": 122.0,
        "mb_most": 122.0,
        "mb_added_first_half": 20.0,
    }
    assert experiments.memory_of([(0, 1.0), (9, 2.0)], 10)["mb_per_1000_requests_second_half"] is None


def soaked(**memory):
    """The report of a soak whose memory went like that."""
    soak = {"requests": 10, "clients": 1, "kinds": {}, "outcomes": {"right": 10}, "counted_by_the_server": 10}
    soak |= {"lost": 0, "same_worker": True, "mb_last": 125.5, "mb_most": 127.5, "holds": True}
    soak |= {"open_before": {"sockets": 1, "files": 1}, "open_after": {"sockets": 1, "files": 1}}
    model = {"name": "n", "version": "1"}
    return {
        "command": "c",
        "machine": "m",
        "model": model,
        "program": "4.5.6",
        "experiments": {"soak": soak | memory},
    }


def test_the_slope_is_said_to_be_of_the_second_half():
    memory = {"mb_first": 103.7, "mb_half": 125.5, "mb_added_first_half": 21.8}
    page = report.markdown(soaked(**memory, mb_per_1000_requests_second_half=0.01))
    said = (
        "Slope of memory in the second half of the soak: **0.01 MB per 1,000 requests**; the first half added 21.8 MB."
    )
    assert said in page.splitlines()


def test_the_report_names_the_program():
    assert "model n 1 in pneumo 4.5.6. Written by" in report.markdown(soaked(mb_first=1, mb_half=1))


def test_the_committed_report_is_of_this_program():
    found = json.loads(REPORT.read_text(encoding="utf-8"))
    assert found["program"].split(".")[:2] == __version__.split(".")[:2]


def test_the_committed_report_is_what_its_numbers_give():
    found = json.loads(REPORT.read_text(encoding="utf-8"))
    assert REPORT.with_suffix(".md").read_text(encoding="utf-8") == report.markdown(found)
