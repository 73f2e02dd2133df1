"""On Ray the rows are those of the command line."""

import pytest
import ray

from pneumo.archive.on_ray import read_films
from pneumo.archive.rows import COLUMNS
from pneumo.errors import OperatingPointError, RunError
from tests.support.cli import by_file, rows, run, texts
from tests.support.films import SAMPLES
from tests.support.server import HOST


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Ray on this machine, with two CPUs; it tells its makers nothing.

    Each of Ray's processes imports jsonschema, which imports rfc3987_syntax where some other package has brought it:
    three seconds each, and Ray gives up after 15. Here they do not find it.
    """
    hidden = tmp_path_factory.mktemp("hidden")
    (hidden / "rfc3987_syntax.py").write_text("raise ImportError")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(hidden))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100 * 2**20,
            log_to_driver=False,
            _node_ip_address=HOST,
        )
        yield
        ray.shutdown()


def test_an_unknown_operating_point_is_refused_before_ray_starts():
    with pytest.raises(OperatingPointError):
        read_films(["film.png"], operating_point="best")
    assert not ray.is_initialized()


def test_rows_are_those_of_the_command_line(cluster, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no film")
    sources = [str(SAMPLES[0].parent), str(broken), str(tmp_path / "gone.png")]
    run("predict", *sources, "--operating-point", "specific", "--csv", tmp_path / "out.csv")
    found = read_films(sources, operating_point="specific").take_all()
    assert by_file(texts(found)) == by_file(rows(tmp_path / "out.csv"))
    assert tuple(found[0]) == COLUMNS
    assert sum(row["error"] is not None for row in found) == 2
    assert len(found) == len(SAMPLES) + 2


def test_a_cluster_of_one_cpu_is_refused_rather_than_waited_for(cluster, monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 1.0})
    with pytest.raises(RunError, match="received one of 1"):
        read_films(["film.png"])
