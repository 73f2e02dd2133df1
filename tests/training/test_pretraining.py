"""From-scratch training: it resumes after being killed, and leaves plain VGG-16 weights."""

import csv
import json
import time
from dataclasses import replace

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from pneumo.cli.main import main
from pneumo.data import dataset
from pneumo.errors import PneumoError, RunError
from pneumo.training import batches, networks, pretraining
from pneumo.training.batches import Batches, claim, fit, read_columns, waiting_share
from pneumo.training.pretraining import PretrainConfig, Stage


@pytest.fixture
def parts(tiny_chest_xray):
    examples = dataset.scan(tiny_chest_xray / "train")
    return dataset.split(examples, dataset.content_hashes(examples))


def test_killed_run_goes_on_where_it_stopped(parts, tmp_path, monkeypatch):
    config = PretrainConfig(stages=(Stage(32, 3, 1e-3),), film_size=64, batch=8, matched=0)
    train, validation = parts["train"][:16], parts["validation"][:4]

    logged = keras.callbacks.CSVLogger.on_epoch_end

    def killed(self, epoch, logs=None):
        logged(self, epoch, logs)  # the last of the callbacks: the epoch has been backed up by now
        raise KeyboardInterrupt

    def killed_at_once(*arguments, **options):
        raise KeyboardInterrupt

    for where, name, how in (
        (keras.callbacks.CSVLogger, "on_epoch_end", killed),
        (pretraining, "_settle_norms", killed_at_once),  # behind the last epoch
        (keras.Model, "evaluate", killed_at_once),
        (networks, "fold", killed_at_once),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(where, name, how)
            with pytest.raises(KeyboardInterrupt):
                pretraining.pretrain(train, validation, tmp_path, config)
    weights = pretraining.pretrain(train, validation, tmp_path, config)
    rows = list(csv.DictReader((tmp_path / "history-32.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1", "2"]
    assert all(0 <= float(row["waiting"]) <= 1 and 0 < float(row["seconds"]) < 600 for row in rows)
    spent = sum(float(row["seconds"]) for row in rows)
    waited = sum(float(row["seconds"]) * float(row["waiting"]) for row in rows)
    end = json.loads((tmp_path / "stage-32.json").read_text())
    assert end["waiting"] == pytest.approx(waited / spent)
    assert keras.mixed_precision.global_policy().name == "float32"

    model = networks.vgg16(64)
    networks.load_layers(model, weights)
    assert np.abs(model.get_layer(networks.LAST_CONV).get_weights()[0]).max() > 0
    with np.load(weights) as stored:
        assert {a.dtype for a in stored.values()} == {np.dtype(np.float16)}
        assert len(stored.files) == 26

    assert not list(tmp_path.glob("backup-*"))
    for films, other in ((train, PretrainConfig(seed=1)), (train[1:], config)):
        with pytest.raises(RunError, match="another recipe, of other weights to begin with, or of other films"):
            pretraining.pretrain(films, validation, tmp_path, other)


def test_films_of_unknown_aetiology_are_said_before_the_hours(parts, tmp_path):
    films = [*parts["train"][:3], replace(parts["train"][3], aetiology=None)]
    with pytest.raises(PneumoError, match="1 of 6 films"):
        pretraining.pretrain(films, parts["validation"][:2], tmp_path / "run", PretrainConfig())
    assert not (tmp_path / "run").exists()


def test_a_run_belongs_to_the_weights_it_began_with_whatever_they_are_called(parts, tmp_path):
    weights, films = tmp_path / "base.npz", parts["train"][:4]
    weights.write_bytes(b"some")
    with pytest.raises(RunError, match="Expected the receipt of the base weights"):  # before the hours, not after them
        pretraining.pretrain(films, films, tmp_path / "run", PretrainConfig(start=weights))
    assert not (tmp_path / "run").exists()
    weights.with_suffix(".json").write_text("{}")
    for _ in range(2):
        claim(tmp_path / "run", PretrainConfig(start=weights), weights, films)
    moved = weights.rename(tmp_path / "moved.npz")
    weights.with_suffix(".json").rename(moved.with_suffix(".json"))
    claim(tmp_path / "run", PretrainConfig(start=moved), moved, films)
    moved.write_bytes(b"others")
    with pytest.raises(RunError, match="other weights"):
        claim(tmp_path / "run", PretrainConfig(start=moved), moved, films)


@pytest.mark.parametrize(
    ("bfloat16", "policy"), [(0.5, "mixed_bfloat16"), (0.9, "float32"), (1.4, "float32"), (9.0, "float32")]
)
def test_computes_in_bfloat16_only_where_that_is_quicker(bfloat16, policy, monkeypatch):
    seconds = {"bfloat16": bfloat16, "float32": 1.0}
    monkeypatch.setattr(batches, "seconds_of_convolution", seconds.get)
    with batches.quickest_precision() as chosen:
        assert chosen == policy == keras.mixed_precision.global_policy().name
    assert keras.mixed_precision.global_policy().name == "float32"


def test_seconds_of_a_convolution_are_measured(monkeypatch):
    ticks = iter([0, 9, 10, 15, 20, 23, 30, 37])  # the first is slow, then 5, 3 and 7
    monkeypatch.setattr(batches.time, "perf_counter", lambda: next(ticks))
    assert batches.seconds_of_convolution("bfloat16", times=3) == 3


class Sleepy(Batches):
    """Batches that take `sleep` seconds to make."""

    sleep = 0.0

    def __getitem__(self, index):
        time.sleep(self.sleep)
        return super().__getitem__(index)


class Slow(keras.layers.Layer):
    """A network that takes `sleep` seconds a step."""

    sleep = 0.0

    def call(self, inputs):
        time.sleep(self.sleep)
        return inputs


@pytest.mark.parametrize(
    ("making", "step", "least", "most"),
    [
        # two threads make two batches each 0.4 s: waited is 0.4 s for the first two, 0.2 s for the others: 1 of 1.8 s.
        # A batch or two that are left from the epoch before shorten that.
        # Much else on the machine lengthens one or the other.
        (0.4, 0.1, 0.3, 0.9),
        (0.1, 0.4, 0.0, 0.25),  # only the first is waited for: 0.1 s of 3.3 s
    ],
)
def test_the_time_that_training_waits_for_batches(tmp_path, making, step, least, most):
    films = np.zeros((8, 32, 32), np.uint8)
    train, watched = Sleepy(films, np.zeros((8, 1)), 32, 1), Batches(films[:1], np.zeros((1, 1)), 32, 1)
    inputs = keras.Input((32, 32, 3))
    slow = Slow()
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(slow(inputs))))
    model.compile("sgd", "mse", run_eagerly=True)
    train.sleep, slow.sleep = making, step
    fit(model, train, watched, 2, tmp_path, "toy")
    columns = read_columns(tmp_path / "history-toy.csv")
    assert least < columns["waiting"][1] < most
    assert 8 * step < columns["seconds"][1] < 60
    assert min(columns["waiting"]) <= waiting_share(tmp_path, "toy") <= max(columns["waiting"])


def test_what_training_waited_is_told_of_all_that_was_fitted(tmp_path):
    assert waiting_share(tmp_path, "one") is None
    (tmp_path / "history-one.csv").write_text("epoch,seconds,waiting\n0,30,0.5\n1,10,0.1\n")
    (tmp_path / "history-two.csv").write_text("epoch,seconds,waiting\n0,60,0.0\n")
    assert waiting_share(tmp_path, "one") == pytest.approx(16 / 40)
    assert waiting_share(tmp_path, "one", "two") == pytest.approx(16 / 100)
    (tmp_path / "history-two.csv").write_text("epoch,seconds\n0,60\n")
    assert waiting_share(tmp_path, "one", "two") is None


class Told(keras.callbacks.Callback):
    """Says what the validation loss is."""

    def __init__(self, losses):
        super().__init__()
        self.losses = losses

    def on_epoch_end(self, epoch, logs=None):
        logs["val_loss"] = self.losses[epoch]


def toy_run(folder, losses, **options):
    """Five epochs of a toy that has dropout and cuts its rate on a plateau: its weights, and its history."""
    keras.utils.set_random_seed(0)
    films = np.random.default_rng(0).integers(0, 255, (8, 32, 32), np.uint8)
    train, watched = Batches(films, np.arange(8.0)[:, None], 32, 4, seed=0), Batches(films, np.ones((8, 1)), 32, 8)
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Dropout(0.5)(keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(1)(x))
    model.compile(keras.optimizers.SGD(1e-6, **options), "mse")
    plateau = keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.1, patience=2)
    fit(model, train, watched, len(losses), folder, "toy", best="val_loss", watchers=[Told(losses), plateau])
    return model.get_weights(), read_columns(folder / "history-toy.csv")


