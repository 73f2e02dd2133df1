"""What VGG-16's top is trained for, on numbers that a person can derive."""

import keras
import numpy as np
import pytest

from pneumo.training import objective
from pneumo.training.batches import Views
from pneumo.training.fitting import fit, read_columns


def loss(target, logit, score=None, **prices):
    given = objective.answers(np.array(target, float), None if score is None else np.array(score, float))
    return np.array(objective.loss(**prices)(given, np.array(logit, np.float32)[:, None]))


def test_plain_loss_is_binary_cross_entropy():
    np.testing.assert_allclose(loss([1, 0], [np.log(3), np.log(3)]), -np.log([0.75, 0.25]), rtol=1e-5)


def test_experts_leave_to_the_network_what_acquisition_does_not_explain():
    # log-odds of acquisition log 3, of the network 0: together 3 to 1 for pneumonia
    np.testing.assert_allclose(loss([1], [0.0], [np.log(3)], experts=1.0), -np.log(0.75), rtol=1e-5)
    np.testing.assert_allclose(loss([1], [0.0], [np.log(9)], experts=0.5), -np.log(0.75), rtol=1e-5)
    np.testing.assert_allclose(loss([1], [0.0], [99.0], experts=1.0), np.log1p(np.exp(-objective.MOST)), rtol=1e-4)


def test_independence_is_paid_for_within_each_class():
    logit, target = [-1.0, 1, -2, 2], [0, 0, 1, 1]
    plain = loss(target, logit)
    for score, both in (([-1, 1, -1, 1], 1.0), ([-1, 1, 1, 1], 0.5), ([2, 2, -3, -3], 0.0)):
        # correlation 1 or -1 in a class is 1, a score that does not vary 0; the classes' mean
        changed = loss(target, logit, score, independent=0.7)
        np.testing.assert_allclose(changed - plain, 0.7 * both, atol=1e-4)


def test_metrics_know_logits():
    answer = objective.answers(np.array([0, 0, 1, 1.0]), np.array([4.0, 4, 4, 4]))
    logit = np.array([[-2.0], [1], [0.5], [3]], np.float32)
    auc = objective.Auc()
    auc.update_state(answer, logit)
    assert float(auc.result()) == pytest.approx(0.75, abs=0.01)  # three of four pairs in order
    np.testing.assert_array_equal(objective.accuracy(answer, logit), [1, 0, 1, 1])


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
