"""What `make reliability` does to the service, a few times each, and that its report is what it measured."""

import json

import pytest

from pneumo import __version__
from tests.reliability import experiments, hostile
from tests.reliability.__main__ import page
from tests.support.server import ROOT

REPORT = ROOT / "reports" / "reliability.json"


def quiet(_: str) -> None:
    """Nobody is told of the progress."""


@pytest.mark.parametrize("bare", [False, True], ids=["nginx", "bare"])
def test_a_killed_worker_is_replaced_and_only_what_was_inside_it_can_fail(tmp_path, bare):
    result = experiments.kill(tmp_path, quiet, bare, times=1, clients=6, between=0.5)
    assert result.holds, result
    assert result.numbers["inside_the_killed"] >= result.numbers["failed"]
    assert result.numbers["outcomes"]["right"] >= 6


def test_a_server_that_is_told_to_end_answers_whoever_is_inside(tmp_path):
    result = experiments.terminate(tmp_path, quiet, bare=False, times=1, clients=6)
    assert result.holds, result
    assert result.numbers["since_the_signal"]["right"] > 0
    assert result.numbers["since_the_signal"]["busy"] == 6  # every client ends by being told to come again


def test_a_reload_changes_the_model_and_no_request_fails(tmp_path):
    result = experiments.reload(tmp_path, quiet, bare=False, times=1, clients=4)
    assert result.holds, result
    assert result.numbers["changed"] == 1


def test_a_damaged_model_is_refused_and_the_service_goes_on(tmp_path):
    result = experiments.damaged_models(tmp_path, quiet, bare=False, count=2)
    assert result.holds, result
    assert "Expected vgg16-chest-xray.tflite to have SHA-256" in result.numbers["said"]["one bit of the model"]


def test_damaged_films_are_answered_or_refused(tmp_path):
    result = experiments.fuzz(tmp_path, quiet, bare=False, inputs=60)
    assert result.holds, result
    assert all(200 <= int(status) < 500 for status in result.numbers["statuses"])


def test_hostile_requests_are_different_and_are_what_they_say():
    seen = dict(hostile.connections())
    assert len(set(seen.values())) == len(seen)
    scans = hostile.many_scans(64, 5)
    assert scans.count(b"\xff\xda") == hostile.many_scans(64, 0).count(b"\xff\xda") + 5
    assert hostile.png_of(7, 9, b"")[16:24] == b"\0\0\0\x07\0\0\0\x09"


def test_memory_of_a_soak_by_hand():
    # 20 MB in the first half of 4,000 requests; then 2 MB in 2,000
    samples = [(0, 100.0), (1000, 121.0), (2000, 120.0), (3000, 121.0), (4000, 122.0)]
    memory = experiments.memory_of(samples, 4000)
    assert memory.pop("mb_per_1000_requests_second_half") == pytest.approx(1.0)
    assert memory == {"mb_first": 100.0, "mb_half": 120.0, "mb_last": 122.0, "mb_most": 122.0}
    assert experiments.memory_of([(0, 1.0), (9, 2.0)], 10)["mb_per_1000_requests_second_half"] is None


def test_the_report_says_what_was_lost_and_what_the_bare_server_does_not_hold():
    rows = [
        {"done": "SIGTERM", "bare": False, "found": "broken: 1", "holds": False, "numbers": {"lost": 1}},
        {"done": "SIGTERM", "bare": True, "found": "broken: 7", "holds": False, "numbers": {"lost": 7}},
        {"done": "Damage", "bare": False, "found": "all", "holds": True, "numbers": {"said": {"a": "b" * 64}}},
    ]
    model = {"name": "n", "version": "1"}
    facts = {"command": "c", "shorter": True, "machine": "m", "load": 0.5, "model": model, "program": "4.5.6"}
    text = page(facts | {"results": rows})
    assert "This run was shorter" in text
    assert "advice to come again, in the pair: **1**. The bare server does not hold: SIGTERM.\n" in text
    assert "| SIGTERM | behind nginx | broken: 1 | **no** |" in text
    assert "| Damage | behind nginx | all | yes |" in text
    assert f"| a | {'b' * 8}… |" in text


def test_the_committed_report_is_of_this_program_and_what_its_numbers_give():
    found = json.loads(REPORT.read_text(encoding="utf-8"))
    assert found["program"].split(".")[:2] == __version__.split(".")[:2]
    assert REPORT.with_suffix(".md").read_text(encoding="utf-8") == page(found)