@pytest.mark.parametrize(
    ("where", "options"),
    [
        (Told, {}),
        (keras.callbacks.ModelCheckpoint, {"use_ema": True, "ema_momentum": 0.5}),
        (keras.callbacks.CSVLogger, {}),
    ],
)
@pytest.mark.parametrize("losses", [(1.0,), (2.0, 2.0, 2.0, 2.0, 1.0)])
def test_a_run_killed_in_every_epoch_is_the_run_that_was_not(tmp_path, monkeypatch, where, losses, options):
    weights, history = toy_run(tmp_path / "whole", losses, **options)
    assert list(history["epoch"]) == list(range(len(losses)))
    kept = where.on_epoch_end
    for deadly in range(len(losses)):

        def killed(self, epoch, logs=None, deadly=deadly):
            if epoch == deadly:
                (tmp_path / "killed" / "best-toy.weights.h5").write_bytes(b"half")  # as a kill leaves it
                raise KeyboardInterrupt
            kept(self, epoch, logs)

        with monkeypatch.context() as patch:
            patch.setattr(where, "on_epoch_end", killed)
            with pytest.raises(KeyboardInterrupt):
                toy_run(tmp_path / "killed", losses, **options)
    again, repeated = toy_run(tmp_path / "killed", losses, **options)
    for one, other in zip(weights, again, strict=True):
        np.testing.assert_array_equal(one, other)
    for name in set(history) - {"seconds", "waiting"}:
        np.testing.assert_array_equal(history[name], repeated[name], err_msg=name)


