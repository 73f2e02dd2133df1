"""VGG-16 with batch normalisation computes what the folded network does, in either direction."""

import keras
import numpy as np
import pytest

from pneumo.training import networks, normalised


@pytest.fixture(scope="module")
def settled():
    """A batch-normalised network whose every statistic differs from the neutral one."""
    keras.utils.set_random_seed(1)
    model = normalised.vgg16_bn(3)
    rng = np.random.default_rng(1)
    for name in networks.CONV_NAMES:
        norm = model.get_layer(f"{name}_bn")
        count = norm.gamma.shape[0]
        draws = rng.uniform(0.5, 1.5, count), rng.normal(0, 0.3, count), rng.normal(0, 1, count)
        norm.set_weights([*draws, rng.uniform(0.5, 3, count)])
    return model


def test_folded_network_computes_what_the_unfolded_one_does(settled):
    plain = networks.vgg16(None)
    for name, weights in normalised.fold(settled).items():
        plain.get_layer(name).set_weights(weights)
    films = np.random.default_rng(2).uniform(0, 255, (2, 48, 48, 3)).astype(np.float32)
    features = keras.Model(settled.input, settled.get_layer(f"{networks.LAST_CONV}_relu").output)
    unfolded, folded = features(films, training=False), plain(films)
    assert np.std(unfolded) > 0
    np.testing.assert_allclose(folded, unfolded, rtol=1e-3, atol=1e-3 * np.max(unfolded))


def test_unfolded_again_it_computes_the_same_with_filters_as_long_as_when_drawn(settled, tmp_path):
    path = tmp_path / "base.npz"
    networks.save_layers(normalised.fold(settled), path, "float32")
    plain, again = networks.vgg16(None), normalised.vgg16_bn(3)
    networks.load_layers(plain, path)
    films = np.random.default_rng(3).uniform(0, 255, (4, 48, 48, 3)).astype(np.float32)
    normalised.unfold(again, path, films)
    features = keras.Model(again.input, again.get_layer(f"{networks.LAST_CONV}_relu").output)
    expected = plain(films)
    np.testing.assert_allclose(features(films, training=False), expected, atol=1e-3 * np.max(expected))
    # on the films it was measured on, the statistics of the batch are those that it holds
    np.testing.assert_allclose(features(films, training=True), expected, atol=1e-2 * np.max(expected))
    kernel, _ = again.get_layer("block3_conv2").get_weights()
    np.testing.assert_allclose(np.square(kernel).sum(axis=(0, 1, 2)), 2, rtol=1e-4)  # He: variance 2 / fan-in
