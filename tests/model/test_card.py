"""A card is believed only as far as its files agree with it."""

import hashlib
import json

import pytest

from pneumo import __version__
from pneumo.errors import ModelError, OperatingPointError
from pneumo.model.card import DEFAULT_MODEL, MODELS, describe_file, find_card, read_card

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # SHA-256 of "abc", FIPS 180-2, appendix B.1


def points(*thresholds):
    return {n: {"threshold": t} for n, t in zip(("screening", "balanced", "specific"), thresholds, strict=True)}


@pytest.fixture
def card(tmp_path):
    """The parts of a good card, and a function that writes them and reads the card."""
    for name in ("model.tflite", "gate.npz"):
        (tmp_path / name).write_bytes(b"abc")
    contents = {
        "name": "tiny",
        "version": "3",
        "labels": ["NORMAL", "PNEUMONIA"],
        "input": {"size": 224, "preprocessing": []},
        "output": {"shape": [1, 14, 14, 1], "features": [[1, 2, 1, 8]]},
        "default_operating_point": "balanced",
        "operating_points": points(0.125, 0.25, 0.75),
        "calibration": {"slope": 2, "intercept": -1},
        "heatmap": {"floor": -2, "scale": 4},
        "files": {
            "served": {"file": "model.tflite", "bytes": 3, "sha256": ABC},
            "gate": {"file": "gate.npz", "bytes": 3, "sha256": ABC},
        },
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
    assert (read.threshold, read.slope, read.intercept) == (0.25, 2.0, -1.0)
    assert (read.heatmap_floor, read.heatmap_scale) == (-2.0, 4.0)
    assert (read.thresholds, read.rule_out, read.rule_in) == (
        {"screening": 0.125, "balanced": 0.25, "specific": 0.75}, 0.125, 0.75
    )  # fmt: skip
    assert read.model == {"name": "tiny", "version": "3", "sha256": ABC}
    assert (read.output_shape, read.feature_shapes) == ((1, 14, 14, 1), ((1, 2, 1, 8),))
    assert read.file("served") == card.folder / "model.tflite"
    assert describe_file(read.file("served")) == card.contents["files"]["served"]


def test_a_card_of_several_populations_has_numbers_of_each(card):
    """The first is the one that the card speaks of; what is the same for all of them stands outside."""
    whole = card.contents
    child = {name: whole.pop(name) for name in ("operating_points", "calibration")} | {"ages": [1, 5]}
    adult = {
        "ages": [18, None],
        "operating_points": points(0.5, 0.5, 0.875),
        "calibration": {"slope": 1, "intercept": 3},
        "heatmap": {"floor": 7, "scale": 4, "sharpness": 0.5},
    }
    read = card(populations={"child": child, "adult": adult})
    assert (read.population, read.slope, read.threshold) == ("child", 2.0, 0.25)
    assert {name: one.ages for name, one in read.populations.items()} == {"child": (1, 5), "adult": (18, None)}
    assert read.contents["operating_points"] == child["operating_points"]
    grown = read.for_population("adult")
    assert (grown.slope, grown.intercept, grown.threshold, grown.rule_in) == (1.0, 3.0, 0.5, 0.875)
    assert (grown.heatmap_floor, grown.heatmap_scale, grown.sharpness) == (7.0, 4.0, 0.5)
    assert read.sharpness == 0.0  # the mean
    assert grown.contents["calibration"] == adult["calibration"]
    with pytest.raises(ModelError, match="slope"):
        card(populations={"child": child, "adult": adult | {"calibration": {"slope": -1, "intercept": 3}}})


def test_another_file_under_the_models_name_is_refused(card):
    card.folder.joinpath("model.tflite").write_bytes(b"abd")
    received = hashlib.sha256(b"abd").hexdigest()
    with pytest.raises(ModelError, match=f"SHA-256 {ABC}, received {received}"):
        card()


def test_a_missing_model_and_a_missing_card_are_named(card):
    card.folder.joinpath("model.tflite").unlink()
    with pytest.raises(ModelError, match=r"Expected the served model at .*model\.tflite, found no file\.$"):
        card()
    with pytest.raises(ModelError, match=r"Expected a model card at .*nothing\.json, found none"):
        read_card(card.folder / "nothing.json")


@pytest.mark.parametrize(
    "key",
    [
        *("name", "version", "labels", "input", "output", "calibration", "heatmap", "files"),
        *("operating_points", "default_operating_point"),
    ],
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
        {"operating_points": points(0, 0.25, 0.75)},
        {"operating_points": points(0.125, 0.25, 1)},
        {"operating_points": points(0.125, float("nan"), 0.75)},
        {"operating_points": points(0.125, "high", 0.75)},
        {"operating_points": points(0.3, 0.25, 0.75)},
        {"operating_points": points(0.125, 0.8, 0.75)},
        {"operating_points": {"balanced": {"threshold": 0.25}}},
        {"default_operating_point": "careful"},
        {"calibration": {"slope": -1, "intercept": 0}},
        {"calibration": {"slope": 1, "intercept": float("nan")}},
        {"calibration": {"slope": float("inf"), "intercept": 0}},
        {"heatmap": {"floor": -2, "scale": 0}},
        {"heatmap": {"floor": float("nan"), "scale": 4}},
        {"heatmap": {"floor": -2, "scale": 4, "sharpness": -1}},
    ],
    ids=str,
)
def test_numbers_without_meaning_are_refused(card, changes):
    with pytest.raises(ModelError):
        card(**changes)


