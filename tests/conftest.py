"""What several test files use: sample films, a small data set made of them, a model that a person can compute."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pneumo.films.film import squash
from pneumo.model.card import Card, card_path
from pneumo.model.gate import Gate
from pneumo.model.predictor import Predictor

SAMPLES = sorted(Path(__file__).parent.parent.joinpath("static", "samples").glob("*.jpeg"))


# Seconds of each are many; they come first, so that no process is left with one of them while the other has ended.
LONGEST = ("test_recipes", "test_training", "test_dicom", "test_pretraining", "test_experiments")


def pytest_collection_modifyitems(items):
    """Whole files in the order of LONGEST, then the others as they are."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONGEST)))


def open_gate():
    """A gate of one feature: how little the picture looks like a frontal film; from 0.5 on doubtful, from 1 refused."""
    weights, bias = np.array([[-0.5, 0, 0, 0, 0.5]], np.float32), np.array([0, -50, -50, -50, 0], np.float32)
    least, sure = (1 / (1 + math.exp(x)) for x in (0.999, 0.499))
    return Gate(weights, bias, np.zeros(1, np.float32), np.ones((1, 1), np.float32), least, sure, 9.0, 9.0)


class MeanGrey(Predictor):
    """Without a network: the probability of pneumonia is the film's mean grey / 255, and the map says so everywhere.

    Rule-out and rule-in point lie half-way from the threshold to 0 and to 1. `unlike` is what its `open_gate` sees.
    """

    unlike = -5.0

    def __init__(self, threshold=0.5):
        contents = json.loads(card_path("vgg16-chest-xray").read_text())
        contents |= {"name": "mean-grey", "version": "1"}
        self.card = Card(
            path=Path("mean-grey.json"),
            name="mean-grey",
            version="1",
            size=224,
            steps=(),
            output_shape=(1, 14, 14, 1),
            feature_shapes=(),
            thresholds={"screening": threshold / 2, "balanced": threshold, "specific": (1 + threshold) / 2},
            default_operating_point="balanced",
            slope=1.0,
            intercept=0.0,
            heatmap_floor=0.0,
            heatmap_scale=1.0,
            sha256="0" * 64,
            contents=contents,
        )
        self.gate = open_gate()

    def look(self, pixels):
        mean = np.clip(squash(pixels, 224).mean() / 255, 0.001, 0.999)
        return np.full((14, 14), math.log(mean / (1 - mean))), np.array([self.unlike]), ()


@pytest.fixture
def mean_grey():
    return MeanGrey()


@pytest.fixture(scope="session")
def predictor():
    """The shipped model; tests must not depend on its numbers."""
    return Predictor()


@pytest.fixture(scope="session")
def small_films():
    """The four sample films, two normal and two pneumonias, squashed to (224, 224) uint8, by file name."""
    films = {}
    for path in SAMPLES:
        with Image.open(path) as film:
            films[path.name] = squash(np.asarray(film.convert("L")), 224)
    return films


@pytest.fixture(scope="session")
def tiny_chest_xray(small_films, tmp_path_factory):
    """A folder with train/: 20 normals of 10 children, 10 bacterial and 10 viral of 20; read it, do not write into it.

    The films are the four sample films, each time cropped and darkened a little more.
    """
    root = tmp_path_factory.mktemp("tiny") / "chest_xray"
    films = [Image.fromarray(film) for film in small_films.values()]
    for number in range(20):
        kind = "bacteria" if number < 10 else "virus"
        for label, film, name in (
            ("NORMAL", films[number % 2], f"IM-{number // 2:04}-000{1 + number % 2}"),
            ("PNEUMONIA", films[2 + number % 2], f"person{number}_{kind}_{100 + number}"),
        ):
            cropped = film.crop((number, number // 2, 224 - number // 2, 224)).resize((224, 224))
            path = root / "train" / label / f"{name}.jpeg"
            path.parent.mkdir(parents=True, exist_ok=True)
            cropped.point([round(value * (1 - number / 50)) for value in range(256)]).save(path, quality=75)
    return root


@pytest.fixture
def chest_xray(tiny_chest_xray, tmp_path):
    """A copy of that folder which a test may spoil; its path has blanks in it."""
    return Path(shutil.copytree(tiny_chest_xray, tmp_path / "a copy of it" / "chest_xray"))
