"""A card is believed only as far as its files agree with it."""

import hashlib
import json

import pytest

from pneumo.card import DEFAULT_MODEL, MODELS, card_path, describe_file, read_card
from pneumo.errors import ModelError

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # SHA-256 of "abc", FIPS 180-2, appendix B.1


@pytest.fixture
def card(tmp_path):
    """The parts of a good card, and a function that writes them and reads the card."""
    (tmp_path / "model.tflite").write_bytes(b"abc")
    contents = {
        "name": "tiny",
        "version": "3",
        "labels": ["NORMAL", "PNEUMONIA"],
        "input": {"size": 224},
        "output": {"shape": [1, 14, 14, 1]},
        "threshold": 0.25,
        "calibration": {"slope": 2, "intercept": -1},
        "heatmap": {"scale": 4},
        "files": {"served": {"file": "model.tflite", "bytes": 3, "sha256": ABC}},
    }

    def read(**changes):
        path = tmp_path / "tiny.json"
        path.write_text(json.dumps(contents | changes))
        return read_card(path)

    read.contents, read.folder = contents, tmp_path
    return read


def test_a_good_card_is_read(card):
    read = card()
    assert (read.name, read.version, read.size, read.sha256) == ("tiny", "3", 224, ABC)
    assert (read.threshold, read.slope, read.intercept, read.heatmap_scale) == (0.25, 2.0, -1.0, 4.0)
    assert read.output_shape == (1, 14, 14, 1)
    assert read.file("served") == card.folder / "model.tflite"
    assert describe_file(read.file("served")) == card.contents["files"]["served"]


def test_another_file_under_the_models_name_is_refused(card):
    card.folder.joinpath("model.tflite").write_bytes(b"abd")
    received = hashlib.sha256(b"abd").hexdigest()
    with pytest.raises(ModelError, match=f"SHA-256 {ABC}, received {received}"):
        card()


def test_a_missing_model_and_a_missing_card_are_named(card):
    card.folder.joinpath("model.tflite").unlink()
    with pytest.raises(ModelError, match=r"Expected the served model at .*model\.tflite, found no file"):
        card()
    with pytest.raises(ModelError, match=r"Expected a model card at .*nothing\.json, found none"):
        read_card(card.folder / "nothing.json")


@pytest.mark.parametrize(
    "key", ["name", "version", "labels", "input", "output", "threshold", "calibration", "heatmap", "files"]
)
def test_a_missing_key_is_named(card, key):
    del card.contents[key]
    with pytest.raises(ModelError, match=f"KeyError\\('{key}'\\)"):
        card()


@pytest.mark.parametrize("key", ["file", "sha256"])
def test_a_file_without_name_or_hash_is_refused(card, key):
    del card.contents["files"]["served"][key]
    with pytest.raises(ModelError, match=key):
        card()


@pytest.mark.parametrize(
    "changes",
    [
        {"threshold": 0},
        {"threshold": 1},
        {"threshold": float("nan")},
        {"threshold": "high"},
        {"calibration": {"slope": -1, "intercept": 0}},
        {"calibration": {"slope": 1, "intercept": float("nan")}},
        {"calibration": {"slope": float("inf"), "intercept": 0}},
        {"heatmap": {"scale": 0}},
    ],
    ids=str,
)
def test_numbers_without_meaning_are_refused(card, changes):
    with pytest.raises(ModelError):
        card(**changes)


def test_other_labels_are_refused(card):
    with pytest.raises(ModelError, match=r"Expected the labels \('NORMAL', 'PNEUMONIA'\) .*, received \('PNEUMONIA',"):
        card(labels=["PNEUMONIA", "NORMAL"])


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_what_is_no_card_is_refused(tmp_path, text):
    path = tmp_path / "card.json"
    path.write_text(text)
    with pytest.raises(ModelError, match=r"card\.json"):
        read_card(path)


def test_which_card_is_meant(monkeypatch, tmp_path):
    monkeypatch.delenv("PNEUMO_MODEL", raising=False)
    assert card_path() == MODELS / f"{DEFAULT_MODEL}.json"
    monkeypatch.setenv("PNEUMO_MODEL", "another")
    assert card_path() == MODELS / "another.json"
    assert card_path("named") == MODELS / "named.json"
    monkeypatch.setenv("PNEUMO_MODEL", str(tmp_path / "elsewhere.json"))
    assert card_path() == tmp_path / "elsewhere.json"


def test_the_shipped_card_belongs_to_its_files():
    shipped = read_card(MODELS / f"{DEFAULT_MODEL}.json")
    for role, described in shipped.contents["files"].items():
        assert describe_file(shipped.file(role)) == described
