"""What the epoch of VGG-16's top is chosen by, on numbers that a person can derive."""

import keras
import numpy as np
import pytest

from pneumo.training import objective
from pneumo.training.batches import Views
from pneumo.training.fitting import fit, read_columns


def test_the_loss_that_chooses_does_not_mind_where_the_logits_lie():
    target, logit = np.array([0, 0, 0, 1, 1, 1]), np.array([-2.0, -1, 1, -1, 1, 2])
    loss = objective.calibrated_loss(target, logit)
    assert 0.3 < loss < np.log(2)
    assert objective.calibrated_loss(target, 3 * logit + 5) == pytest.approx(loss, abs=1e-6)
    assert objective.calibrated_loss(target, np.array([-2.0, -1, -1, 1, 1, 2])) < loss
    # backwards they say nothing: a share of one half each
    assert objective.calibrated_loss(target, -logit) == pytest.approx(np.log(2))


def test_the_epoch_is_chosen_by_that_loss(tmp_path):
    # the weight falls from 1 by 0.75 twice: below 0 the logits are backwards, though the trained loss is lower
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(inputs))
    model.compile(keras.optimizers.SGD(0.75), lambda _, y: y)
    target, films = np.array([0, 0, 1, 1]), np.array([[-3.0], [2], [-1], [6]])
    batches = Views([films], target[:, None], 4, seed=0)
    watcher = objective.CalibratedLoss(Views([films], target[:, None], 4), target)
    fit(model, batches, batches, 2, tmp_path, "toy", best=watcher.name, watchers=[watcher])
    assert model.layers[-1].kernel.numpy().item() == pytest.approx(0.25)  # the gradient is the mean film, 1
    columns = read_columns(tmp_path / "history-toy.csv")
    assert columns["val_loss"][0] > columns["val_loss"][1]
    assert columns[watcher.name][0] < columns[watcher.name][1] == pytest.approx(np.log(2))
