"""The shipped model still answers what it answered when it was published, on the shipped films.

golden.csv is written by `pneumo predict static/samples --csv tests/model/golden.csv`; the films are attributed in
static/samples/README.md. int8 kernels differ a little from processor to processor, hence the tolerance.
"""

import csv
from pathlib import Path

import pytest

from pneumo.films.images import decode
from pneumo.model.card import read_card
from tests.support.films import SAMPLES

GOLDEN = list(csv.DictReader(Path(__file__).with_name("golden.csv").open(newline="")))


def test_every_sample_has_its_golden_prediction():
    assert {Path(row["file"]).name for row in GOLDEN} == {path.name for path in SAMPLES}


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: Path(row["file"]).stem)
def test_prediction_is_the_golden_one(predictor, row):
    path = next(path for path in SAMPLES if path.name == Path(row["file"]).name)
    prediction = predictor.predict(path.read_bytes())
    assert prediction.label == row["label"]
    assert prediction.probability == pytest.approx(float(row["probability"]), abs=0.02)
    assert prediction.threshold == float(row["threshold"])
    assert prediction.warnings == []


def test_served_file_and_keras_model_agree(predictor):
    """The float32 Keras model of the shipped weights answers as the served one, as closely as the card says."""
    import numpy as np

    from pneumo.films.film import to_input
    from pneumo.films.preprocessing import prepare
    from pneumo.model.heatmap import pool
    from pneumo.training import networks

    card = predictor.card
    model = networks.map_model(networks.from_card(read_card(roles=("base", "top"))))
    most = card.contents["agreement"]["largest_probability_difference"]  # on the internal test
    for path in SAMPLES:
        pixels = decode(path.read_bytes()).pixels
        film = to_input(prepare(pixels, card.size, card.steps)[0], card.size)
        full = float(pool(np.array(model(film))[0, :, :, 0], card.sharpness))
        served = predictor.logit(pixels)
        assert predictor.probability(served) == pytest.approx(predictor.probability(full), abs=most)
