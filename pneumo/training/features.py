"""The features of VGG-16's frozen blocks: computed once, and cached beside a run's folder."""

import hashlib
import inspect
from pathlib import Path

import keras
import numpy as np

from pneumo.data import augment, changes
from pneumo.errors import PneumoError
from pneumo.files import write_whole
from pneumo.model.card import sha256
from pneumo.training import networks
from pneumo.training.batches import Batches
from pneumo.training.fitting import quickest_precision
from pneumo.training.recipes import IMAGENET, TrainConfig

VIEW_SEED = 10_000  # of the augmented views, whatever the run's seed: they take the longest


def compute_features(config: TrainConfig, films: np.ndarray, folder: Path, view: int | None = None) -> np.ndarray:
    """Compute the features of VGG-16's frozen blocks, cached beside `folder`: (n, H, W) uint8 -> (n, h, w, filters).

    The films are augmented with the seed of `view`, or not at all without one. Features are float16, memory-mapped.
    """
    base = config.base_weights if config.base_weights == IMAGENET else sha256(config.base_weights)
    key = hashlib.sha256(films)
    key.update(repr((base, films.shape, config.size, config.frozen)).encode())
    if view is not None:
        key.update(repr((config.augmentation, config.acquisition, view, config.batch)).encode())
        key.update((inspect.getsource(augment) + inspect.getsource(changes)).encode())  # the one calls the other

    path = folder.parent / "features" / f"{key.hexdigest()[:16]}.npy"
    if not path.exists():
        seed = None if view is None else VIEW_SEED + view
        columns = films, np.zeros(len(films)), config.size, config.batch, seed, config.acquisition
        with quickest_precision():
            model = networks.front(config.size, config.frozen)
            load_base(model, config)
            found = model.predict(Batches(*columns, augmentation=config.augmentation, whole=True), verbose=0)
        with write_whole(path) as stream:
            np.save(stream, found.astype(np.float16))
    return np.load(path, mmap_mode="r")


def load_base(model: keras.Model, config: TrainConfig) -> None:
    """Give the convolutions of `model` the base's weights.

    Raises:
        PneumoError: the base lacks some. A published base has the frozen ones alone.
    """
    names = [layer.name for layer in model.layers if layer.name in networks.CONV_NAMES]
    if config.base_weights == IMAGENET:
        networks.load_imagenet(model)
    else:
        missing = set(names) - networks.list_layers(config.base_weights)
        if missing:
            raise PneumoError(
                f"Expected weights of VGG-16's convolutions in {config.base_weights.name}, received none of "
                f"{', '.join(sorted(missing))}."
            )
        networks.load_layers(model, config.base_weights, names)
