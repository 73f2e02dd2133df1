"""What VGG-16 is trained for, on numbers that a person can reckon with; and the batches it is trained on."""

import keras
import numpy as np
import pytest

from pneumo.training import objective
from pneumo.training.batches import Views, fit, read_columns
from pneumo.training.recipes import TrainConfig


def loss(target, logit, score=None, **changes):
    given = objective.answers(np.array(target, float), None if score is None else np.array(score, float))
    return np.array(objective.loss(TrainConfig(None, **changes))(given, np.array(logit, np.float32)[:, None]))


def cross_entropy(target, probability):
    return -(target * np.log(probability) + (1 - target) * np.log(1 - probability))


def test_plain_loss_is_binary_cross_entropy():
    np.testing.assert_allclose(loss([1, 0], [np.log(3), np.log(3)]), -np.log([0.75, 0.25]), rtol=1e-5)


def test_experts_leave_to_the_network_what_acquisition_does_not_explain():
    # log-odds of acquisition log 3, of the network 0: together 3 to 1 for pneumonia
    np.testing.assert_allclose(loss([1], [0.0], [np.log(3)], experts=1.0), -np.log(0.75), rtol=1e-5)
    np.testing.assert_allclose(loss([1], [0.0], [np.log(9)], experts=0.5), -np.log(0.75), rtol=1e-5)
    np.testing.assert_allclose(loss([1], [0.0], [99.0], experts=1.0), np.log1p(np.exp(-objective.MOST)), rtol=1e-4)


def test_smoothing_moves_the_target():
    np.testing.assert_allclose(loss([1], [np.log(3)], smoothing=0.1), cross_entropy(0.95, 0.75), rtol=1e-5)


def test_independence_is_paid_for_within_each_class():
    logit, target = [-1.0, 1, -2, 2], [0, 0, 1, 1]
    plain = loss(target, logit)
    for score, both in (([-1, 1, -1, 1], 1.0), ([-1, 1, 1, 1], 0.5), ([2, 2, -3, -3], 0.0)):
        # correlation 1 or -1 in a class is 1, a score that does not vary 0; the classes' mean
        changed = loss(target, logit, score, independent=0.7)
        np.testing.assert_allclose(changed - plain, 0.7 * both, atol=1e-4)


def aetiology_loss(kinds, logits, score, smoothing=0.0, experts=0.0, independent=0.0):
    given = objective.answers(np.eye(3)[kinds], np.array(score, float))
    return np.array(objective.aetiology_loss(smoothing, experts, independent)(given, np.array(logits, np.float32)))


def test_the_base_leaves_acquisition_out_of_both_kinds_of_pneumonia():
    logits = np.log([[2.0, 1, 1], [2, 1, 1], [2, 1, 1]])
    np.testing.assert_allclose(aetiology_loss([0, 1, 2], logits, [0, 0, 0]), -np.log([0.5, 0.25, 0.25]), rtol=1e-5)
    # log-odds of acquisition log 3: normal, bacteria and virus are as 2 to 3 to 3
    with_score = aetiology_loss([0, 1, 2], logits, np.log([3, 3, 3]), experts=1.0)
    np.testing.assert_allclose(with_score, -np.log([0.25, 0.375, 0.375]), rtol=1e-5)
    smooth = aetiology_loss([1], logits[:1], [0], smoothing=0.3)  # 0.1, 0.8, 0.1
    np.testing.assert_allclose(smooth, -np.log([0.5, 0.25, 0.25]) @ [0.1, 0.8, 0.1], rtol=1e-5)
    # the logit of pneumonia is log 1 of the first and log 3 of the second film of each class
    logits = np.log([[2.0, 1, 1], [2, 3, 3]] * 2)
    price = aetiology_loss([0, 0, 1, 2], logits, [-1, 1, -1, -1], independent=0.6)
    price -= aetiology_loss([0, 0, 1, 2], logits, [-1, 1, -1, -1])
    np.testing.assert_allclose(price, 0.3, atol=1e-4)  # correlation 1 among normals, none among pneumonias


def test_metrics_know_logits():
    answer = objective.answers(np.array([0, 0, 1, 1.0]), np.array([4.0, 4, 4, 4]))
    logit = np.array([[-2.0], [1], [0.5], [3]], np.float32)
    auc = objective.Auc()
    auc.update_state(answer, logit)
    assert float(auc.result()) == pytest.approx(0.75, abs=0.01)  # three of four pairs in order
    np.testing.assert_array_equal(objective.accuracy(answer, logit), [1, 0, 1, 1])
    of_three = objective.answers(np.eye(3)[[0, 2]], np.array([4.0, 4]))
    logits = np.array([[1.0, 0, 0.5], [0, 2, 1]], np.float32)
    np.testing.assert_array_equal(objective.aetiology_accuracy(of_three, logits), [1, 0])


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


def test_the_worst_group_weighs_most():
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")(inputs))
    model.compile("sgd", "mse")
    # 10 of each label; three of each look like the other by score; one of them is called wrongly with logit 2
    target, score = np.repeat([0.0, 1], 10), np.r_[-np.arange(10.0), np.arange(10.0)] / 10
    logit = np.where(target == 1, 2.0, -2.0)
    logit[0] = 2.0  # score -0.0: the highest of the normals
    train = Views([logit[:, None]], objective.answers(target, score), 4, seed=0, weights=np.ones(20))
    watcher = objective.WorstGroups(train, 1.0)
    watcher.set_model(model)
    watcher.on_epoch_begin(0)
    right, wrong = np.log1p(np.exp(-2)), np.log1p(np.exp(2))
    group = np.exp(np.where(np.isin(np.arange(20), (0, 1, 2)), (wrong + 2 * right) / 3, right))
    np.testing.assert_allclose(train.weights, group / group.mean(), rtol=1e-5)


def test_every_epoch_takes_the_next_view():
    views = [np.full((4, 2), value, np.float16) for value in (1, 2)]
    batches = Views(views, np.arange(4.0)[:, None], 2, seed=0, weights=np.arange(4.0))
    for expected in (1, 2, 1):
        features, target, weights = batches[1]
        assert (features == expected).all()
        np.testing.assert_array_equal(target[:, 0], weights)
        batches.on_epoch_end()
    plain = Views([views[0][:3]], np.arange(3.0)[:, None], 2)
    assert [len(plain[index][0]) for index in range(len(plain))] == [2, 1]


def test_mixup_blends_film_target_and_weight_in_the_same_shares():
    films = np.eye(4, dtype=np.float16)
    batches = Views([films], np.arange(4.0)[:, None], 4, seed=3, weights=np.arange(4.0), mixup=0.2)
    features, target, weights = batches[0]
    np.testing.assert_allclose(features.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(features @ np.arange(4.0), target[:, 0], rtol=1e-6)
    np.testing.assert_allclose(target[:, 0], weights, rtol=1e-6)
    assert not np.isin(features, (0, 1)).all()
    np.testing.assert_array_equal(batches[0][0], features)
