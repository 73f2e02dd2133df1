"""The architectures: VGG-16 as published, ResNet50V2, plain CNNs, and the heads on them.

Simonyan and Zisserman, arXiv 1409.1556; He et al., arXiv 1603.05027. VGG-16's layers are named as in
`keras.applications.vgg16`, and every graph is flat, so that `get_layer("block5_conv3")` works. All networks here read
(n, H, W, 3) float32 RGB in 0..255.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import keras
import numpy as np

from pneumo.files import write_whole
from pneumo.model.card import Card

BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # filters and convolutions of each block
RGB_MEAN = (123.68, 116.779, 103.939)  # of ImageNet; what `keras.applications.vgg16.preprocess_input` subtracts
LAST_CONV = "block5_conv3"
POSITION = 2 ** (len(BLOCKS) - 1)  # side of a position of the last block, in pixels of the input
CONV_NAMES = tuple(f"block{b}_conv{c}" for b, (_, n) in enumerate(BLOCKS, 1) for c in range(1, n + 1))
MAP_NAME, LOGIT_NAME = "logit_map", "logit"
TOP_NAMES = ("top_conv1", MAP_NAME)
# The layers whose features the gate reads in each network: texture, parts, chest
GATE_LAYERS = {
    "vgg16": ("block2_pool", "block3_pool", LAST_CONV),
    "resnet50v2": ("conv2_block2_out", "conv3_block3_out", "conv4_block5_out"),
    "cnn": ("block2_pool", "block3_pool", "block4_pool"),
}


def vgg16(size: int | None) -> keras.Model:
    """Plain VGG-16 without its top: (n, size, size, 3) RGB 0..255 -> (n, size/16, size/16, 512) after block5_conv3.

    The mean is subtracted inside. Channels stay in RGB order: `load_imagenet` reverses the first kernel instead.
    """
    inputs = keras.Input((size, size, 3), name="film")
    x = keras.layers.Rescaling(1.0, offset=[-m for m in RGB_MEAN], name="subtract_mean")(inputs)
    base = keras.applications.VGG16(include_top=False, weights=None, input_tensor=x)
    return keras.Model(inputs, base.get_layer(LAST_CONV).output, name="vgg16")


def front(size: int, frozen: str) -> keras.Model:
    """VGG-16 up to the layer `frozen`, the part that is not trained: (n, size, size, 3) -> (n, h, w, filters)."""
    base = vgg16(size)
    return keras.Model(base.input, base.get_layer(frozen).output, name="front")


def tail(size: int, frozen: str, units: int, dropout: float) -> keras.Model:
    """VGG-16 behind `front`: its features -> the layers after `frozen` -> the head -> probability (n, 1)."""
    whole = vgg16(size)
    before = whole.get_layer(frozen)
    x = inputs = keras.Input(before.output.shape[1:], name="features")
    for layer in whole.layers[whole.layers.index(before) + 1 :]:
        x = layer(x)
    return add_head(keras.Model(inputs, x, name="last_layers"), units, dropout)


def trained_convolutions(frozen: str) -> tuple[str, ...]:
    """Name the convolutions of VGG-16 behind the layer `frozen`."""
    block = int(frozen.removeprefix("block").split("_")[0])
    if frozen.endswith("pool"):
        return tuple(name for name in CONV_NAMES if int(name[len("block")]) > block)
    return CONV_NAMES[CONV_NAMES.index(frozen) + 1 :]


def load_imagenet(model: keras.Model) -> None:
    """Give the VGG-16 layers of `model` Keras' ImageNet weights (a download); they expect BGR, the model RGB."""
    source = keras.applications.VGG16(include_top=False, weights="imagenet")
    for name in {layer.name for layer in model.layers}.intersection(CONV_NAMES):
        kernel, bias = source.get_layer(name).get_weights()
        kernel = kernel[:, :, ::-1] if name == CONV_NAMES[0] else kernel
        model.get_layer(name).set_weights([kernel, bias])


def add_head(base: keras.Model, units: int, dropout: float) -> keras.Model:
    """Put the per-position head on `base`: -> probability of pneumonia (n, 1).

    1×1 convolutions end in one logit a position, and the film's logit is their mean: that map is a class activation
    map, with no backward pass (cf. Zhou et al., CVPR 2016, arXiv 1512.04150).
    """
    x = keras.layers.Dropout(dropout, name="top_dropout1")(base.output)
    x = keras.layers.Conv2D(units, 1, activation="relu", name="top_conv1")(x)  # (n, h, w, units)
    return _end(base.input, keras.layers.Dropout(dropout, name="top_dropout2")(x))


def resnet50v2(size: int, dense: Sequence[int], dropout: float, imagenet: bool = False) -> keras.Model:
    """ResNet50V2 (random or ImageNet weights), then groups of dense layer and dropout: -> probability (n, 1).

    The dense layers are 1×1 convolutions, and the film's logit is the mean of the map in which they end.
    """
    inputs = keras.Input((size, size, 3), name="film")
    x = keras.layers.Rescaling(1 / 127.5, offset=-1, name="to_one")(inputs)
    weights = "imagenet" if imagenet else None
    base = keras.applications.ResNet50V2(include_top=False, weights=weights, input_tensor=x)
    for layer in base.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.95  # 0.99 is for epochs of thousands of steps, not of a hundred
    x = base.output
    for number, units in enumerate(dense, 1):
        x = keras.layers.Conv2D(units, 1, activation="relu", name=f"top_dense{number}")(x)
        x = keras.layers.Dropout(dropout, name=f"top_dropout{number}")(x)
    return _end(inputs, x)


