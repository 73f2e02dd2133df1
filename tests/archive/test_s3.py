"""An archive on S3, by moto on this machine: films in, Parquet out, and what cannot be read is a row."""

import logging

import boto3
import pytest
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends
from moto.server import ThreadedMotoServer
from pyarrow import parquet
from s3fs import S3FileSystem

from pneumo.archive import parts
from pneumo.archive.remote import Remote
from tests.support.archive import make_films
from tests.support.cli import by_file, rows, run, texts
from tests.support.server import HOST, free_port

logging.getLogger("werkzeug").setLevel(logging.ERROR)  # one line a request


FILMS = 500
STORE = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]  # what the server has, without the server


pytestmark = pytest.mark.usefixtures("grey_card")


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """A server that speaks S3, with the films below films/ of a bucket, and one file that is none."""
    films = make_films(tmp_path_factory.mktemp("s3") / "films", FILMS)
    server = ThreadedMotoServer(HOST, port := free_port(), verbose=False)
    settings = {
        "AWS_ENDPOINT_URL": f"http://{HOST}:{port}",
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        server.start()
        client = boto3.client("s3")
        client.create_bucket(Bucket="archive")
        for path in films.rglob("*.png"):  # behind the server's back: over HTTP this takes ten seconds
            STORE.put_object("archive", f"films/{path.relative_to(films)}", path.read_bytes())
        STORE.put_object("archive", "films/notes.txt", b"no film")
        yield client, films
        server.stop()


@pytest.fixture
def s3(bucket):
    """Its client."""
    return bucket[0]


@pytest.fixture
def films(bucket):
    """The same films on this machine."""
    return bucket[1]


def names(client, folder):
    """The names in a folder of the bucket."""
    found = client.list_objects_v2(Bucket="archive", Prefix=f"{folder}/")
    return [one["Key"].rpartition("/")[2] for one in found.get("Contents", [])]


def test_films_in_and_parquet_out(s3, films, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "FILMS", 100)
    run("predict", films, "--csv", tmp_path / "local.csv")
    for shard in ("0/2", "1/2", "1/2"):
        done = run("predict", "s3://archive/films", "--parts", "s3://archive/out", "--parquet", "--shard", shard)
        assert done.exit_code == 0, done.output
    assert "is there already" in done.stderr
    assert [name for name in names(s3, "out") if name.endswith(".json")] == [
        "shard-00000-of-00002.json",
        "shard-00001-of-00002.json",
    ]
    assert run("merge", "s3://archive/out", tmp_path / "all.parquet").exit_code == 0
    found = by_file(texts(parquet.read_table(tmp_path / "all.parquet").to_pylist()))
    expected = by_file(rows(tmp_path / "local.csv"))
    for row in expected:
        row["file"] = row["file"].replace(str(films), "s3://archive/films")
    assert found == expected
    assert len(found) == FILMS
    (refused,) = (row for row in found if row["error"])
    assert refused["file"] == "s3://archive/films/0/film 04.png"
    assert refused["error"].startswith("Expected a JPEG, PNG,")


def test_a_film_costs_one_request(s3, films, caplog):
    with caplog.at_level(logging.INFO, "werkzeug"):
        data = Remote("s3://archive/films/1/film 10.png").read_bytes()
    assert data == (films / "1" / "film 10.png").read_bytes()
    assert [record.getMessage().split()[5:7] for record in caplog.records if record.name == "werkzeug"] == [
        ['"GET', "/archive/films/1/film%2010.png"]
    ]


def test_an_object_that_is_not_there_is_one_row(s3, tmp_path):
    (tmp_path / "list").write_text("s3://archive/films/0/film 00.png\ns3://archive/films/gone.png\n")
    assert run("predict", "--list", tmp_path / "list", "--csv", tmp_path / "out.csv").exit_code == 0
    assert [row["error"] for row in rows(tmp_path / "out.csv")] == ["", "No such file or directory."]


def test_a_glob_of_objects_and_a_single_one(s3, tmp_path):
    run("predict", "s3://archive/films/1/*.png", "s3://archive/films/2/film 20.png", "--csv", tmp_path / "out.csv")
    found = [row["file"] for row in rows(tmp_path / "out.csv")]
    assert found == [f"s3://archive/films/{number // 10}/film {number}.png" for number in range(10, 21)]


def test_a_network_that_is_lost_ends_the_run_and_is_no_row(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{HOST}:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr(S3FileSystem, "retries", 1)
    S3FileSystem.clear_instance_cache()
    (tmp_path / "list").write_text("s3://archive/films/0/film 00.png\n")
    done = run("predict", "--list", tmp_path / "list", "--parts", tmp_path / "parts")
    assert done.exit_code == 2
    assert "Run the same command again" in done.stderr
    assert not list((tmp_path / "parts").iterdir())
