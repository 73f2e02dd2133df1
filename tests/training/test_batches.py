"""The batches that networks are trained on."""

import numpy as np
import pytest

from pneumo.training.batches import Batches, Views


@pytest.fixture
def films(small_films):
    return np.stack([film[::4, ::4] for film in (*small_films.values(), *small_films.values())])[:6]


def test_batches_depend_on_seed_and_epoch_alone(films):
    target = np.arange(6.0)[:, None]
    one, two = (Batches(films, target, 32, 3, seed=4) for _ in range(2))
    np.testing.assert_array_equal(one[1][0], two[1][0])
    before = one[0][0]
    one.start(1)
    assert not np.array_equal(one[0][0], before)
    one.start(0)
    np.testing.assert_array_equal(one[0][0], before)


def test_without_a_seed_films_come_as_they_are_in_order(films):
    target = np.arange(6.0)[:, None]
    plain = Batches(films, target, films.shape[1], 4)
    assert len(plain) == 2
    np.testing.assert_array_equal(plain[0][0][..., 0], films[:4])
    np.testing.assert_array_equal(np.concatenate([plain[0][1], plain[1][1]]), target)


def test_weights_go_with_their_films(films):
    batches = Batches(films, np.arange(6.0)[:, None], 32, 3, seed=4, weights=np.arange(6.0))
    for number in range(2):
        _, target, weights = batches[number]
        np.testing.assert_array_equal(target[:, 0], weights)


def test_every_epoch_takes_the_next_view():
    views = [np.full((4, 2), value, np.float16) for value in (1, 2)]
    batches = Views(views, np.arange(4.0)[:, None], 2, seed=0, weights=np.arange(4.0))
    for epoch, expected in enumerate((1, 2, 1)):
        batches.start(epoch)
        features, target, weights = batches[1]
        assert (features == expected).all()
        np.testing.assert_array_equal(target[:, 0], weights)
    plain = Views([views[0][:3]], np.arange(3.0)[:, None], 2)
    assert [len(plain[index][0]) for index in range(len(plain))] == [2, 1]
