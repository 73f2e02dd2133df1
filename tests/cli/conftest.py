"""What the tests of commands share."""

import pytest

from pneumo.cli import films as cli_films


@pytest.fixture
def grey(mean_grey, monkeypatch):
    """Commands use the model that says the mean grey."""
    monkeypatch.setattr(cli_films, "load", lambda name: mean_grey)
    return mean_grey
