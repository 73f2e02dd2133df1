"""The served model: its map is its answer, and what it says follows from the card."""

import json
import math
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from pneumo.errors import ModelError, OperatingPointError
from pneumo.films.images import decode
from pneumo.model import heatmap
from pneumo.model.card import describe_file, read_card
from pneumo.model.predictor import Predictor
from tests.support.films import SAMPLES, MeanGrey, png


def pointing(least, chance):
    return {"pointing": {"validation": {"all films": {"chance": chance, "intervals": {"pointing": [least, 0.9]}}}}}


@pytest.fixture
def card_copy(tmp_path):
    """Copy the shipped card and model, change the card's contents, and return the copy's path."""
    shipped = read_card()

    def copy(change):
        contents = json.loads(json.dumps(shipped.contents))
        for role in ("served", "gate"):
            shutil.copy(shipped.file(role), tmp_path)
        change(contents)
        path = tmp_path / "card.json"
        path.write_text(json.dumps(contents))
        return path

    return copy


def test_the_smooth_maximum_of_the_map_is_the_logit(predictor):
    for path in SAMPLES:
        prediction = predictor.predict(path.read_bytes())
        card = predictor.card.for_population(prediction.population["name"])
        assert (1, *prediction.logit_map.shape, 1) == card.output_shape
        assert prediction.logit_map.dtype == np.float32
        logit = heatmap.pool(prediction.logit_map, card.sharpness)
        by_hand = 1 / (1 + math.exp(-(card.slope * logit + card.intercept)))
        assert prediction.probability == pytest.approx(by_hand, abs=1e-6)
        assert prediction.label == ("PNEUMONIA" if prediction.probability >= prediction.threshold else "NORMAL")
        assert prediction.threshold == card.threshold
        assert prediction.model["sha256"] == card.sha256


def test_calibration_by_hand(mean_grey):
    assert mean_grey.probability(0.0) == 0.5
    assert mean_grey.probability(math.log(3)) == pytest.approx(0.75)
    mean_grey.card = replace(mean_grey.card, slope=2.0, intercept=-1.0)
    assert mean_grey.probability(0.5 + math.log(3) / 2) == pytest.approx(0.75)  # 2·(…) - 1 = ln 3
    assert mean_grey.probability(-1e6) == pytest.approx(0.0)
    assert mean_grey.probability(1e6) == 1.0


def test_label_and_json_of_a_model_that_says_the_mean_grey():
    predictor = MeanGrey(threshold=0.4)
    below, at = (predictor.predict(png(np.full((64, 96), grey, np.uint8))) for grey in (101, 102))  # 0.4 · 255 = 102
    assert (below.label, at.label) == ("NORMAL", "PNEUMONIA")
    assert at.probability == pytest.approx(0.4)
    assert list(at.to_json()) == [
        "label", "probability", "threshold", "operating_point", "triage", "population", "model", "image", "warnings"
    ]  # fmt: skip
    assert at.to_json()["image"] == {"format": "PNG", "width": 96, "height": 64}
    json.dumps(at.to_json(), allow_nan=False)


def test_strengths_begin_where_the_label_turns(mean_grey):
    # a map at the threshold's logit is clear; one at its logit + the card's scale (1) is in full colour
    half = mean_grey.predict(png(np.full((64, 64), 127, np.uint8)))
    assert half.label == "NORMAL"
    assert half.strengths.max() == 0
    full = 255 / (1 + math.exp(-1))
    assert mean_grey.predict(png(np.full((64, 64), math.ceil(full), np.uint8))).strengths.min() == 1


def test_the_operating_point_moves_the_label_and_neither_the_map_nor_the_triage(mean_grey):
    # 60 % grey; the points of the model that says the mean grey are 0.25, 0.5 and 0.75
    film = png(np.full((64, 64), 153, np.uint8))
    read = {name: mean_grey.predict(film, name) for name in (None, "screening", "balanced", "specific")}
    assert {name: p.threshold for name, p in read.items()} == {
        None: 0.5, "screening": 0.25, "balanced": 0.5, "specific": 0.75
    }  # fmt: skip
    assert [p.label for p in read.values()] == ["PNEUMONIA", "PNEUMONIA", "PNEUMONIA", "NORMAL"]
    assert [p.operating_point for p in read.values()] == ["balanced", "screening", "balanced", "specific"]
    assert {p.triage for p in read.values()} == {"uncertain"}
    # the colours are those of the film, whatever its label: the logit ln(0.6/0.4) above the card's floor 0, of scale 1
    assert [p.strengths.max() for p in read.values()] == pytest.approx([math.log(1.5)] * 4)
    with pytest.raises(OperatingPointError):
        mean_grey.predict(film, "none")


