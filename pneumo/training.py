"""Frozen base, retrained top -> the Keras model's weights, the served model, and its card.

The order is the honest one: train on the train part; choose everything (whether the last block was worth tuning,
calibration, threshold, scale of the heat map) on validation, of the *served* model where it is the served model that
answers; then look at the internal test, once.
"""

import csv
import platform
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from pneumo import networks
from pneumo.batches import Batches, claim, fit
from pneumo.dataset import Example, load


@dataclass(frozen=True)
class TrainConfig:
    """The whole recipe of the top; `base_weights` is an .npz of `pneumo pretrain`, or None for Keras' ImageNet."""

    base_weights: Path | None
    size: int = 224
    units: int = 128
    dropout: float = 0.3
    epochs: int = 5
    rate: float = 1e-3
    tune_epochs: int = 2
    tune_rate: float = 2e-5
    batch: int = 32
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    """What a training run leaves: the weights of the layers that were trained, and how it went."""

    weights: Path
    layers: tuple[str, ...]
    validation_loss: dict[str, float]
    seconds: int


def train(train: list[Example], validation: list[Example], folder: Path, config: TrainConfig) -> Trained:
    """Train the top on the frozen base, then the last block at a low rate, kept only if validation loss falls.

    Continues what is already in `folder`; histories lie there as `history-top.csv` and `history-tune.csv`.
    """
    started = time.monotonic()
    claim(folder, config)
    keras.utils.set_random_seed(config.seed)
    target = {name: _targets(part) for name, part in (("train", train), ("validation", validation))}
    watched = Batches(load(validation, config.size), target["validation"], config.size, config.batch)
    films = load(train, config.size)
    positive = float(target["train"].mean())
    class_weight = {0: 0.5 / (1 - positive), 1: 0.5 / positive}  # both classes weigh the same

    def phase(name: str, start: Path | None, trainable: tuple[str, ...], epochs: int, rate: float, seed: int) -> Path:
        """One fit of the `trainable` layers in mixed_bfloat16, from the weights in `start`; returns its weights."""
        done = folder / f"{name}.npz"
        if done.exists():
            return done
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
        try:
            model = _assemble(config, start)
            for layer in model.layers:
                layer.trainable = layer.name in trainable
            # XLA halves the speed on a CPU
            model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["AUC"], jit_compile=False)
            batches = Batches(films, target["train"], config.size, config.batch, seed)
            fit(model, batches, watched, epochs, folder, name, class_weight=class_weight)
            networks.save_layers(networks.take_layers(model, trainable), done, "float16")
            return done
        finally:
            keras.mixed_precision.set_global_policy("float32")

    top = phase("top", None, networks.TOP_NAMES, config.epochs, config.rate, config.seed + 10_000)
    candidates = {"top": (top, networks.TOP_NAMES)}
    if config.tune_epochs:
        both = (*networks.LAST_BLOCK, *networks.TOP_NAMES)
        tuned = phase("tune", top, both, config.tune_epochs, config.tune_rate, config.seed + 20_000)
        candidates["tune"] = (tuned, both)
    loss = {}
    for name, (weights, _) in candidates.items():
        model = _assemble(config, weights)
        model.compile(loss="binary_crossentropy", jit_compile=False)
        loss[name] = float(model.evaluate(watched, verbose=0))
    best = min(loss, key=loss.get)
    weights, layers = candidates[best]
    return Trained(weights, layers, loss, round(time.monotonic() - started))


def read_history(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Columns of `history-NAME.csv` in `folder`, a value an epoch."""
    with (folder / f"history-{name}.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]}


def _targets(examples: list[Example]) -> np.ndarray:
    return np.array([[e.target] for e in examples], np.float32)  # (n, 1)


def _assemble(config: TrainConfig, weights: Path | None) -> keras.Model:
    """Base plus head, with the base's weights and then those in `weights` over them."""
    model = networks.add_head(networks.vgg16(config.size), config.units, config.dropout)
    if config.base_weights:
        networks.load_layers(model, config.base_weights)
    else:
        networks.load_imagenet(model)
    if weights:
        networks.load_layers(model, weights)
    return model


def receipt(config: TrainConfig, trained: Trained, base_name: str) -> dict:
    """What someone needs to train it again, and where it ran."""
    packages = ("keras", "tensorflow", "numpy", "imgaug", "pillow", "litert-quantizer")
    command = f"pneumo train --base {base_name} --epochs {config.epochs} --tune-epochs {config.tune_epochs}"
    settings = {key: value for key, value in asdict(config).items() if key != "base_weights"}
    return {
        "command": command,
        "config": settings,
        "trained_layers": list(trained.layers),
        "validation_loss": {name: round(value, 5) for name, value in trained.validation_loss.items()},
        "seconds": trained.seconds,
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "backend": keras.backend.backend(),
        "machine": f"{platform.machine()} CPU",
    }
