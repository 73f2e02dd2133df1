"""Sources become films, in one order, and each film is of one shard."""

import io
import sys
from pathlib import Path

import pydicom.data
import pytest

from pneumo.archive.listing import Shard, find_films, read_dicomdir
from pneumo.errors import FormatError, RunError
from tests.support.dicom import RAMP, dicom

DICOMDIR = Path(pydicom.data.__file__).parent / "test_files" / "dicomdirtests" / "DICOMDIR"


ALL = Shard(0, 1)


def names(*sources, lists=(), shard=ALL, root=None):
    found = map(str, find_films(map(str, sources), lists, shard))
    return [str(Path(name).relative_to(root)) if root else name for name in found]


@pytest.fixture
def folder(tmp_path):
    """Films in three folders, and files that are none."""
    for name in ("b/1.png", "b/2.png", "a/IM1", "a/z.JPG", "a/deep/3.dcm", "c.png", "b/notes.txt", "b/1.heatmap.png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dicom(RAMP) if name == "a/IM1" else b"something")
    return tmp_path


def test_a_folder_is_walked_in_the_order_of_names(folder):
    assert names(folder, root=folder) == ["a/IM1", "a/deep/3.dcm", "a/z.JPG", "b/1.png", "b/2.png", "c.png"]
    assert names(folder) == list(map(str, sorted(map(Path, names(folder)))))


def test_a_glob_stands_for_its_files_and_a_file_with_such_a_name_for_itself(folder):
    assert names(folder / "*" / "*.png", root=folder) == ["b/1.heatmap.png", "b/1.png", "b/2.png"]
    assert names(folder / "**" / "*.dcm", root=folder) == ["a/deep/3.dcm"]
    said = []
    assert list(find_films([str(folder / "*.bmp")], say=said.append)) == []
    assert said == [f"Expected files that are called like {folder / '*.bmp'}, found none."]
    (folder / "odd[1].png").touch()
    assert names(folder / "odd[1].png", root=folder) == ["odd[1].png"]


def test_a_list_names_films_one_a_line(folder, monkeypatch):
    listed = folder / "list.txt"
    listed.write_text("é one.png\n\ns3://bucket/two.dcm\r\nthree\n", encoding="utf-8")
    expected = ["é one.png", "s3://bucket/two.dcm", "three"]
    assert names(lists=[str(listed)]) == expected
    monkeypatch.setattr(sys, "stdin", io.StringIO(listed.read_text(encoding="utf-8")))
    assert names("c.png", lists=["-"]) == ["c.png", *expected]
    listed.write_bytes(b"R\xf6ntgen.png\n")
    with pytest.raises(RunError, match="UTF-8"):
        names(lists=[str(listed)])


def test_a_dicomdir_stands_for_its_pictures():
    found = names(DICOMDIR)
    assert len(found) == 31  # IMAGE records, as dcmdump counts them
    assert all(Path(name).is_file() for name in found)
    assert found[0] == str(DICOMDIR.parent / "77654033" / "CR1" / "6154")
    with pytest.raises(FormatError, match="DICOMDIR"):
        read_dicomdir(b"no DICOMDIR", "folder")


@pytest.mark.parametrize("count", [2, 3, 7])
def test_each_film_is_of_one_shard_whatever_else_there_is(count):
    films = [f"films/{number}.png" for number in range(700)]
    owners = {name: [index for index in range(count) if Shard(index, count).owns(name)] for name in films}
    assert {len(found) for found in owners.values()} == {1}
    sizes = [sum(found == [index] for found in owners.values()) for index in range(count)]
    assert max(sizes) < 1.4 * 700 / count


def test_the_shard_of_a_name_stays():
    digests = {"a": 0x40F89E395B66422F, "b": 0x8472C2E34D854F75, "c": 0x373F6364CD072C1B}  # printf a | b2sum -l 64
    for name, digest in digests.items():
        assert [index for index in range(5) if Shard(index, 5).owns(name)] == [digest % 5]
