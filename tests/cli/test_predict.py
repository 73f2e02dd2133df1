"""Many films: in order, on every core, in bounded memory, and a killed run goes on as if nothing had been."""

import resource
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo.archive.rows import FORMULA, guard
from pneumo.cli import films as cli_films
from pneumo.films.images import decode
from pneumo.model.predictor import Predictor
from tests.support.cli import KILL, run, start
from tests.support.films import SAMPLES

ROOT = Path(__file__).parents[2]


@pytest.fixture
def films(tmp_path):
    """A folder of 30 films, film n of grey 8 n, two of each name; number 4 cannot be read."""
    for number in range(30):
        path = tmp_path / "films" / f"{number // 2:02}" / f"{'film' if number % 2 else 'FILM'} {number // 4}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (64, 48), 8 * number).save(path)
    sorted((tmp_path / "films").rglob("*.png"))[4].write_bytes(b"no film")
    return tmp_path / "films"


def test_items_come_in_order_and_few_are_begun_ahead(monkeypatch):
    monkeypatch.setattr(cli_films, "cores", lambda: 3)
    begun = []
    for taken, square in enumerate(cli_films.each(lambda x: x * x, (begun.append(x) or x for x in range(100)))):
        assert square == taken**2
        assert len(begun) <= taken + cli_films.AHEAD * 3
    assert begun == list(range(100))


def test_as_many_items_are_worked_on_as_there_are_cores(monkeypatch):
    monkeypatch.setattr(cli_films, "cores", lambda: 4)
    met = threading.Barrier(4)  # breaks unless four wait at the same time
    assert len({*cli_films.each(lambda _: (met.wait(timeout=60), threading.get_ident())[1], range(4))}) == 4


