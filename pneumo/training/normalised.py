"""VGG-16 with batch normalisation: it trains quicker, and is folded to plain VGG-16 afterwards."""

from pathlib import Path

import keras
import numpy as np

from pneumo.training.networks import BLOCKS, CONV_NAMES, RGB_MEAN, load_layers


def vgg16_bn(classes: int, dropout: float = 0.3) -> keras.Model:
    """VGG-16 with batch normalisation after each convolution, then average, dropout and `classes` logits (float32)."""
    x = inputs = keras.Input((None, None, 3), name="film")
    x = keras.layers.Rescaling(1.0, offset=[-m for m in RGB_MEAN], name="subtract_mean")(x)
    for block, (filters, convolutions) in enumerate(BLOCKS, 1):
        for c in range(1, convolutions + 1):
            name = f"block{block}_conv{c}"
            x = keras.layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal", name=name)(x)
            x = keras.layers.BatchNormalization(momentum=0.95, name=f"{name}_bn")(x)
            x = keras.layers.ReLU(name=f"{name}_relu")(x)
        if block < len(BLOCKS):
            x = keras.layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    x = keras.layers.GlobalAveragePooling2D(name="average", dtype="float32")(x)  # (n, 512)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    logits = keras.layers.Dense(classes, dtype="float32", name="logits")(x)  # (n, classes)
    return keras.Model(inputs, logits, name="vgg16_bn")


def fold(model: keras.Model) -> dict[str, list[np.ndarray]]:
    """Fold every batch normalisation of a `vgg16_bn` into its convolution: layer name -> [kernel, bias], float32.

    gamma·(W∗x + b − mean)/sqrt(var + eps) + beta is a convolution with W·s and (b − mean)·s + beta, s = gamma/sqrt(…),
    so a plain VGG-16 with these weights computes the same features.
    """
    folded = {}
    for name in CONV_NAMES:
        kernel, bias = model.get_layer(name).get_weights()
        norm = model.get_layer(f"{name}_bn")
        gamma, beta, mean, variance = norm.get_weights()
        scale = gamma / np.sqrt(variance + norm.epsilon)  # (filters,)
        folded[name] = [kernel * scale, (bias - mean) * scale + beta]
    return folded


def unfold(model: keras.Model, path: Path, films: np.ndarray) -> None:
    """Give a `vgg16_bn` the folded weights of `path`: the same features, with normalisations that can be trained.

    Each normalisation takes the mean and variance of its convolution's output on `films` (n, H, W, 3), and gamma and
    beta that undo them. The norm of a filter before a normalisation is free: it is set to that of a randomly drawn one
    (He et al., arXiv 1502.01852), so that a learning rate has the same effect as from scratch.
    """
    norms = [model.get_layer(f"{name}_bn") for name in CONV_NAMES]
    for norm in norms:
        one, zero = np.ones(norm.gamma.shape), np.zeros(norm.gamma.shape)
        norm.set_weights([one * np.sqrt(1 + norm.epsilon), zero, zero, one])  # the identity
    load_layers(model, path)
    seen = keras.Model(model.input, [model.get_layer(name).output for name in CONV_NAMES])
    outputs = seen.predict(films, batch_size=16, verbose=0)  # before the ReLU: (n, h, w, filters) each
    for name, norm, output in zip(CONV_NAMES, norms, outputs, strict=True):
        mean, variance = (getattr(output.astype(np.float32), m)(axis=(0, 1, 2)) for m in ("mean", "var"))
        kernel, bias = model.get_layer(name).get_weights()
        scale = np.sqrt(2 / np.square(kernel).sum(axis=(0, 1, 2)))  # (filters,)
        model.get_layer(name).set_weights([kernel * scale, bias * scale])
        norm.set_weights([np.sqrt(scale**2 * variance + norm.epsilon) / scale, mean, mean * scale, variance * scale**2])
