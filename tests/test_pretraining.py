"""From-scratch training: it resumes after being killed, and leaves plain VGG-16 weights."""

import csv
import json

import keras
import numpy as np
import pytest

from pneumo import dataset, networks, pretraining
from pneumo.batches import Batches
from pneumo.errors import RunError
from pneumo.pretraining import PretrainConfig, Stage


@pytest.fixture
def parts(tiny_chest_xray):
    examples = dataset.scan(tiny_chest_xray / "train")
    return dataset.split(examples, dataset.content_hashes(examples))


def test_killed_run_goes_on_where_it_stopped(parts, tmp_path, monkeypatch):
    config = PretrainConfig(stages=(Stage(32, 3, 1e-3),), film_size=64, batch=8)
    train, validation = parts["train"][:16], parts["validation"][:4]

    logged = keras.callbacks.CSVLogger.on_epoch_end

    def killed(self, epoch, logs=None):
        logged(self, epoch, logs)  # the last of the callbacks: the epoch has been backed up by now
        raise KeyboardInterrupt

    monkeypatch.setattr(keras.callbacks.CSVLogger, "on_epoch_end", killed)
    with pytest.raises(KeyboardInterrupt):
        pretraining.pretrain(train, validation, tmp_path, config)
    monkeypatch.undo()
    weights = pretraining.pretrain(train, validation, tmp_path, config)
    rows = list(csv.DictReader((tmp_path / "history-32.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert keras.mixed_precision.global_policy().name == "float32"

    model = networks.vgg16(64)
    networks.load_layers(model, weights)
    assert np.abs(model.get_layer(networks.LAST_CONV).get_weights()[0]).max() > 0
    with np.load(weights) as stored:
        assert {a.dtype for a in stored.values()} == {np.dtype(np.float16)}
        assert len(stored.files) == 26

    with pytest.raises(RunError, match="another recipe"):
        pretraining.pretrain(train, validation, tmp_path, PretrainConfig(seed=1))


def test_a_run_can_go_on_from_folded_weights_and_says_so(parts, tmp_path):
    train, validation = parts["train"][:16], parts["validation"][:4]
    first = PretrainConfig(stages=(Stage(32, 1, 1e-3),), film_size=64, batch=8)
    start = pretraining.pretrain(train, validation, tmp_path / "first", first)
    barely = PretrainConfig(stages=(Stage(32, 1, 1e-9),), start=start, film_size=64, batch=8)
    second = pretraining.pretrain(train, validation, tmp_path / "second", barely)
    features = []
    for weights in (start, second):
        model = networks.vgg16(32)
        networks.load_layers(model, weights)
        features.append(model(Batches(dataset.load(train, 32), np.zeros(16), 32, 16)[0][0]).numpy().ravel())
    assert np.corrcoef(*features)[0, 1] > 0.8  # not learned anew: settled on the films, with a rate of next to nothing
    said = json.loads(second.with_suffix(".json").read_text())
    assert said["command"] == "pneumo pretrain --start base.npz"
    assert said["config"]["start"]["receipt"]["command"] == "pneumo pretrain"


def test_batches_depend_on_seed_and_epoch_alone(parts):
    films = dataset.load(parts["train"][:6], 64)
    target = np.arange(6.0)[:, None]
    one, two = (Batches(films, target, 32, 3, seed=4) for _ in range(2))
    np.testing.assert_array_equal(one[1][0], two[1][0])
    before = one[0][0]
    one.on_epoch_end()
    assert not np.array_equal(one[0][0], before)
    plain = Batches(films, target, 64, 4)
    assert len(plain) == 2
    np.testing.assert_array_equal(plain[0][0][..., 0], films[:4])
    np.testing.assert_array_equal(np.concatenate([plain[0][1], plain[1][1]]), target)
