"""VGG-16 as published, and the head whose map explains it."""

import keras
import numpy as np
import pytest

from pneumo.model.heatmap import pool
from pneumo.training import networks


def test_plain_network_has_the_published_layers_and_weights():
    model = networks.vgg16(None)
    published = keras.applications.VGG16(include_top=False, weights=None)
    for name in networks.CONV_NAMES:
        assert [w.shape for w in model.get_layer(name).get_weights()] == [
            w.shape for w in published.get_layer(name).get_weights()
        ]
    assert model.count_params() == published.count_params() == 14_714_688
    assert len(networks.CONV_NAMES) == 13


def test_served_model_ends_in_the_map_and_in_halves_of_what_the_gate_looks_at():
    keras.utils.set_random_seed(7)
    model = networks.add_head(networks.vgg16(64), units=8, dropout=0.0)
    logit_map, *halves = networks.served_model(model)(np.zeros((1, 64, 64, 3), np.float32))
    assert logit_map.shape == (1, 4, 4, 1)
    assert [h.shape for h in halves] == [(1, 2, 1, 128), (1, 2, 1, 256), (1, 2, 1, 512)]
    last = keras.Model(model.input, model.get_layer(networks.LAST_CONV).output)(np.zeros((1, 64, 64, 3), np.float32))
    np.testing.assert_allclose(halves[2][0, 1, 0], np.mean(last[0, 2:], axis=(0, 1)), rtol=1e-5, atol=1e-6)


def test_imagenet_weights_meet_the_preprocessing_they_expect(monkeypatch):
    """RGB with the first kernel turned round equals `preprocess_input` (BGR) with the kernel as downloaded."""
    keras.utils.set_random_seed(3)
    source = keras.applications.VGG16(include_top=False, weights=None)
    monkeypatch.setattr(keras.applications, "VGG16", lambda include_top, weights, **kw: source if not kw else make(kw))
    make = lambda kw: keras.src.applications.vgg16.VGG16(include_top=False, weights=None, **kw)  # noqa: E731
    model = networks.vgg16(None)
    networks.load_imagenet(model)
    films = np.random.default_rng(4).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)
    expected = keras.Model(source.input, source.get_layer(networks.LAST_CONV).output)(
        keras.applications.vgg16.preprocess_input(films.copy())
    )
    np.testing.assert_allclose(model(films), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("frozen", "trained"), [("block4_pool", 3), ("block3_pool", 6), ("block4_conv2", 4)])
def test_front_and_tail_are_the_whole_network(frozen, trained, tmp_path):
    whole = networks.build("vgg16", 64, units=8, dropout=0.0)
    layers = networks.take_layers(whole, (*networks.CONV_NAMES, *networks.TOP_NAMES))
    path = tmp_path / "whole.npz"
    networks.save_layers(layers, path, "float32")
    front, tail = networks.front(64, frozen), networks.tail(64, frozen, units=8, dropout=0.0)
    for part in (front, tail):
        networks.load_layers(part, path, [layer.name for layer in part.layers])
    films = np.random.default_rng(8).uniform(0, 255, (2, 64, 64, 3)).astype(np.float32)
    np.testing.assert_allclose(tail(front(films)), whole(films), rtol=1e-5)
    convolutions = networks.trained_convolutions(frozen)
    assert convolutions == networks.CONV_NAMES[-trained:]
    assert {layer.name for layer in tail.layers if layer.weights} == {*convolutions, *networks.TOP_NAMES}


def test_mean_of_the_map_is_the_logit():
    keras.utils.set_random_seed(5)
    model = networks.add_head(networks.vgg16(64), units=8, dropout=0.5)
    films = np.random.default_rng(6).uniform(0, 255, (3, 64, 64, 3)).astype(np.float32)
    logit_map = networks.map_model(model)(films)
    assert logit_map.shape == (3, 4, 4, 1)
    logit = np.mean(logit_map, axis=(1, 2))
    np.testing.assert_allclose(model(films), 1 / (1 + np.exp(-logit)), rtol=1e-5)


def test_each_film_is_pooled_with_its_sharpness():
    keras.utils.set_random_seed(5)
    tail = networks.tail(64, "block4_conv2", units=8, dropout=0.5)
    features = np.random.default_rng(6).uniform(0, 9, (3, 8, 8, 512)).astype(np.float32)
    sharpness = np.array([[0.25], [1], [4]], np.float32)
    found = networks.pooled_by_sharpness(tail)((features, sharpness))
    maps = np.array(found[networks.MAP_NAME])[..., 0]
    assert maps.shape == (3, 4, 4)
    expected = [pool(one, own) for one, own in zip(maps, sharpness[:, 0], strict=True)]
    np.testing.assert_allclose(found[networks.LOGIT_NAME][:, 0], expected, rtol=1e-4)


def test_saved_layers_come_back_and_a_wrong_shape_is_refused(tmp_path):
    model = networks.add_head(networks.vgg16(32), units=8, dropout=0.0)
    path = tmp_path / "top.npz"
    networks.save_layers(networks.take_layers(model, networks.TOP_NAMES), path, "float32")
    again = networks.add_head(networks.vgg16(32), units=8, dropout=0.0)
    networks.load_layers(again, path)
    np.testing.assert_array_equal(
        again.get_layer(networks.MAP_NAME).get_weights()[0], model.get_layer(networks.MAP_NAME).get_weights()[0]
    )
    with pytest.raises(ValueError, match="shape"):
        networks.load_layers(networks.add_head(networks.vgg16(32), units=9, dropout=0.0), path)
