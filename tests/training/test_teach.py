"""Teaching the gate: what is made of films, what a folder holds, and what a gate taught by toy films tells apart."""

import numpy as np
import pytest
from PIL import Image

from pneumo.model.gate import read_gate
from pneumo.model.population import read_row
from pneumo.training import gate, pictures
from pneumo.training.population import CHANGES, crop, fit_row, shrink, to_gamma

NOTHING = ([], np.array([], int))
PARTS = {"train": 60, "validation": 40, "internal_test": 20}


def test_shuffled_film_has_the_same_tiles_in_another_order():
    film = np.arange(64, dtype=np.uint8).reshape(8, 8)
    other = pictures.shuffle(film, 2, np.random.default_rng(0))
    assert sorted(other.ravel()) == sorted(film.ravel())
    assert not np.array_equal(other, film)
    assert sorted(t.sum() for t in (film[:4, :4], film[:4, 4:], film[4:, :4], film[4:, 4:])) == sorted(
        t.sum() for t in (other[:4, :4], other[:4, 4:], other[4:, :4], other[4:, 4:])
    )


def test_turned_films():
    film = np.array([[1, 2], [3, 4]], np.uint8)
    assert pictures.turn(film[None], "upside_down")[0].tolist() == [[4, 3], [2, 1]]
    clockwise, back = pictures.turn(np.stack([film, film]), "sideways")
    assert (clockwise.tolist(), back.tolist()) == ([[3, 1], [4, 2]], [[2, 4], [1, 3]])
    assert pictures.turn(film[None], "negative")[0].tolist() == [[254, 253], [252, 251]]


def test_pictures_of_one_patient_are_in_one_fold(tmp_path):
    names = ["1_000", "1_001", "2_000", "3_000", "3_001"]
    for grey, name in enumerate([*(f"0000000{name}" for name in names), "IMG_0000", "IMG_0001", "IMG_0002"]):
        Image.new("L", (40, 40), grey).save(tmp_path / f"{name}.png")
    (tmp_path / "note.txt").write_text("no picture")
    found, folds = pictures.read_pictures(pictures.list_files(tmp_path))
    assert [picture[0, 0] for picture in found] == list(range(8))
    assert folds.tolist() == [0, 0, 1, 2, 2, 3, 0, 1]
    assert [len(one) for one in pictures.read_pictures(pictures.list_files(None))] == [0, 0]


def test_the_innermost_known_folder_tells_what_its_pictures_are(tmp_path):
    kinds = {"body_parts/hand": 1, "body_parts/chest_ct": 2, "ct": 3, "lateral/new": 4, "photos": 5, "cats": 6, ".": 7}
    for folder, grey in kinds.items():
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 40), grey).save(tmp_path / folder / f"{grey}.png")
    (tmp_path / "empty" / "photos").mkdir(parents=True)
    read = {kind: [one[0, 0] for one in found] for kind, (found, _) in pictures.read_others(tmp_path).items()}
    assert read == {"lateral": [4], "ct": [2, 3], "body_part": [1], "photograph": [5], "other": [7, 6]}
    assert pictures.read_others(None) == {}


def halves(picture):
    """Two features: the mean of the upper and of the lower half."""
    return np.array([half.mean() / 100 for half in np.array_split(picture, 2)], np.float32)


def toy(low, high):
    """Films of a population: dark above and bright below, (n, 32, 32) uint8 for each part."""
    rng = np.random.default_rng(0)
    film = np.repeat([[low], [high]], 16, axis=0) + np.zeros((32, 32))
    return {part: (film + rng.normal(0, 5, (n, 32, 32))).astype(np.uint8) for part, n in PARTS.items()}


