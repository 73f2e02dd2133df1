"""Publishing replaces a model as a whole: what is served stays as it is until all of the new one is there."""

import shutil
from pathlib import Path

import pytest

from pneumo.model.card import DEFAULT_MODEL, find_card, read_card
from pneumo.training import publish, statements


@pytest.fixture
def model(tmp_path):
    """A card with its files, and what they hold."""
    shipped = read_card(roles=("served", "gate"))
    for path in (shipped.file("served"), shipped.file("gate")):
        shutil.copy(path, tmp_path)
    card = Path(shutil.copy(find_card(DEFAULT_MODEL), tmp_path))
    return card, {path.name: path.read_bytes() for path in card.parent.iterdir()}


def publish_to(card):
    return publish.publish(None, None, {}, card, "imagenet")


def test_a_run_that_is_ended_half_way_leaves_the_old_model(model, monkeypatch):
    card, before = model

    def ended(trained, config, parts, path, *_):
        path.with_suffix(".tflite").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "_publish", ended)
    with pytest.raises(KeyboardInterrupt):
        publish_to(card)
    assert {path.name: path.read_bytes() for path in card.parent.iterdir()} == before


def test_files_are_replaced_and_not_written_over(model, monkeypatch):
    card, before = model

    def made(trained, config, parts, path, *_):
        for name, data in before.items():
            path.with_name(name).write_bytes(data)

    monkeypatch.setattr(publish, "_publish", made)
    served = card.with_suffix(".tflite")
    with served.open("r+b") as old:  # who serves it has it open
        assert publish_to(card).path == card
        old.write(b"not the new one")
    assert {path.name: path.read_bytes() for path in card.parent.iterdir()} == before


def test_shipped_card_says_what_publishing_says():
    contents = read_card(roles=()).contents
    assert contents["limits"] == statements.LIMITS_OF_BOTH
    assert contents["intended_use"] == statements.INTENDED_FOR_BOTH
    data = {name: own["data"] for name, own in contents["populations"].items()}
    assert list(data) == [statements.CHILD, statements.ADULT]
    for name, source, patients in (
        (statements.CHILD, statements.SOURCE, statements.PATIENTS),
        (statements.ADULT, statements.ADULTS, statements.ADULT_PATIENTS),
    ):
        assert source.items() <= data[name].items()
        assert data[name]["patients"] == patients
