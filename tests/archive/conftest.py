"""What the tests of archives share."""

import pytest

from pneumo.archive import parts
from pneumo.cli import films as cli_films
from tests.support.archive import make_films


@pytest.fixture
def grey(mean_grey, monkeypatch):
    """Commands use the model that says the mean grey, and a part has four films."""
    monkeypatch.setattr(cli_films, "load", lambda name: mean_grey)
    monkeypatch.setattr(parts, "FILMS", 4)
    return mean_grey


@pytest.fixture
def films(tmp_path):
    """A folder of 30 films; see `make_films`."""
    return make_films(tmp_path / "films")


@pytest.fixture
def grey_card(grey, monkeypatch):
    """`merge` finds the card of the model that says the mean grey."""
    monkeypatch.setattr("pneumo.model.card.read_card", lambda path, roles: grey.card)
