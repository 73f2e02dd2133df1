"""Patients, parts and files of a data set folder."""

import hashlib

import numpy as np
import pytest

from pneumo.data.dataset import (
    PARTS,
    content_hashes,
    fingerprint,
    is_picture,
    load,
    number_patients,
    patient_key,
    scan,
    split,
)
from pneumo.errors import FormatError, PneumoError


@pytest.mark.parametrize(
    ("name", "key", "aetiology"),
    [
        ("person1290_virus_2215.jpeg", "person1290_virus", "virus"),
        ("person1290_virus_2215.png", "person1290_virus", "virus"),
        ("person447_virus_921_1.jpeg", "person447_virus", "virus"),
        ("person12_bacteria_46.jpeg", "person12_bacteria", "bacteria"),
        ("person12_virus_46.jpeg", "person12_virus", "virus"),
        ("IM-0115-0001.jpeg", "IM-0115", "normal"),
        ("IM-0509-0001-0002.jpeg", "IM-0509", "normal"),
        ("NORMAL2-IM-0927-0001.jpeg", "NORMAL2-IM-0927", "normal"),
        ("NORMAL2-IM-0115-0001-0001.jpeg", "NORMAL2-IM-0115", "normal"),
        ("00001803_001.png", "NORMAL/00001803_001", None),
        ("person12.jpeg", "PNEUMONIA/person12", None),
        ("IM-0115-0001.dcm", "NORMAL/IM-0115-0001", None),  # of a viewer
    ],
)
def test_file_names_carry_the_patient(name, key, aetiology):
    label = "PNEUMONIA" if name.startswith("person") else "NORMAL"
    assert patient_key(name, label) == (key, aetiology)


def test_names_that_contradict_the_folder_tell_nothing():
    assert patient_key("IM-0115-0001.jpeg", "PNEUMONIA") == ("PNEUMONIA/IM-0115-0001", None)
    assert patient_key("person12_virus_46.jpeg", "NORMAL") == ("NORMAL/person12_virus_46", None)


def test_both_labels_may_count_their_films_from_one(tmp_path):
    for label in ("NORMAL", "PNEUMONIA"):
        (tmp_path / label).mkdir()
        for number in range(12):
            (tmp_path / label / f"{number:04}.png").write_text(f"{label} {number}")
    examples = scan(tmp_path)
    assert len(set(number_patients(examples, content_hashes(examples)))) == 24


def test_a_file_that_may_not_be_opened_is_left_to_its_reader(tmp_path, monkeypatch):
    film = tmp_path / "IM0001"
    film.write_text("no film")
    assert not is_picture(film)

    def refused(*_):
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(type(film), "open", refused)
        assert is_picture(film)
    monkeypatch.setattr(type(film), "is_file", refused)  # in a folder that may not be entered
    assert is_picture(film)


def write_films(folder):
    """400 patients, of whom every third has two films: 133 + 400 films, of 3 kinds; the files hold only their number.

    Every tenth patient's first film is a byte-identical copy of the next patient's.
    """
    for patient in range(400):
        for film in range(1 + (patient % 3 == 0)):
            kind = ("IM-{0:04}-000{1}", "person{0}_bacteria_{1}", "person{0}_virus_{1}")[patient % 4 % 3]
            label = "NORMAL" if kind.startswith("IM") else "PNEUMONIA"
            path = folder / label / (kind.format(patient, film + 1) + ".jpeg")
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"{patient + (patient % 10 == 0)} {film}")
    return folder


@pytest.fixture
def folder(tmp_path):
    """Those films, in a folder that a test may change."""
    return write_films(tmp_path)


@pytest.fixture(scope="module")
def divided(tmp_path_factory):
    """Those films as examples, their hashes, and their parts."""
    examples = scan(write_films(tmp_path_factory.mktemp("films")))
    hashes = content_hashes(examples)
    return examples, hashes, split(examples, hashes)


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
    (folder / "NORMAL" / "17" / "IM-0001-0001.png").write_bytes(b"film")  # as the data set's own films never lie
    assert {e.aetiology for e in scan(folder) if e.path.parent.name == "17"} == {None}


def test_scan_says_which_folder_holds_no_film(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        scan(tmp_path / "nowhere")
    for film in (folder / "PNEUMONIA").iterdir():
        film.unlink()
    with pytest.raises(FileNotFoundError, match="PNEUMONIA"):
        scan(folder)


def test_no_patient_and_no_content_is_in_two_parts(divided):
    examples, hashes, parts = divided
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


def test_parts_are_about_80_10_10_in_every_kind(divided):
    _, _, parts = divided
    for kind in ("normal", "bacteria", "virus"):
        counts = [sum(e.aetiology == kind for e in part) for part in parts.values()]
        assert np.array(counts) / sum(counts) == pytest.approx([0.8, 0.1, 0.1], abs=0.03)


def test_split_is_the_same_every_time_and_another_with_another_seed(divided):
    examples, hashes, parts = divided
    assert split(examples, hashes) == parts
    assert split(examples, hashes, seed=1) != parts


def test_too_few_films_to_split_are_said(folder):
    examples = scan(folder)[:9]
    with pytest.raises(PneumoError, match="at least ten patients and ten films"):
        split(examples, content_hashes(examples))


@pytest.mark.parametrize(("normals", "pneumonias", "films"), [(2, 2, 8), (2, 60, 1)])
def test_too_few_patients_to_split_are_said(tmp_path, normals, pneumonias, films):
    for label, patients in (("NORMAL", normals), ("PNEUMONIA", pneumonias)):
        for patient in range(patients):
            (folder := tmp_path / label / f"{label} {patient}").mkdir(parents=True)
            for film in range(films):
                (folder / f"{film}.png").write_text(f"{label} {patient} {film}")
    examples = scan(tmp_path)
    with pytest.raises(PneumoError, match="patients"):
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