def test_a_label_that_hangs_on_little_is_said(mean_grey):
    # ln(p / (1 - p)) is 0.4 from the threshold's 0 at 0.401 and 0.599 of white: greys 102.3 and 152.7
    said = {g: mean_grey.predict(png(np.full((200, 200), g, np.uint8))).warnings for g in (102, 103, 152, 153)}
    close = [grey for grey, warnings in said.items() if any("close to the threshold" in one for one in warnings)]
    assert close == [103, 152]
    ramp = png(np.tile(np.arange(256, dtype=np.uint8), (300, 1)))  # 0.5: a doubt about this threshold alone
    assert MeanGrey(threshold=0.5).predict(ramp, "specific").warnings == []
    (said,) = MeanGrey(threshold=0.5).predict(ramp).warnings
    assert "close to the threshold" in said


def test_doubts_about_the_picture_are_said():
    mean_grey = MeanGrey(threshold=0.3)
    ramp = np.tile(np.arange(256, dtype=np.uint8), (300, 1))
    assert mean_grey.predict(png(ramp)).warnings == []
    assert "small (256 × 100" in mean_grey.predict(png(ramp[:100])).warnings[0]
    long = mean_grey.predict(png(np.repeat(ramp, 3, axis=1))).warnings
    assert len(long) == 1
    assert "longer than a chest film" in long[0]
    assert "one grey" in mean_grey.predict(png(np.full((300, 300), 9, np.uint8))).warnings[-1]


def test_overlay_has_the_upright_films_shape(predictor):
    film = decode(SAMPLES[0].read_bytes())
    width, height = predictor.predict(SAMPLES[0].read_bytes()).overlay().size
    assert width / height == pytest.approx(film.width / film.height, abs=0.01)


def test_threads_get_the_answers_that_one_gets(predictor):
    films = [path.read_bytes() for path in SAMPLES] * 3
    alone = [predictor.predict(film).probability for film in films[: len(SAMPLES)]] * 3
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda film: predictor.predict(film).probability, films))
    assert together == alone
    assert len(set(alone)) == len(SAMPLES)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["input"].update(size=96), r"input to be \[\(1, 96, 96, 3\)\] float32, received .*, 3\)"),
        (lambda c: c["output"].update(shape=[1, 6, 6, 1]), r"outputs to be \[\(1, 6, 6, 1\), .* received .*, 1\)"),
    ],
    ids=["input", "output"],
)
def test_a_card_of_another_shape_is_refused(card_copy, change, words):
    with pytest.raises(ModelError, match=words):
        Predictor(card_copy(change))


def test_a_file_that_is_no_model_is_refused(card_copy):
    path = card_copy(lambda contents: None)
    contents = json.loads(path.read_text())
    served = path.parent / contents["files"]["served"]["file"]
    served.write_bytes(b"not a model")
    contents["files"]["served"] = describe_file(served)
    path.write_text(json.dumps(contents))
    with pytest.raises(ModelError, match="not a LiteRT model"):
        Predictor(path)


def test_a_model_whose_preprocessing_is_not_installed_says_so_at_the_start(monkeypatch):
    def needs(*_):
        raise ModuleNotFoundError("No module named 'skimage'", name="skimage")

    monkeypatch.setattr("pneumo.model.served.prepare", needs)
    with pytest.raises(ModelError, match=r"needs the Python package skimage for its preprocessing .*`make setup`"):
        Predictor(read_card())


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, True),
        ({"output_shape": (1, 1, 1, 1)}, False),
        ({"contents": {"pointing": None}}, True),
        ({"contents": {"pointing": {"validation": None, "internal_test": None}}}, True),  # no boxes: nobody knows
        # Wilson's interval of 10 in 15 films begins at 0.42, of 3 in 15 at 0.07
        ({"contents": pointing(0.42, 0.09)}, True),
        ({"contents": pointing(0.07, 0.09)}, False),
    ],
)
def test_a_map_is_shown_unless_it_may_point_no_better_than_chance(mean_grey, monkeypatch, changes, shown):
    monkeypatch.setattr(mean_grey, "card", replace(mean_grey.card, **changes))
    prediction = mean_grey.predict(SAMPLES[0].read_bytes())
    assert (prediction.overlay() is not None) == shown
    assert "has_map" not in prediction.to_json()


def test_warnings_of_the_preprocessing_reach_the_reader(mean_grey, monkeypatch):
    look = mean_grey.look
    monkeypatch.setattr(mean_grey, "look", lambda pixels: (*look(pixels)[:2], ("The lungs were not found.",)))
    assert "The lungs were not found." in mean_grey.predict(SAMPLES[0].read_bytes()).warnings
