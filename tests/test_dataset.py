"""Patients, parts and files of a data set folder."""

import hashlib

import numpy as np
import pytest

from pneumo.dataset import PARTS, content_hashes, fingerprint, load, patient_key, scan, split
from pneumo.errors import FormatError, PneumoError


@pytest.mark.parametrize(
    ("name", "key", "aetiology"),
    [
        ("person1290_virus_2215.jpeg", "person1290_virus", "virus"),
        ("person447_virus_921_1.jpeg", "person447_virus", "virus"),
        ("person12_bacteria_46.jpeg", "person12_bacteria", "bacteria"),
        ("person12_virus_46.jpeg", "person12_virus", "virus"),
        ("IM-0115-0001.jpeg", "IM-0115", "normal"),
        ("IM-0509-0001-0002.jpeg", "IM-0509", "normal"),
        ("NORMAL2-IM-0927-0001.jpeg", "NORMAL2-IM-0927", "normal"),
        ("NORMAL2-IM-0115-0001-0001.jpeg", "NORMAL2-IM-0115", "normal"),
        ("00001803_001.png", "00001803_001", None),
        ("person12.jpeg", "person12", None),
    ],
)
def test_file_names_carry_the_patient(name, key, aetiology):
    assert patient_key(name) == (key, aetiology)


@pytest.fixture
def folder(tmp_path):
    """400 children, of whom every third has two films: 133 + 400 films, of 3 kinds; the files hold only their number.

    Every tenth child's first film is a byte-identical copy of the next child's.
    """
    for child in range(400):
        for film in range(1 + (child % 3 == 0)):
            kind = ("IM-{0:04}-000{1}", "person{0}_bacteria_{1}", "person{0}_virus_{1}")[child % 4 % 3]
            label = "NORMAL" if kind.startswith("IM") else "PNEUMONIA"
            path = tmp_path / label / (kind.format(child, film + 1) + ".jpeg")
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{child + (child % 10 == 0)} {film}")
    return tmp_path


def test_scan_lists_films_with_labels_and_ignores_litter(folder):
    for litter in ("._IM-0000-0001.jpeg", ".DS_Store", "Thumbs.db", "notes.txt"):
        (folder / "NORMAL" / litter).touch()
    (folder / "NORMAL" / "folder.jpeg").mkdir()
    (folder / "NORMAL" / "IM-9999-0001.PNG").touch()
    examples = scan(folder)
    assert len(examples) == 400 + 134 + 1
    assert {example.label for example in examples if example.aetiology == "normal"} == {"NORMAL"}
    assert {example.target for example in examples if example.aetiology in ("bacteria", "virus")} == {1}
    assert examples == scan(folder)


def test_a_folder_within_a_label_is_a_patient(folder):
    for label, name in (("NORMAL", "a"), ("PNEUMONIA", "a"), ("PNEUMONIA", "b")):
        film = folder / label / "17" / f"{name}.png"
        film.parent.mkdir(exist_ok=True)
        film.write_bytes(b"film")
    inside = [e for e in scan(folder) if e.path.parent.name == "17"]
    assert [(e.label, e.patient) for e in inside] == [("NORMAL", "17"), ("PNEUMONIA", "17"), ("PNEUMONIA", "17")]


def test_scan_says_which_folder_holds_no_film(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        scan(tmp_path / "nowhere")
    for film in (folder / "PNEUMONIA").iterdir():
        film.unlink()
    with pytest.raises(FileNotFoundError, match="PNEUMONIA"):
        scan(folder)


def test_no_child_and_no_content_is_in_two_parts(folder):
    examples = scan(folder)
    hashes = content_hashes(examples)
    parts = split(examples, hashes)
    assert tuple(parts) == PARTS
    assert sorted(e.path for part in parts.values() for e in part) == sorted(e.path for e in examples)
    content = dict(zip((e.path for e in examples), hashes, strict=True))
    for of in (lambda e: e.patient, lambda e: content[e.path]):
        sets = [{of(e) for e in part} for part in parts.values()]
        assert not sets[0] & sets[1]
        assert not sets[0] & sets[2]
        assert not sets[1] & sets[2]
    shared = [e for e in examples if hashes.count(content[e.path]) > 1]
    assert len({e.patient for e in shared}) == 80  # the copies lie under two keys each, so this was a test


def test_parts_are_about_80_10_10_in_every_kind(folder):
    examples = scan(folder)
    parts = split(examples, content_hashes(examples))
    for kind in ("normal", "bacteria", "virus"):
        counts = [sum(e.aetiology == kind for e in part) for part in parts.values()]
        assert np.array(counts) / sum(counts) == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


def test_split_is_the_same_every_time_and_another_with_another_seed(folder):
    examples = scan(folder)
    hashes = content_hashes(examples)
    assert split(examples, hashes) == split(examples, hashes)
    assert split(examples, hashes, seed=1) != split(examples, hashes)


def test_too_few_films_to_split_are_said(folder):
    examples = scan(folder)[:9]
    with pytest.raises(PneumoError, match="at least ten films"):
        split(examples, content_hashes(examples))


def test_hashes_are_of_the_content_and_the_fingerprint_forgets_order(folder):
    examples = scan(folder)
    hashes = content_hashes(examples)
    assert hashes[0] == hashlib.sha256(examples[0].path.read_bytes()).hexdigest()
    assert fingerprint(hashes) == fingerprint(hashes[::-1]) != fingerprint(hashes[1:])


def test_load_squashes_every_film_and_names_the_bad_one(chest_xray):
    examples = scan(chest_xray / "train")
    films = load(examples, 64)
    assert (films.shape, films.dtype) == ((40, 64, 64), np.uint8)
    examples[3].path.write_bytes(b"no picture")
    with pytest.raises(FormatError, match=examples[3].path.name):
        load(examples, 64)