def cnn(size: int, filters: Sequence[int], normalised: bool, dense: Sequence[int], dropout: float) -> keras.Model:
    """Plain CNN: a block of convolution and max-pooling for each of `filters`, Flatten, dense layers: -> (n, 1).

    `normalised` puts batch normalisation into each block, `dropout` stands behind each dense layer. The flattened film
    has one position, so there is no map.
    """
    x = inputs = keras.Input((size, size, 3), name="film")
    x = keras.layers.Rescaling(1 / 255, name="to_one")(x)
    for block, count in enumerate(filters, 1):
        x = keras.layers.Conv2D(count, 3, padding="same", name=f"block{block}_conv")(x)
        if normalised:
            x = keras.layers.BatchNormalization(momentum=0.95, name=f"block{block}_bn")(x)
        x = keras.layers.ReLU(name=f"block{block}_relu")(x)
        x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    for number, units in enumerate(dense, 1):
        x = keras.layers.Dense(units, activation="relu", name=f"top_dense{number}")(x)
        x = keras.layers.Dropout(dropout, name=f"top_dropout{number}")(x)
    return _end(inputs, keras.layers.Reshape((1, 1, x.shape[-1]), name="position")(x))


def _end(inputs: keras.KerasTensor, x: keras.KerasTensor) -> keras.Model:
    """Features of positions (n, h, w, c) -> one logit each, their mean, which is the film's, the probability (n, 1)."""
    logit_map = keras.layers.Conv2D(1, 1, dtype="float32", name=MAP_NAME)(x)
    logit = keras.layers.GlobalAveragePooling2D(dtype="float32", name=LOGIT_NAME)(logit_map)  # (n, 1)
    return keras.Model(
        inputs, keras.layers.Activation("sigmoid", dtype="float32", name="probability")(logit), name="pneumo"
    )


class SmoothMaximum(keras.layers.Layer):
    """Logits of positions (n, h, w, 1), a sharpness each (n, 1) -> the films' (n, 1), as `heatmap.pool` computes it."""

    def call(self, logit_map: keras.KerasTensor, sharpness: keras.KerasTensor) -> keras.KerasTensor:
        """Pool the maps."""
        positions = logit_map.shape[1] * logit_map.shape[2]
        total = keras.ops.logsumexp(sharpness[:, :, None, None] * logit_map, axis=(1, 2))  # (n, 1)
        return (total - math.log(positions)) / sharpness


def pooled_by_sharpness(model: keras.Model) -> keras.Model:
    """The layers of `tail` as they learn: features (n, h, w, filters), a sharpness each (n, 1) -> logit and map."""
    sharpness = keras.Input((1,), name="sharpness")
    logit_map = model.get_layer(MAP_NAME).output
    logit = SmoothMaximum(dtype="float32", name=LOGIT_NAME)(logit_map, sharpness)
    return keras.Model((model.input, sharpness), {LOGIT_NAME: logit, MAP_NAME: logit_map})


def build(name: str, size: int, **options: object) -> keras.Model:
    """Build the network of that name in GATE_LAYERS with its head and random weights: film -> probability (n, 1)."""
    if name == "vgg16":
        return add_head(vgg16(size), **options)
    return {"resnet50v2": resnet50v2, "cnn": cnn}[name](size, **options)


def served_model(model: keras.Model, layers: Sequence[str] = GATE_LAYERS["vgg16"]) -> keras.Model:
    """The network that is exported: film -> its map of logits (n, h, w, 1), and the averages of `layers`.

    These are (n, 2, 1, C), of the upper and the lower half: over the whole film they are the same upside down.
    """
    seen = [model.get_layer(name).output for name in layers]
    halves = [
        keras.layers.AveragePooling2D((x.shape[1] // 2, x.shape[2]), name=f"halves_{x.shape[3]}")(x) for x in seen
    ]
    return keras.Model(model.input, [model.get_layer(MAP_NAME).output, *halves], name="pneumo_served")


def map_model(model: keras.Model) -> keras.Model:
    """The same network ending at its map of logits: film -> (n, h, w, 1)."""
    return keras.Model(model.input, model.get_layer(MAP_NAME).output, name="pneumo_map")


def take_layers(model: keras.Model, names: Iterable[str]) -> dict[str, list[np.ndarray]]:
    """Take the weights of the named layers: layer name -> its arrays, as Keras orders them."""
    return {name: model.get_layer(name).get_weights() for name in names}


def save_layers(layers: dict[str, list[np.ndarray]], path: Path, dtype: str) -> None:
    """Write layer name -> weights as an .npz of `dtype`, without code, unlike a .keras file; whole or not at all."""
    arrays = {f"{name}/{i}": w.astype(dtype) for name, ws in layers.items() for i, w in enumerate(ws)}
    with write_whole(path) as stream:
        np.savez(stream, **arrays)


def list_layers(path: Path) -> set[str]:
    """The names of the layers whose weights `path` holds."""
    with np.load(path, allow_pickle=False) as stored:
        return {key.rsplit("/", 1)[0] for key in stored.files}


def load_layers(model: keras.Model, path: Path, names: Sequence[str] | None = None) -> None:
    """Set the layers of `model` whose weights `path` holds: all of them, or those in `names`.

    Raises:
        ValueError: a layer is missing in the model or has another shape.
    """
    with np.load(path, allow_pickle=False) as stored:
        arrays = Counter(key.rsplit("/", 1)[0] for key in stored.files)
        for name, count in arrays.items():
            if names is not None and name not in names:
                continue
            model.get_layer(name).set_weights([stored[f"{name}/{i}"].astype(np.float32) for i in range(count)])


def from_card(card: Card) -> keras.Model:
    """Load the float32 Keras model of which the served file was made: its base, if any, and the trained layers."""
    model = build(size=card.size, **card.contents["network"])
    for role in ("base", "top"):
        if role in card.contents["files"]:
            load_layers(model, card.file(role))
    return model
