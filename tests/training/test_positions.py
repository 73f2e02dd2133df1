"""What positions are taught, by hand; batches that follow the films' weights; a run on a few films that resumes."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from pneumo.data.dataset import Example
from pneumo.errors import PneumoError
from pneumo.evaluation.pointing import cover
from pneumo.training import networks
from pneumo.training import views as views_module
from pneumo.training.features import load_base
from pneumo.training.positions import (
    INSIDE,
    POINTING,
    RING,
    SMOOTH,
    TEXT,
    Drawn,
    list_cells,
    make_answers,
    position_loss,
    weigh_positions,
)
from pneumo.training.recipes import SHIPPED
from pneumo.training.train import train
from pneumo.training.views import StoredViews, make_views

LAYERS = ("block4_conv3", "block5_conv1", "block5_conv2", "block5_conv3", "top_conv1", "logit_map")


def film(label, read_by=None, boxes=None, path=None):
    return Example(path, label, None, "p", age=50, view="PA", source="a", read_by=read_by, boxes=boxes)


def test_answers_are_softer_where_nobody_read_the_film():
    films = [film("PNEUMONIA"), film("NORMAL"), film("PNEUMONIA", "text"), film("OTHER", "text")]
    expected = [1 - SMOOTH, SMOOTH, TEXT["PNEUMONIA"], TEXT["OTHER"]]
    assert make_answers(films)[:, 0].tolist() == pytest.approx(expected)


def test_half_of_the_weight_is_inside_the_boxes():
    covered = np.zeros((4, 4), np.float32)
    covered[1, 1:3] = 1, 0.5
    speak, silent = np.moveaxis(weigh_positions(film("PNEUMONIA", boxes=((0, 0, 1, 1),)), covered), -1, 0)
    assert speak.sum() == pytest.approx(1)
    assert speak[1, 1] == pytest.approx(2 / 3)
    assert silent.sum() == pytest.approx(1)
    assert silent[1, 1] == 0
    assert silent[0, 0] == pytest.approx(1 / 14.5)


def test_films_without_boxes_are_silent_as_far_as_their_label_says():
    nothing = np.zeros((4, 4), np.float32)
    by_film = {
        "normal": weigh_positions(film("NORMAL"), nothing),
        "by text": weigh_positions(film("NORMAL", "text"), nothing),
        "other": weigh_positions(film("OTHER"), nothing),
        "pneumonia": weigh_positions(film("PNEUMONIA"), nothing),
        "moved out": weigh_positions(film("PNEUMONIA", boxes=((0, 0, 1, 1),)), nothing + INSIDE / 16),
    }
    assert all(one[..., 0].sum() == 0 for one in by_film.values())
    total = {name: one[..., 1].sum() for name, one in by_film.items()}
    expected = {"normal": 0.5, "by text": 0.25, "other": 0.25, "pneumonia": RING, "moved out": RING}
    assert total == pytest.approx(expected)
    assert by_film["pneumonia"][1:3, 1:3].sum() == 0  # no lung lies in the outermost positions


def test_loss_by_hand():
    logits = np.zeros((2, 2, 2, 1), np.float32)
    wanted = np.zeros((2, 2, 2, 2), np.float32)
    wanted[0, 0, 0, 0] = 1  # a box over one position of four: its share of the softmax is 1/4
    wanted[0, ..., 1] = (1 - wanted[0, ..., 0]) / 3
    wanted[1, ..., 1] = 0.5 / 4  # no box
    loss = np.array(position_loss(wanted, logits))
    assert loss == pytest.approx([2 * np.log(2) + POINTING * np.log(4), 0.5 * np.log(2)], abs=1e-4)
    logits[0, 0, 0] = 9
    assert np.array(position_loss(wanted, logits))[0] == pytest.approx(np.log(2), abs=1e-3)  # the silent ones are not


def test_batches_follow_the_weights():
    films = [film("PNEUMONIA")] * 2 + [film("NORMAL")] * 8
    weights = np.array([2.0, 2.0] + [0.5] * 8)
    counts = np.array([3, 3] + [1] * 8)
    shown = np.random.default_rng(0).permutation(np.repeat(np.arange(10), counts))
    features = shown.astype(np.float16)[:, None, None, None]
    stored = StoredViews(features, np.zeros((14, 1, 1), np.float16), shown)
    sharpness = np.arange(10)
    drawn = Drawn(stored, films, weights, sharpness, list_cells(films), batch=4, steps=10, seed=0)
    batches = [drawn[index] for index in range(len(drawn))]
    numbers = np.array([x[:, 0, 0, 0] for (x, _), _ in batches])
    np.testing.assert_array_equal(numbers, [s[:, 0] for (_, s), _ in batches])
    assert numbers.shape == (10, 4)
    assert (
        np.bincount(numbers.ravel().astype(int)).tolist() == [10, 10] + [40 * 0.5 / 8] * 8
        or (abs(np.bincount(numbers.ravel().astype(int)) - 40 * weights / 8) < 1.01).all()
    )
    ill = np.array([answers["logit"][:, 0] > 0.5 for _, answers in batches])
    assert (ill.sum(axis=1) == 2).all()  # half of every batch, as of the weights
    again = Drawn(stored, films, weights, sharpness, list_cells(films), batch=4, steps=10, seed=0)
    np.testing.assert_array_equal(again[3][0][0], batches[3][0][0])
    again.start(1)
    assert not np.array_equal(again.chosen, drawn.chosen)
    rows = drawn.chosen.ravel()
    taken = np.bincount(rows[shown[rows] == 0], minlength=14)[shown == 0]
    assert sorted(taken.tolist()) == [3, 3, 4]  # its three views take turns


@pytest.fixture
def few(tiny_chest_xray):
    paths = [sorted((tiny_chest_xray / "train" / label).iterdir())[:6] for label in ("NORMAL", "PNEUMONIA")]
    boxes = ((0.2, 0.3, 0.5, 0.7),)
    return [film("NORMAL", path=path) for path in paths[0]] + [
        film("PNEUMONIA", path=path, boxes=boxes) for path in paths[1]
    ]


def test_a_base_without_a_convolution_is_refused(base, tmp_path):
    with np.load(base) as whole:
        np.savez(
            tmp_path / "frozen.npz", **{name: whole[name] for name in whole if not name.startswith("block5_conv3")}
        )
    config = replace(SHIPPED, base_weights=tmp_path / "frozen.npz", size=32)
    with pytest.raises(PneumoError, match=r"in frozen\.npz, received none of block5_conv3\.$"):
        load_base(networks.tail(32, config.frozen, **config.options), config)


def test_a_killed_run_goes_on(few, base, tmp_path, monkeypatch):
    config = replace(SHIPPED, base_weights=base, size=32, film_size=32, batch=4, epochs=2, epoch_steps=2, views=1)
    config = replace(config, seeds=2)
    made = []
    monkeypatch.setattr(views_module, "CHUNK", 8)
    prepare = views_module._prepare
    monkeypatch.setattr(views_module, "_prepare", lambda *some: made.append(some[3]) or prepare(*some))
    fit, calls = keras.Model.fit, []

    def stopped(model, *args, **options):
        calls.append(options["epochs"])
        return fit(model, *args, **options | {"epochs": 1} if len(calls) == 1 else options)

    monkeypatch.setattr(keras.Model, "fit", stopped)
    once = train(few, few[::3], tmp_path / "whole", config)  # its first call is stopped after an epoch
    assert {name: len(history["loss"]) for name, history in once.histories.items()} == {"seed-0": 1, "seed-1": 2}
    assert made == [0, 1, 0]  # 12 films in chunks of 8, then 4 held out
    (tmp_path / "whole" / "seed-0.npz").unlink()
    whole = train(few, few[::3], tmp_path / "whole", config)
    assert {name: len(history["loss"]) for name, history in whole.histories.items()} == {"seed-0": 2, "seed-1": 2}
    assert whole.histories["seed-1"] == once.histories["seed-1"]
    assert made == [0, 1, 0]  # what the frozen layers made was kept
    assert whole.layers == LAYERS
    for name, history in whole.histories.items():
        best = int(np.argmin(history["val_calibrated"]))
        for one in ("val_AUC_adult", "val_pointing", "val_calibrated"):
            assert whole.reached[name][one] == history[one][best]
        assert whole.validation_loss[name] == history["val_calibrated"][best]
    assert whole.weights.stem == min(whole.validation_loss, key=whole.validation_loss.get)


def test_views_are_the_films_as_they_are_unless_counted(few, base, tmp_path):
    config = replace(SHIPPED, base_weights=base, size=32, film_size=32)
    plain = make_views(few, config, tmp_path / "run")
    assert plain.film.tolist() == list(range(12))
    assert plain.features.shape == (12, 4, 4, 512)
    np.testing.assert_array_equal(plain.covered[0], 0)
    np.testing.assert_allclose(plain.covered[-1], cover(few[-1].boxes, 2), atol=1e-3)
    counted = make_views(few, config, tmp_path / "run", np.arange(12) % 3)
    assert sorted(counted.film.tolist()) == sorted(np.repeat(np.arange(12), np.arange(12) % 3).tolist())
