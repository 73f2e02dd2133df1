"""A fit resumes after its last whole epoch, keeps the best one, and computes in the quicker precision."""

import keras
import numpy as np
import pytest

from pneumo.data.dataset import Example
from pneumo.errors import RunError
from pneumo.training import fitting
from pneumo.training.batches import Batches
from pneumo.training.fitting import claim, fit, read_columns
from pneumo.training.recipes import TrainConfig
from tests.support.films import SAMPLES


def fit_toy(folder, losses, stop_at=None):
    """Fit a toy whose validation loss in each epoch is told; returns the model, the epochs' orders, the history."""

    class Told(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            orders[epoch] = (train.epoch, train.order.tolist())

        def on_epoch_end(self, epoch, logs=None):
            if epoch == stop_at:
                raise KeyboardInterrupt
            logs["val_loss"] = losses[epoch]

    keras.utils.set_random_seed(0)
    orders, films = {}, np.zeros((8, 16, 16), np.uint8)
    train = Batches(films, np.ones((8, 1)), 16, 4, seed=0, augmentation="zoom, flip")  # black films stay black
    watched = Batches(films, np.ones((8, 1)), 16, 8)
    inputs = keras.Input((16, 16, 3))
    model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.GlobalAveragePooling2D()(inputs)))
    model.compile(keras.optimizers.SGD(0.25), "mse")
    fit(model, train, watched, len(losses), folder, "toy", best="val_loss", watchers=[Told()])
    return model, orders, read_columns(folder / "history-toy.csv")


def test_a_killed_run_resumes_after_its_last_whole_epoch(tmp_path):
    losses = (3.0, 1.0, 2.0, 4.0)
    whole, orders, history = fit_toy(tmp_path / "whole", losses)
    assert [epoch for epoch, _ in orders.values()] == [0, 1, 2, 3]
    assert len({str(order) for _, order in orders.values()}) == 4
    with pytest.raises(KeyboardInterrupt):
        fit_toy(tmp_path / "killed", losses, stop_at=2)
    assert read_columns(tmp_path / "killed" / "history-toy.csv")["epoch"].tolist() == [0, 1]
    resumed, again, continued = fit_toy(tmp_path / "killed", losses)
    assert again == {epoch: orders[epoch] for epoch in (2, 3)}
    assert continued["epoch"].tolist() == history["epoch"].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(continued["loss"], history["loss"], rtol=1e-5)
    # of black films only the bias b learns: b - 1 halves with each of two steps an epoch, so 1 - 1/16
    # after the second epoch, whose loss is the lowest; the resumed run must not lose what the killed one kept
    for model in (whole, resumed):
        assert model.layers[-1].bias.numpy().item() == pytest.approx(1 - 1 / 16)
    assert all(seconds > 0 for seconds in continued["seconds"])
    assert list((tmp_path / "killed" / "tensorboard-toy").rglob("events.*"))


def test_a_run_that_was_killed_behind_its_last_epoch_trains_no_more(tmp_path):
    fit_toy(tmp_path, (2.0, 1.0))
    model, orders, history = fit_toy(tmp_path, (2.0, 1.0))
    assert orders == {}
    assert len(history["loss"]) == 2
    assert model.layers[-1].bias.numpy().item() == pytest.approx(1 - 1 / 16)
    fitting.finished(tmp_path, "toy")
    assert not list(tmp_path.glob("backup-*"))


def test_a_run_belongs_to_its_recipe_its_films_and_its_weights_whatever_they_are_called(tmp_path):
    weights, films = tmp_path / "base.npz", [Example(path, "NORMAL", None, path.name) for path in SAMPLES]
    weights.write_bytes(b"some")
    for _ in range(2):
        claim(tmp_path / "run", TrainConfig(weights), weights, films)
    moved = weights.rename(tmp_path / "moved.npz")
    claim(tmp_path / "run", TrainConfig(moved), moved, films)
    moved.with_name("others.npz").write_bytes(b"others")
    for config, given, seen in (
        (TrainConfig(moved), moved.with_name("others.npz"), films),
        (TrainConfig(moved, seed=1), moved, films),
        (TrainConfig(moved), moved, films[1:]),
    ):
        with pytest.raises(RunError, match="another recipe, of other weights to begin with, or of other films"):
            claim(tmp_path / "run", config, given, seen)


def test_of_an_epoch_with_two_rows_the_later_counts(tmp_path):
    history = tmp_path / "history-toy.csv"
    history.write_text("epoch,loss\n0,3.0\n1,2.0\n1,1.5\n2,1.0\n")
    assert read_columns(history)["loss"].tolist() == [3.0, 1.5, 1.0]


@pytest.mark.parametrize(("bfloat16", "policy"), [(0.5, "mixed_bfloat16"), (0.9, "float32"), (9.0, "float32")])
def test_bfloat16_is_used_only_where_it_is_quicker(bfloat16, policy, monkeypatch):
    monkeypatch.setattr(fitting, "time_convolution", lambda: {"bfloat16": bfloat16, "float32": 1.0})
    with fitting.quickest_precision() as chosen:
        assert chosen == policy == keras.mixed_precision.global_policy().name
    assert keras.mixed_precision.global_policy().name == "float32"


def test_a_convolution_is_timed_in_both_types(monkeypatch):
    ticks = iter([0, 9, 10, 30, 30, 35, 40, 47, 50, 53, 60, 68])  # in turns: the first are slow, then 5, 7, 3 and 8
    monkeypatch.setattr(fitting.time, "perf_counter", lambda: next(ticks))
    assert fitting.time_convolution(times=2) == {"float32": 3, "bfloat16": 7}
