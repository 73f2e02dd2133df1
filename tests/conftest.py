"""What several test files use: sample films, a small data set made of them, a model that a person can compute."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app import create_app
from pneumo.cli import films as cli_films
from pneumo.films.film import squash
from pneumo.model.card import read_card
from pneumo.model.predictor import Predictor
from tests.support.films import SAMPLES, MeanGrey, TwoPopulations

# Seconds of each are many; they come first, so that no process is left with one of them while the other has ended.
LONGEST = ("test_recipes", "test_train", "test_hospital", "test_dicom")


def pytest_collection_modifyitems(items):
    """Whole files in the order of LONGEST, then the others as they are."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONGEST)))


@pytest.fixture
def mean_grey():
    return MeanGrey()


@pytest.fixture
def client(mean_grey):
    """The app with that model."""
    return create_app({"PREDICTOR": mean_grey, "TESTING": True}).test_client()


@pytest.fixture
def grey(mean_grey, monkeypatch):
    """Commands use that model."""
    monkeypatch.setattr(cli_films, "load", lambda name: mean_grey)
    return mean_grey


@pytest.fixture
def both(monkeypatch):
    """Commands use a model that knows children and adults; of 60 % grey it says 0.60 and 0.36."""
    predictor = TwoPopulations()
    monkeypatch.setattr(cli_films, "load", lambda name: predictor)
    return predictor


@pytest.fixture(scope="session")
def predictor():
    """The shipped model; tests must not depend on its numbers."""
    return Predictor()


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The path of weights of all of VGG-16 to begin a training with: the shipped model's."""
    card, path = read_card(roles=("base", "top")), tmp_path_factory.mktemp("weights") / "some.base.npz"
    with np.load(card.file("base")) as frozen, np.load(card.file("top")) as trained:
        np.savez(path, **(dict(frozen) | dict(trained)))
    return path


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
    """A folder with train/: 20 normals of 10 patients, 10 bacterial and 10 viral of 20; read it, do not write into it.

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