def test_operating_points_by_name(card):
    read = card(default_operating_point="specific")
    assert read.threshold == 0.75
    assert (read.operating_point(), read.operating_point("screening")) == ("specific", "screening")
    with pytest.raises(OperatingPointError, match="Expected one of screening, balanced, specific, received 'x'"):
        read.operating_point("x")
    assert OperatingPointError.status == 400


def test_triage_is_the_place_between_the_outer_points(card):
    for default in ("screening", "balanced", "specific"):  # whichever is the default
        read = card(default_operating_point=default)
        places = [read.triage(p) for p in (0.0, 0.1249, 0.125, 0.7499, 0.75, 1.0)]
        assert places == ["rule-out", "rule-out", "uncertain", "uncertain", "rule-in", "rule-in"]
    nothing_between = card(operating_points=points(0.5, 0.5, 0.5))
    assert [nothing_between.triage(p) for p in (0.49, 0.5)] == ["rule-out", "rule-in"]


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
    assert find_card() == MODELS / f"{DEFAULT_MODEL}.json"
    monkeypatch.setenv("PNEUMO_MODEL", "another")
    assert find_card() == MODELS / "another.json"
    assert find_card("named") == MODELS / "named.json"
    monkeypatch.setenv("PNEUMO_MODEL", str(tmp_path / "elsewhere.json"))
    assert find_card() == tmp_path / "elsewhere.json"


@pytest.mark.parametrize("population", ["child", "adult"])
def test_the_shipped_points_keep_their_rules_on_validation(population):
    """As far as validation's films alone tell: the points are chosen on these and on exchanged ones, view by view."""
    shipped = read_card(MODELS / f"{DEFAULT_MODEL}.json").for_population(population)
    worth = {name: point["validation"] for name, point in shipped.contents["operating_points"].items()}
    assert worth["screening"]["sensitivity"] >= 0.99
    assert worth["specific"]["specificity"] >= 0.98
    assert worth["screening"]["sensitivity"] >= worth["balanced"]["sensitivity"] >= worth["specific"]["sensitivity"]
    assert shipped.default_operating_point == "balanced"
    assert shipped.contents["metrics"]["internal_test"]["threshold"] == shipped.threshold
    brier = shipped.contents["calibration"]["brier"]
    assert brier[shipped.contents["calibration"]["method"]] == min(brier["Platt"], brier["temperature"])


def test_the_shipped_card_belongs_to_its_files():
    shipped = read_card(MODELS / f"{DEFAULT_MODEL}.json")
    for role, described in shipped.contents["files"].items():
        assert describe_file(shipped.file(role)) == described


def test_a_recipes_card_without_its_model_says_how_to_make_it(card):
    (card.folder / "model.tflite").unlink()
    with pytest.raises(ModelError, match=r"found no file\. `pneumo train --recipe cnn` makes it\.$"):
        card(recipe="cnn", receipt={"command": "pneumo train --recipe cnn"})


def test_program_and_shipped_model_have_one_version():
    assert read_card(find_card(DEFAULT_MODEL)).version == __version__