def test_a_run_can_go_on_from_folded_weights_and_says_so(parts, tmp_path, monkeypatch):
    train, validation = parts["train"][:16], parts["validation"][:4]
    first = PretrainConfig(stages=(Stage(32, 1, 1e-3),), film_size=64, batch=8, matched=0)
    start = pretraining.pretrain(train, validation, tmp_path / "first", first)
    debiased = {
        "matched": 0.5,
        "experts": 1.0,
        "independent": 0.3,
        "mixup": 0.4,
        "seed": 2,
        "augmentation": "films, exchanged",
    }
    barely = PretrainConfig(stages=(Stage(32, 1, 1e-9),), start=start, film_size=64, batch=8, **debiased)
    # too few children for the trees: a score that says nothing of the label
    monkeypatch.setattr(pretraining, "score_films", lambda films: np.arange(len(films)) % 5 - 2.0)
    second = pretraining.pretrain(train, validation, tmp_path / "second", barely)
    features = []
    for weights in (start, second):
        model = networks.vgg16(32)
        networks.load_layers(model, weights)
        features.append(model(Batches(dataset.load(train, 32), np.zeros(16), 32, 16)[0][0]).numpy().ravel())
    assert np.corrcoef(*features)[0, 1] > 0.8  # not learned anew: settled on the films, with a rate of next to nothing
    said = json.loads(second.with_suffix(".json").read_text())
    command = "pneumo pretrain --start base.npz --epochs 1 --rate 1e-09 --acquisition 1.0 --matched 0.5 --experts 1.0"
    assert said["command"] == f'{command} --independent 0.3 --mixup 0.4 --augmentation "films, exchanged" --seed 2'
    assert said["config"]["start"]["receipt"]["command"] == "pneumo pretrain"


def test_weights_go_with_their_films(parts):
    films = dataset.load(parts["train"][:6], 32)
    batches = Batches(films, np.arange(6.0)[:, None], 32, 3, seed=4, weights=np.arange(6.0))
    for number in range(2):
        _, target, weights = batches[number]
        np.testing.assert_array_equal(target[:, 0], weights)


def test_mixup_blends_a_film_with_one_other_and_its_target_in_the_same_share():
    films = np.stack([np.full((32, 32), value, np.uint8) for value in (10, 50, 90)])
    batches = Batches(films, np.array([[10.0], [50.0], [90.0]]), 32, 3, seed=1, augmentation="zoom, flip", mixup=1.0)
    grey, target = batches[0]
    np.testing.assert_allclose(grey.mean(axis=(1, 2, 3)), target[:, 0], rtol=1e-5)
    assert grey.std(axis=(1, 2, 3)).max() < 1e-3
    assert not np.isin(target, (10, 50, 90)).all()
    batches.mixup = 0.0
    assert np.isin(batches[0][1], (10, 50, 90)).all()


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


def test_the_command_hands_on_what_it_is_given(tiny_chest_xray, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(pretraining, "pretrain", lambda train, validation, run, config: given.append(config))
    start = tmp_path / "base.npz"
    start.touch()
    more = ["--epochs", "2", "--matched", "0.5", "--experts", "1", "--independent", "0.3", "--seed", "4"]
    more += ["--mixup", "0.4", "--label-smoothing", "0", "--augmentation", "films, exchanged"]
    arguments = ["pretrain", "--data", str(tiny_chest_xray), "--run", str(tmp_path), "--start", str(start), *more]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    stages = (replace(pretraining.CONTINUED, epochs=2),)
    debiased = {"matched": 0.5, "experts": 1.0, "independent": 0.3, "mixup": 0.4}
    other = {"label_smoothing": 0.0, "augmentation": "films, exchanged", "seed": 4}
    expected = PretrainConfig(stages, start=start, **debiased, **other)
    assert given == [expected]


def test_an_unknown_augmentation_is_refused_with_those_there_are(tiny_chest_xray, tmp_path):
    arguments = ["pretrain", "--data", str(tiny_chest_xray), "--run", str(tmp_path), "--augmentation", "magic"]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2
    assert "'films, exchanged'" in refused.output
    assert "received 'magic'" in " ".join(refused.output.split())
