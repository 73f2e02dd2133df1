"""Shards in parts: together they are the unsharded table, whatever was killed or ran twice meanwhile."""

import json
import re
import resource
import signal
from pathlib import Path

import pytest
from PIL import Image
from pyarrow import parquet

from pneumo.archive import parts
from pneumo.archive.folder import LocalFolder
from pneumo.archive.rows import COLUMNS
from tests.support.cli import KILL, by_file, rows, run, start, texts

# So both processes have seen that the first part is not there, and begun to read it.
MEET = """Path(f"begun-{os.getpid()}").touch()
    while len(list(Path().glob("begun-*"))) < 2: time.sleep(0.01)"""


pytestmark = pytest.mark.usefixtures("grey_card")


def read_shards(films, folder, *arguments, count=3, only=None):
    for index in range(count) if only is None else only:
        done = run("predict", films, "--parts", folder, "--shard", f"{index}/{count}", *arguments)
        assert done.exit_code == 0, done.stderr
    return done


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_shards_together_are_the_unsharded_table(films, tmp_path):
    run("predict", films, "--csv", tmp_path / "whole.csv")
    run("predict", films, "--parts", tmp_path / "one")
    read_shards(films, tmp_path / "three")
    for name in ("one", "three"):
        assert run("merge", tmp_path / name, tmp_path / f"{name}.csv").exit_code == 0
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    whole = rows(tmp_path / "whole.csv")
    assert len(whole) == 30
    assert by_file(rows(tmp_path / "three.csv")) == by_file(whole)
    assert [len(rows(path)) for path in sorted((tmp_path / "one").glob("*.csv"))] == [4] * 7 + [2]
    read_shards(films, tmp_path / "parquet", "--parquet")
    assert run("merge", tmp_path / "parquet", tmp_path / "three.parquet").exit_code == 0
    table = parquet.read_table(tmp_path / "three.parquet").to_pylist()
    assert by_file(texts(table)) == by_file(whole)
    assert type(table[0]["probability"]) is float


def test_a_killed_shard_goes_on_to_the_same_files(films, tmp_path):
    read_shards(films, tmp_path / "whole")
    whole = contents(tmp_path / "whole")
    deadly = [row["file"] for row in rows_of(tmp_path / "whole", 1)][4]  # the first of the second part of shard 1
    act = KILL.format(deadly=8 * int(deadly[-6:-4]))
    process = start(act, "predict", films, "--parts", "killed", "--shard", "1/3")
    said = process.communicate(timeout=60)[1]
    assert process.returncode == -signal.SIGKILL, said
    first = next(name for name in whole if name.startswith("shard-00001-of-00003.part-00000."))
    assert contents(tmp_path / "killed") == {first: whole[first]}
    assert "shard" in run("merge", tmp_path / "killed", tmp_path / "out.csv").stderr
    left = tmp_path / "killed" / f".{sorted(whole)[-2]}.of-a-killed-process"
    left.write_bytes(b"half a fi")
    said = read_shards(films, tmp_path / "killed", only=[1]).stderr
    assert said.count("is there already") == 1
    read_shards(films, tmp_path / "killed", only=[0, 2])
    assert contents(tmp_path / "killed") == whole


def rows_of(folder, shard):
    """All rows of a shard, in order."""
    files = sorted(folder.glob(f"shard-{shard:05}-of-*.csv"))
    return [row for path in files for row in rows(path)]


def test_two_processes_on_one_shard_leave_one_file(films, tmp_path):
    run("predict", films, "--csv", tmp_path / "whole.csv")
    both = [start(MEET, "predict", films, "--parts", "both", "--shard", "0/1") for _ in range(2)]
    for process in both:
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 0, said
        assert re.search(r"\.part-00000\.\w+\.csv is written: 4 films", said)  # by each of the two
    assert sorted(path.suffix for path in (tmp_path / "both").iterdir()) == [".csv"] * 8 + [".json"]
    assert run("merge", "both", "out.csv").exit_code == 0
    assert rows(tmp_path / "out.csv") == rows(tmp_path / "whole.csv")


def test_no_more_films_are_listed_than_a_part_has(grey, tmp_path):
    listed = []
    films = (listed.append(number) or Path(f"{number}.png") for number in range(400))

    def read(chunk):
        assert len(listed) <= int(chunk[-1].stem) + 1  # up to the last film of this part
        return [(str(film), *[""] * (len(COLUMNS) - 1)) for film in chunk]

    settings = parts.describe_settings(grey.card, None, False, None)
    assert len(parts.write_shard(LocalFolder(tmp_path), parts.Shard(0, 1), films, read, settings, "csv", print)) == 100


def test_a_second_run_reads_nothing(films, grey, tmp_path, monkeypatch):
    read_shards(films, tmp_path / "parts")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("parts/*.csv")}
    monkeypatch.setattr(grey, "predict", None)
    read_shards(films, tmp_path / "parts")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("parts/*.csv")} == before


