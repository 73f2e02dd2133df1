"""benchmarks/: what makes figures of measurements, by hand; and a short look at the real server, without TensorFlow."""

import copy
import json

import pytest

from benchmarks import serving
from benchmarks.serving import BARE, MAPPED, NAIVE, NGINX, SERVED, asking, bare_pace, in_turns, measure_folder
from pneumo import __version__
from pneumo.model.card import read_card
from tests.support.server import Server


def load(one, eight):
    return [
        {"clients": clients, "films_a_second": rate, "median_ms": 9.0, "p95_ms": 10.0}
        for clients, rate in ((1, one), (8, eight))
    ]


# Every target is just met: 42.5 / 8.5 = 5 naive servers, 12 / 10 and 13.5 / 10 of bare, 42.5 / 50 of the bare pace.
RESULT = {
    "machine": "x86_64, 2 cores, 2 threads used",
    "processor": "a processor",
    "others": 0.5,
    "default": {"workers": 2, "threads": 2},
    "model": {"name": "a-model", "version": "1.2.3"},
    "program": "4.5.6",
    "rounds": 60,
    "median_ms": {BARE: 10.0, SERVED: 12.0, MAPPED: 13.5, NGINX: 12.5, NAIVE: 100.0},
    "p95_ms": {BARE: 11.0, SERVED: 13.0, MAPPED: 15.0, NGINX: 14.0, NAIVE: 120.0},
    "ratio_to_bare": {BARE: 1.0, SERVED: 1.2, MAPPED: 1.35, NGINX: 1.25, NAIVE: 10.0},
    "ready_seconds": 0.5,
    "first_answer_seconds": {"pneumo": {"median": 1.5}, "naive": {"median": 6.5}},
    "worker_resident_mb": 110,
    "memory": {"pneumo": {"resident_mb": 110, "peak_mb": 250}, "naive": {"resident_mb": 800, "peak_mb": 850}},
    "load": {"pneumo": load(30.0, 42.5), "nginx": load(29.0, 42.0), "naive": load(9.0, 8.5)},
    "folder": {"films": 200, "films_a_second": 45.0, "bare_films_a_second": 50.0, "share": 0.9, "peak_mb": 120},
}


def worse(*keys, value):
    """RESULT with another value somewhere."""
    result = copy.deepcopy(RESULT)
    place = result
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return result


def test_targets_are_met_at_their_limits():
    found = [(row["limit"], row["measured"], row["met"]) for row in serving.list_targets(RESULT)]
    assert found == [
        ("≥ 5", 5.0, True),
        ("≤ 1.2", 1.2, True),
        ("≤ 1.35", 1.35, True),
        ("≥ 0.85", 0.85, True),
        ("≥ 0.9", 0.9, True),
        ("≤ 1.5", 1.5, True),
        ("≤ 250", 250, True),
    ]


@pytest.mark.parametrize(
    ("number", "keys", "value"),
    [
        (0, ("load", "naive", 1, "films_a_second"), 8.6),
        (1, ("ratio_to_bare", SERVED), 1.201),
        (2, ("ratio_to_bare", MAPPED), 1.36),
        (3, ("folder", "bare_films_a_second"), 50.1),
        (4, ("folder", "share"), 0.899),
        (5, ("first_answer_seconds", "pneumo", "median"), 1.51),
        (6, ("memory", "pneumo", "peak_mb"), 251),
    ],
)
def test_a_target_is_missed(number, keys, value):
    met = [row["met"] for row in serving.list_targets(worse(*keys, value=value))]
    assert met == [index != number for index in range(7)]


def test_page_by_hand():
    rows = serving.list_targets(worse("memory", "pneumo", "peak_mb", value=251))
    page = serving.page(RESULT | {"targets": {"missed": 1, "of": 7, "rows": rows}}).splitlines()
    for line in (
        "| Times the bare invocation, one client | ≤ 1.2 | 1.2 | yes |",
        "| Most MB that a worker held | ≤ 250 | 251 | **no** |",
        "| naive server | 100.0 | 120.0 | 10.00 |",
        "| 8 | 42.5 | 10.0 | 42.0 | 10.0 | 8.5 | 10.0 |",
        "| seconds from the start to a first answer, median | 1.5 | 6.5 |",
    ):
        assert line in page, line


def test_committed_figures_are_of_this_program_and_the_page_is_of_them():
    found = json.loads((serving.FOLDER / "serving.json").read_text())
    assert found["program"].split(".")[:2] == __version__.split(".")[:2]
    assert found["targets"]["rows"] == serving.list_targets(found)
    assert found["folder"]["share"] <= serving.MOST
    assert (serving.FOLDER / "README.md").read_text() == serving.page(found)


def test_in_turns_measures_all_but_the_first_of_each_turn():
    calls = []
    times = in_turns({"a": lambda n: calls.append(("a", n)), "b": lambda n: calls.append(("b", n))}, 2, 2)
    one = {name: [(name, 0), (name, 0), (name, 1)] for name in "ab"}
    assert calls == one["b"] + one["a"] + one["a"] + one["b"]
    assert {name: len(values) for name, values in times.items()} == {"a": 4, "b": 4}


def test_the_real_server_under_a_short_load(monkeypatch, tmp_path):
    monkeypatch.setenv("PNEUMO_MODEL", "nowhere")  # settings around a benchmark do not reach what it measures
    with Server(tmp_path / "log", workers=2) as server:
        asking(server)(3)
        with pytest.raises(RuntimeError, match="received 404"):
            asking(server, "/nowhere")(0)
        took, rate = serving.put_under_load(server, clients=2, seconds=3)
        assert min(took) > 0
        assert rate == pytest.approx(len(took) / 3, rel=0.1)


def test_the_bare_pace_and_a_folder_of_films():
    assert bare_pace(read_card(), 2) > 0
    found = measure_folder(read_card(), serving.Plan(loads=1, folder=8))
    assert (found["films"], found["peak_mb"] > 20) == (8, True)
    assert found["films_a_second"] > 0