def test_an_error_ends_it_and_leaves_no_thread(monkeypatch):
    monkeypatch.setattr(cli_films, "cores", lambda: 2)
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        list(cli_films.each(lambda x: 1 // (3 - x), range(1000)))
    assert threading.active_count() == before


def test_the_answers_of_any_number_of_threads_and_interpreters_are_the_same_to_the_bit(predictor):
    films = [decode(path.read_bytes()).pixels for path in SAMPLES]
    parallel = Predictor(predictor.card, threads=1, at_once=2)
    met = threading.Barrier(2)

    def look(film):
        with parallel._served._take():
            met.wait(timeout=60)  # both interpreters are taken
        return parallel.look(film)

    both = cli_films.ThreadPoolExecutor(2)
    for film, found in zip(films, both.map(look, films), strict=True):
        for expected, array in zip(predictor.look(film), found, strict=True):
            np.testing.assert_array_equal(array, expected)
    assert len(parallel._served._free) == 2


def test_a_killed_run_resumes_to_the_same_rows_and_heat_maps(grey, films, tmp_path):
    def command(folder):
        return ["predict", films, "--csv", folder / "out.csv", "--heatmaps", folder / "maps"]

    assert run(*command(tmp_path / "whole")).exit_code == 0
    process = start(KILL.format(deadly=8 * 25), *command(tmp_path / "killed"))
    said = process.communicate(timeout=60)[1]
    assert process.returncode == -signal.SIGKILL, said
    out, whole = tmp_path / "killed" / "out.csv", (tmp_path / "whole" / "out.csv").read_bytes()
    left = out.read_bytes()
    assert whole.startswith(left)
    rows = left.count(b"\n") - 1
    assert 20 <= rows <= 25  # on two cores at most four films were ahead of the rows
    done = run(*command(tmp_path / "killed"), "--resume")
    assert done.exit_code == 0
    assert f"{rows} of 30 films are in {out} already." in done.stderr
    assert "29 of 30 read by mean-grey" in done.stderr
    assert out.read_bytes() == whole
    maps = [{p.name: p.read_bytes() for p in (tmp_path / of / "maps").iterdir()} for of in ("whole", "killed")]
    assert len(maps[0]) == 29
    assert maps[0] == maps[1]


@pytest.mark.parametrize("cut", [0, 9, 60, 200, 201, 230, 260, 700])
def test_wherever_the_file_was_cut_the_rest_is_the_same(grey, tmp_path, monkeypatch, cut):
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("=1.png", "a, b.png", 'two\nlines "x".png', "gone.png", "é.png")):
        Image.new("L", (64, 64), 50 * number).save(name)
    Path("gone.png").unlink()
    command = ["predict", "--csv", "out.csv", "--resume", "--"]
    names = ["=1.png", "a, b.png", 'two\nlines "x".png', "gone.png", "é.png", "é.png"]
    run(*command, *names)
    whole = Path("out.csv").read_bytes()
    assert whole.count(b"\xc3\xa9") == 2  # a film that is named twice has two rows
    Path("out.csv").write_bytes(whole[:cut])
    assert run(*command, *names).exit_code == 0
    assert Path("out.csv").read_bytes() == whole


def test_a_whole_csv_is_left_as_it_is_and_a_grown_folder_is_gone_on_with(grey, films, tmp_path):
    out = tmp_path / "out.csv"
    run("predict", films, "--csv", out)
    whole = out.read_bytes()
    assert run("predict", films, "--csv", out, "--resume").exit_code == 0
    assert out.read_bytes() == whole
    Image.new("L", (64, 64), 60).save(films / "00" / "A new one.png")
    assert "30 of 31 films are in" in run("predict", films, "--csv", out, "--resume").stderr
    assert out.read_bytes().startswith(whole)
    assert out.read_bytes().count(b"\n") == 32


def test_rows_of_anything_else_are_refused_and_kept(grey, films, tmp_path, monkeypatch):
    out = tmp_path / "out.csv"

    def refused(*arguments):
        before = out.read_bytes()
        done = run("predict", films, "--csv", out, "--resume", *arguments)
        assert (done.exit_code, out.read_bytes()) == (2, before)
        return done.stderr

    run("predict", SAMPLES[0], "--csv", out)
    assert f"found {SAMPLES[0]}. Without --resume" in refused()
    run("predict", films, "--csv", out)
    assert "another model or operating point: " in refused("--operating-point", "specific")
    assert "found no " in refused("--heatmaps", tmp_path / "maps")
    look = grey.look  # another model with the same threshold, which sees all films a little brighter
    monkeypatch.setattr(grey, "look", lambda pixels: look(pixels // 2 * 2 + 1))
    assert "another model or operating point: " in refused()
    for spoiled in (b"file,label\na,b\n", out.read_bytes().replace(b"\n", b"\r\n"), b"\xff\xfe\n" * 3):
        out.write_bytes(spoiled)
        assert "as pneumo wrote it" in refused()


def test_without_resume_the_file_is_written_anew(grey, tmp_path):
    out = tmp_path / "out.csv"
    for _ in range(2):
        assert run("predict", SAMPLES[0], "--csv", out).exit_code == 0
        assert out.read_text().count("\n") == 2
    out.write_bytes(b"")
    assert run("predict", SAMPLES[0], "--csv", out).exit_code == 0
    assert run("predict", SAMPLES[0], "--resume").exit_code == 2


def test_no_other_file_and_no_film_is_overwritten(grey, films, tmp_path):
    other, link = tmp_path / "notes.txt", tmp_path / "link.csv"
    other.write_text("film,what I think of it\n")
    film = sorted(films.rglob("*.png"))[0]
    link.symlink_to(film)
    for out, words in ((other, "found another file"), (film, "one of the films"), (link, "one of the films")):
        before = out.read_bytes()
        done = run("predict", films, "--csv", out)
        assert (done.exit_code, out.read_bytes()) == (2, before)
        assert words in done.stderr


def test_what_is_passed_over_in_a_folder_is_counted_and_named(grey, tmp_path):
    for name in ("a.jfif", "b.JPE", "c.jpg"):
        (tmp_path / name).write_bytes(SAMPLES[0].read_bytes())
    for name in ("d.ima", "e.IMA", "f.dic", "IM7", "g.heic", "h.zip", ".hidden", "a.heatmap.png"):
        (tmp_path / name).write_bytes(b"something")
    (tmp_path / "elsewhere").symlink_to(tmp_path.parent)
    done = run("predict", tmp_path, "--csv", tmp_path.parent / "out.csv")
    assert "3 of 3 read" in done.stderr
    assert "Not read in" in done.stderr
    assert ": 1 .dic, 1 .heic, 2 .ima, 1 .zip, 1 links, 1 without a suffix. Name" in done.stderr


@pytest.mark.parametrize(("limit", "drawn"), [(30, False), (1000, False), (100, True)])
def test_a_full_disk_is_one_sentence_and_leaves_nothing_half_written(grey, films, tmp_path, limit, drawn):
    out, maps = tmp_path / "out.csv", tmp_path / "maps"
    run("predict", films, "--csv", out)
    whole, before = out.read_text(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))  # as on a full disk, a write ends in the middle
    try:
        done = run("predict", films, "--csv", out, *(("--heatmaps", maps) if drawn else ()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    (said,) = [line for line in done.stderr.splitlines() if "cannot be written" in line]
    assert done.exit_code == 2
    assert str(maps if drawn else out) in said
    rows = 0 if limit == 30 else 1 if drawn else whole[:limit].count("\n")
    assert out.read_text() == "".join(whole.splitlines(keepends=True)[:rows])
    assert not list(maps.glob("*"))


@pytest.mark.parametrize(
    ("name", "runs"),
    [("=1+1.jpeg", True), (" =1.jpeg", True), ("@a", True), ("＝1", True), ("\tx", True), ("a=b", False)],
)
def test_a_name_that_a_spreadsheet_would_run_gets_an_apostrophe(name, runs):
    assert guard(name) == ("'" + name if runs else name)
    script = Path(__file__).parents[2].joinpath("static", "page.js").read_text(encoding="utf-8")
    assert r"/^[\t\r\n]|^\s*[=+\-@＝＋－＠]/" in script, "the page guards the same"
    assert FORMULA.pattern == r"[\t\r\n]|\s*[=+\-@＝＋－＠]"
