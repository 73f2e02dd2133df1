"""The heat map's readout, fitted to a network of which a person can say what each position adds."""

import keras
import numpy as np

from pneumo.training import networks
from pneumo.training.attribution import OWN, SETS, draw_positions, fit


def test_positions_are_scattered_or_a_rectangle():
    rng = np.random.default_rng(0)
    every = [draw_positions(rng, 7, 5) for _ in range(200)]
    assert {p.shape for p in every} == {(7, 5)}
    rectangles = [p for p in every if p.any() and p[np.ix_(p.any(axis=1), p.any(axis=0))].all()]
    assert 80 < len(rectangles) < 140
    assert all(p.mean() < 1 for p in every)


def contrast(scale):
    """64 pixels, 4 × 4 positions: the logit is `scale` times their mean variance, and so is its map everywhere."""
    layers, square = keras.layers, 16
    film = keras.Input((64, 64, 3))
    grey = layers.Lambda(lambda x: x[..., :1] / 255, output_shape=(64, 64, 1))(film)
    mean = layers.AveragePooling2D(square, name=networks.LAST_CONV)(grey)
    of_squares = layers.AveragePooling2D(square)(layers.Multiply()([grey, grey]))
    variance = layers.Subtract(name="block4_pool")([of_squares, layers.Multiply()([mean, mean])])
    flat = layers.UpSampling2D(4)(layers.GlobalAveragePooling2D(keepdims=True)(variance))
    logit_map = layers.Conv2D(1, 1, kernel_initializer=keras.initializers.Constant(scale), name=networks.MAP_NAME)(flat)
    return keras.Model(film, layers.GlobalAveragePooling2D(name=networks.LOGIT_NAME)(logit_map))


def chequered(rng):
    """A third of its 4 × 4 squares are chequered, black and white; the others are of any grey."""
    squares = np.where(rng.random((4, 4, 1, 1)) < 1 / 3, 255 * (np.indices((16, 16)).sum(0) % 2), rng.integers(256))
    return squares.swapaxes(1, 2).reshape(64, 64).astype(np.uint8)


def test_the_readout_finds_what_a_position_adds_though_the_networks_own_map_is_flat():
    rng = np.random.default_rng(1)
    model, films = contrast(scale=8.0), np.stack([chequered(rng) for _ in range(60)])
    kernels, found = fit(model, films)
    variance, mean = (kernels[name][0] for name in networks.kernel_names())
    assert variance.shape == mean.shape == (1, 1, 1, 1)
    # blurred, a chequered square loses its variance, and nothing else changes: if all were like it, 8 times that
    assert 7 < variance.item() / OWN < 8.5
    assert abs(mean.item()) < 0.3
    assert (found["films"], found["sets"]) == (60, SETS)
    assert 0.9 < found["explained"] <= 1

    shown = networks.with_attribution(model)
    for name, weights in kernels.items():
        shown.get_layer(name).set_weights(weights)
    film = np.repeat(films[:1, ..., None], 3, axis=-1).astype(np.float32)
    heat = np.array(networks.map_model(shown)(film))[0, ..., 0]
    marked = films[0].reshape(4, 16, 4, 16).std(axis=(1, 3)) > 0
    assert heat[marked].min() > heat[~marked].max() + OWN
    np.testing.assert_allclose(heat.mean(), np.array(model(film)).item(), rtol=1e-4)
