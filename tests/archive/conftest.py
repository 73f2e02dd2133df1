"""What the tests of archives share."""

from pathlib import Path

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
def films(tmp_path, monkeypatch):
    """A folder of 30 films, see `make_films`, named from where the test runs: shards depend on names."""
    monkeypatch.chdir(tmp_path)
    return make_films(Path("films"))


@pytest.fixture
def grey_card(grey, monkeypatch):
    """`merge` finds the card of the model that says the mean grey."""
    monkeypatch.setattr("pneumo.model.card.read_card", lambda path, roles: grey.card)