@pytest.fixture(scope="module")
def lesson(tmp_path_factory):
    """A gate that knows two populations, photographs that are bright above, and what teaching says of it."""
    path = tmp_path_factory.mktemp("gate") / "gate.npz"
    bright = [np.repeat([[200], [90]], 16, axis=0).repeat(32, axis=1).astype(np.uint8)] * 40
    films = {"child": toy(40, 200), "adult": toy(90, 230)}
    told = gate.teach(halves, films, {"photograph": (bright, np.arange(40) % 4)}, NOTHING, path)
    return path.read_bytes(), told


def test_films_of_both_populations_pass_and_other_pictures_do_not(lesson):
    data, told = lesson
    taught = read_gate(data, told)
    assert taught.centre.shape == (2, 2)
    for film in (toy(40, 200)["train"][0], toy(90, 230)["train"][0]):
        assert taught.judge(halves(film)).refused is False
        assert taught.judge(halves(film[::-1])).refused
    assert taught.judge(halves(np.full((9, 9), 250))).refused
    measured = told["measured"]
    assert measured["validation, child"]["n"] == measured["validation, adult"]["n"] == PARTS["validation"]
    assert measured["upside_down, adult"]["refused"] == 1
    assert measured["photograph"] == {
        "n": 40, "refused": 1, "doubtful": 1, "unfamiliar": 1, "taken_for": measured["photograph"]["taken_for"]
    }  # fmt: skip
    assert told["kinds"] == ["frontal", "upside_down", "sideways", "negative", "photograph", "other"]
    assert told["taught"] == {
        "child": 60, "adult": 60, "upside_down": 120, "sideways": 120, "negative": 120, "photograph": 160, "other": 300
    }  # fmt: skip


def test_the_row_tells_the_populations_apart_and_says_how_often(lesson):
    data, told = lesson
    row = read_row(data, ("child", "adult"))
    assert row.shares(halves(toy(40, 200)["train"][0]))["child"] > 0.5
    assert row.shares(halves(toy(90, 230)["train"][0]))["adult"] > 0.5
    assert list(told["populations"]) == list(CHANGES)
    assert told["populations"]["as they are"]["child"]["n"] == PARTS["internal_test"]
    assert told["populations"]["as they are"]["adult"]["right"] == 1
    assert told["unlike"]["child"]["adult"]["auroc"] == 1
    assert told["unlike"]["child"]["adult"]["unfamiliar"] == 1 > told["unlike"]["child"]["child"]["unfamiliar"]


def test_films_elsewhere_are_measured_by_a_gate_that_they_did_not_teach(tmp_path):
    odd = np.full((8, 8), 120, np.uint8)
    odd[:4] = 60
    film = toy(40, 200)["train"][0]
    elsewhere = [film] * 300 + [odd] * 300, np.repeat([0, 1], 300)
    told = gate.teach(halves, {"child": toy(40, 200)}, {}, elsewhere, tmp_path / "gate.npz")
    assert told["of folders"] == {"frontal films elsewhere": 600, "other pictures": 0}
    assert told["measured"]["frontal films elsewhere"]["refused"] == 0.5
    assert told["measured"]["validation"]["n"] == PARTS["validation"]
    assert read_gate((tmp_path / "gate.npz").read_bytes(), told).judge(halves(odd)).frontal > 0.8
    assert "populations" not in told


def test_changes_by_hand():
    film = np.full((100, 100), 128, np.uint8)
    small = shrink(film)
    assert (small.shape, small[7, 50], small[8, 50], small[91, 50], small[92, 50]) == ((100, 100), 0, 128, 128, 0)
    assert crop(film).shape == (84, 84)
    assert to_gamma(np.array([0, 51, 255], np.uint8), 2).tolist() == [0, 10, 255]  # 255 · 0.2² = 10.2


def test_row_of_two_populations_that_lie_apart():
    left, right = np.array([[-1.0, 0]] * 10), np.array([[1.0, 0]] * 10)
    row = fit_row({"child": left, "adult": right}, np.eye(2))
    assert row.shares(np.zeros(2, np.float32)) == pytest.approx({"child": 0.5, "adult": 0.5})
    assert row.shares(np.array([1, 5], np.float32))["adult"] > 0.5
