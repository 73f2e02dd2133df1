"""`pneumo data`: what is in a copy of the data set, and how one comes from Kaggle."""

import shutil
import sys
import types

import pytest

from pneumo.cli import data as cli_data
from pneumo.data.dataset import content_hashes, fingerprint, scan, split
from tests.support.cli import run
from tests.support.films import SAMPLES


def test_data_tells_what_is_there(chest_xray):
    folder = chest_xray / "train"
    shutil.copy(folder / "NORMAL" / "IM-0000-0001.jpeg", folder / "NORMAL" / "IM-9999-0001.jpeg")
    for label in ("NORMAL", "PNEUMONIA"):
        shutil.copytree(folder / label, chest_xray / "test" / label)
    broken = folder / "PNEUMONIA" / "person99_virus_1.jpeg"
    broken.write_bytes(b"")
    done = run("data", chest_xray)
    assert done.exit_code == 0
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[1][1:] == ["films", "NORMAL", "PNEUMONIA", "bacterial", "viral", "patients", "unreadable"]
    assert lines[2] == ["train", "42", "21", "21", "10", "11", "32", "1"]
    assert lines[3] == ["test", "41", "21", "20", "10", "10", "31", "0"]
    assert "byte-identical: 40 groups of 82 files, 40 of them across folders" in done.stdout
    parts = split(scan(folder), content_hashes(scan(folder)))
    assert [line[:2] for line in lines[6:9]] == [[name, str(len(films))] for name, films in parts.items()]
    assert fingerprint(content_hashes(scan(folder))) in done.stdout
    assert f"unreadable: {broken}: Expected" in done.stdout


def test_data_that_is_missing_is_said_with_how_to_get_it(tmp_path):
    done = run("data", tmp_path / "chest_xray")
    assert done.exit_code == 2
    for words in ("paultimothymooney/chest-xray-pneumonia", "pneumo data --fetch", "CC BY 4.0", "Kermany"):
        assert words in done.stderr
    assert done.stderr.count("\n") == 1


def test_data_too_few_to_split_is_still_counted(chest_xray):
    for path in (chest_xray / "train").rglob("*[1-9].jpeg"):
        path.unlink()
    for number in range(3):
        shutil.copy(SAMPLES[0], chest_xray / "train" / "NORMAL" / f"IM-{number:04}-0001.jpeg")
    done = run("data", chest_xray)
    assert done.exit_code == 0
    assert "Expected at least ten patients and ten films" in done.stdout


@pytest.fixture
def kaggle(monkeypatch, tmp_path):
    """A kagglehub that hands out a folder, or raises."""
    hub, exceptions = types.ModuleType("kagglehub"), types.ModuleType("kagglehub.exceptions")
    for name in ("Backend", "Credential", "DataCorruption", "NotFound", "Unauthenticated"):
        setattr(exceptions, f"{name}Error", type(f"{name}Error", (Exception,), {}))
    hub.exceptions, hub.asked = exceptions, []

    def download(handle):
        hub.asked.append(handle)
        if isinstance(hub.answer, Exception):
            raise hub.answer
        return str(hub.answer)

    hub.dataset_download = download
    monkeypatch.setitem(sys.modules, "kagglehub", hub)
    monkeypatch.setitem(sys.modules, "kagglehub.exceptions", exceptions)
    return hub


@pytest.mark.parametrize("inner", ["", "chest_xray", "chest_xray/chest_xray"])
def test_fetch_links_the_data_however_deep_kaggle_nests_it(kaggle, tiny_chest_xray, tmp_path, inner):
    cache = tmp_path / "cache" / "versions" / "2"
    shutil.copytree(tiny_chest_xray, cache / inner)
    litter = cache / "chest_xray" / "__MACOSX" / "chest_xray" / "train" / "NORMAL" / "._IM-0000-0001.jpeg"
    litter.parent.mkdir(parents=True)
    litter.touch()
    kaggle.answer = cache
    folder = tmp_path / "data" / "chest_xray"
    done = run("data", folder, "--fetch")
    assert done.exit_code == 0
    assert kaggle.asked == [cli_data.HANDLE]
    assert len(scan(folder / "train")) == 40
    assert run("data", folder, "--fetch").exit_code == 0
    assert len(kaggle.asked) == 1, "what is there is not fetched again"


def test_fetch_that_fails_is_one_sentence(kaggle, tmp_path):
    for error in (ConnectionError("no route"), kaggle.exceptions.UnauthenticatedError("log in")):
        kaggle.answer = error
        done = run("data", tmp_path / "data", "--fetch")
        assert done.exit_code == 1
        assert done.stderr == f"Error: The download from Kaggle failed ({type(error).__name__}: {error}).\n"
        assert not (tmp_path / "data").exists()


def test_fetch_leaves_a_folder_with_other_files_alone(kaggle, tmp_path):
    (tmp_path / "mine.txt").touch()
    done = run("data", tmp_path, "--fetch")
    assert done.exit_code == 2
    assert "to be empty or missing" in done.stderr
    assert kaggle.asked == []
