"""benchmarks/scale.py: costs and the simulated fleet by hand, and a short look at what it measures."""

import json
import re

import numpy as np
import pytest

from benchmarks import scale
from benchmarks.scale import JPEG, LOSSLESS, PLAIN, Fleet, compute_costs, simulate
from tests.support.films import SAMPLES
from tests.support.server import ROOT

CALM = Fleet(films=8000, cores=2, slow=0, failures=0, replaced=100)


def run(overhead=10, size=2000, fleet=CALM, seed=0, **changes):
    return simulate(np.array([0.5]), overhead, size, scale.replace(fleet, **changes), np.random.default_rng(seed))


def test_costs_by_hand():
    films = {"x": {"seconds": [0.1, 0.3], "decoding": 0.05, "megabytes": 2.5}}
    (row,) = compute_costs(films, price=0.1)
    assert row == {
        "kind": "x",
        "films_a_second": 5.0,
        "core_hours": 55.6,  # 0.2 s × 1,000,000 / 3600
        "money": 5.56,
        "gigabytes": 2500,
        "decoding": 0.25,
        "cores_of_a_link": 100,  # 1250 MB/s of 12.5 MB/s each
    }


def test_a_calm_fleet_by_hand():
    found = run()  # 4 shards of 10 + 1000 s on 2 cores
    assert found["hours"] == pytest.approx(2020 / 3600)
    assert found["core_hours"] == pytest.approx(4040 / 3600)
    assert found["minutes"] == pytest.approx(np.full(4, 1010 / 60))


def test_slow_machines_by_hand():
    found = run(slow=1, slowness=3)
    assert found["hours"] == pytest.approx(2 * (10 + 3000) / 3600)


def test_a_failing_shard_keeps_its_parts():
    failures = 3600 / 700  # so a failure every 700 s, and a part of 1000 films takes 500 s
    found = [run(failures=failures, seed=seed) for seed in range(20)]
    for one in found:
        assert one["core_hours"] > 4040 / 3600  # some work is repeated
        assert one["hours"] > 2020 / 3600
    lost = [run(failures=failures, size=8000, cores=1, seed=seed)["core_hours"] for seed in range(20)]
    # Each of 8 parts is lost now and then, not the whole shard: far below exp(4010 / 700), some 300 times
    assert max(lost) < 10 * 4010 / 3600


def test_what_is_measured(tmp_path):
    films = scale.make_films(tmp_path, SAMPLES[:1])
    assert [len(ones) for ones in films.values()] == [1, 1, 1]
    assert min(map(len, films[PLAIN])) > 2 * scale.ROWS * scale.COLUMNS  # two bytes a pixel
    assert max(map(len, films[LOSSLESS])) < min(map(len, films[PLAIN]))
    found = scale.measure_films(films, rounds=1)
    assert {len(one["seconds"]) for one in found.values()} == {1}
    assert 0 < found[JPEG]["decoding"] < found[JPEG]["seconds"][0]
    assert scale.measure_listing(tmp_path, names=200) > 0


def test_the_committed_pages_are_of_the_committed_numbers():
    result = json.loads((ROOT / "reports" / "scale.json").read_text())
    assert result["costs"] == compute_costs(result["films"], result["price"])
    assert (ROOT / "reports" / "scale.md").read_text() == scale.write("scale.md.j2", result)
    page = (ROOT / "docs" / "scale.md").read_text()
    (table,) = re.findall(r"<!-- costs -->\n(.*)<!-- /costs -->", page, re.DOTALL)
    assert table == scale.write("costs.md.j2", result)