@pytest.mark.parametrize(
    "change",
    [
        lambda films: ["--shard", "0/4"],
        lambda films: ["--shard", "0/3", "--parquet"],
        lambda films: ["--shard", "0/3", "--operating-point", "specific"],
        lambda films: ["--shard", "0/3", "--force"],
        lambda films: [Image.new("L", (64, 64)).save(films / f"0/{number}.png") for number in range(9)] and
                      ["--shard", "0/3"],
        lambda films: [path.unlink() for path in films.glob("[12]/*")] and ["--shard", "0/3"],
    ],
)  # fmt: skip
def test_parts_of_anything_else_are_refused_and_kept(films, tmp_path, change):
    read_shards(films, tmp_path / "parts")
    before = contents(tmp_path / "parts")
    done = run("predict", films, "--parts", tmp_path / "parts", *change(films))
    assert done.exit_code == 2
    assert "than this run. Name another folder" in done.stderr
    assert contents(tmp_path / "parts") == before


def test_merge_waits_for_every_shard_and_every_part(films, tmp_path):
    def refused():
        done = run("merge", tmp_path / "parts", tmp_path / "out.csv")
        assert done.exit_code == 2
        assert not (tmp_path / "out.csv").exists()
        return done.stderr

    (tmp_path / "parts").mkdir()
    assert "found none" in refused()
    read_shards(films, tmp_path / "parts", only=[0, 2])
    assert "to be finished, 1 are not: 1. Run" in refused()
    read_shards(films, tmp_path / "parts", "--force", only=[1])
    assert "different ones" in refused()
    (tmp_path / "parts" / "shard-00001-of-00003.json").unlink()
    for path in tmp_path.glob("parts/shard-00001-*"):
        path.unlink()
    read_shards(films, tmp_path / "parts", only=[1])
    lost = sorted(tmp_path.glob("parts/*.csv"))[0]
    lost.rename(tmp_path / "elsewhere")
    assert f"Expected {lost.name} in" in refused()


def test_merge_overwrites_no_other_file(films, tmp_path):
    read_shards(films, tmp_path / "parts")
    read_shards(films, tmp_path / "parquet", "--parquet")
    for folder, name in (("parts", "notes.csv"), ("parquet", "notes.parquet")):
        out = tmp_path / name
        out.write_text("what I think of it\n")
        assert "found another file" in run("merge", tmp_path / folder, out).stderr
        assert out.read_text() == "what I think of it\n"
        out.unlink()
        for _ in range(2):  # its own file is written anew
            assert run("merge", tmp_path / folder, out).exit_code == 0
    assert "ends in .csv" in run("merge", tmp_path / "parts", tmp_path / "out.parquet").stderr


def test_a_full_disk_is_one_sentence_and_leaves_no_half_part(films, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))  # as on a full disk, a write ends in the middle
    try:
        done = run("predict", films, "--parts", tmp_path / "parts")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert done.exit_code == 2
    assert "cannot be written: File too large." in done.stderr
    assert contents(tmp_path / "parts") == {}


def test_no_film_of_a_shard_is_no_error(films, tmp_path):
    only = next(films.rglob("*.png"))
    read_shards(only, tmp_path / "parts")
    found = [json.loads(data)["films"] for name, data in contents(tmp_path / "parts").items() if name.endswith("json")]
    assert sorted(found) == [0, 0, 1]
    assert run("merge", tmp_path / "parts", tmp_path / "out.csv").exit_code == 0
    assert [row["file"] for row in rows(tmp_path / "out.csv")] == [str(only)]


@pytest.mark.parametrize("shard", ["3/3", "1", "a/b", "-1/3", "1/0"])
def test_a_shard_that_there_is_not_is_refused(films, tmp_path, shard):
    done = run("predict", films, "--parts", tmp_path / "parts", "--shard", shard)
    assert done.exit_code == 2
    assert "expected I/N with I from 0 to N - 1" in done.stderr


def test_options_that_contradict_each_other_are_refused(films, tmp_path):
    for arguments in (["--shard", "0/3"], ["--parquet"], ["--parts", "p", "--csv", "c"], ["--parts", "p", "--resume"]):
        assert run("predict", films, *arguments).exit_code == 2
    assert "received none of them" in run("predict").stderr


def test_formulas_are_guarded_in_csv_and_not_in_parquet(grey, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (64, 64), 60).save("=1.png")
    for kind, name in (([], "csv"), (["--parquet"], "parquet")):
        run("predict", "--parts", name, *kind, "--", "=1.png")
    (part,) = Path("csv").glob("*.csv")
    assert rows(part)[0]["file"] == "'=1.png"
    (part,) = Path("parquet").glob("*.parquet")
    assert parquet.read_table(part).column("file").to_pylist() == ["=1.png"]
    assert tuple(parquet.read_schema(part).names) == COLUMNS
