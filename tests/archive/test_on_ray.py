"""On Ray the rows are those of the command line."""

from contextlib import contextmanager

import pytest
import ray

from pneumo.archive.on_ray import read_films
from pneumo.archive.rows import COLUMNS
from pneumo.errors import OperatingPointError, RunError
from tests.support.cli import by_file, rows, run, texts
from tests.support.films import SAMPLES


@contextmanager
def cluster(cpus):
    """Ray on this machine."""
    ray.init(num_cpus=cpus, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def test_rows_are_those_of_the_command_line(tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no film")
    sources = [str(SAMPLES[0].parent), str(broken), str(tmp_path / "gone.png")]
    run("predict", *sources, "--operating-point", "specific", "--csv", tmp_path / "out.csv")
    with cluster(2):
        found = read_films(sources, operating_point="specific").take_all()
    assert by_file(texts(found)) == by_file(rows(tmp_path / "out.csv"))
    assert tuple(found[0]) == COLUMNS
    assert sum(row["error"] is not None for row in found) == 2
    assert len(found) == len(SAMPLES) + 2


def test_a_cluster_of_one_cpu_is_refused_rather_than_waited_for():
    with cluster(1), pytest.raises(RunError, match="received one of 1"):
        read_films(["film.png"])


def test_an_unknown_operating_point_is_refused_before_ray_starts():
    with pytest.raises(OperatingPointError):
        read_films(["film.png"], operating_point="best")
    assert not ray.is_initialized()
