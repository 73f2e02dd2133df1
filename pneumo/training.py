"""Frozen base, retrained top -> the Keras model's weights, the served model, and its card.

The order is the honest one: train on the train part; choose everything (whether the last block was worth tuning,
calibration, threshold, scale of the heat map) on validation, of the *served* model where it is the served model that
answers; then look at the internal test, once.
"""

import platform
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
from sklearn.metrics import log_loss

from pneumo import networks
from pneumo.batches import Batches, claim, fit, read_columns
from pneumo.dataset import Example, load


@dataclass(frozen=True)
class TrainConfig:
    """The whole recipe of the top; `base_weights` is an .npz of `pneumo pretrain`, or None for Keras' ImageNet."""

    base_weights: Path | None
    size: int = 112
    film_size: int = 224  # of the films when they are augmented, as in pretraining
    units: int = 128
    dropout: float = 0.3
    views: int = 2
    epochs: int = 5
    rate: float = 3e-4
    acquisition: float = 0.5
    tune_epochs: int = 3
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

    Of each phase the epoch with the lowest validation loss is kept. The loss weighs both classes the same, in training
    and in the choice between the phases.

    Continues what is already in `folder`; histories lie there as `history-top.csv` and `history-tune.csv`.
    """
    started = time.monotonic()
    claim(folder, config)
    keras.utils.set_random_seed(config.seed)
    target = {name: _targets(part) for name, part in (("train", train), ("validation", validation))}
    watched = Batches(load(validation, config.size), target["validation"], config.size, config.batch)
    films = load(train, config.film_size)
    positive = float(target["train"].mean())
    class_weight = {0: 0.5 / (1 - positive), 1: 0.5 / positive}  # both classes weigh the same

    def batches(seed: int) -> Batches:
        return Batches(films, target["train"], config.size, config.batch, seed, config.acquisition)

    def top(done: Path) -> None:
        """The head alone, on cached features of the frozen base: some augmented views of each film, then `epochs`."""
        base = _assemble(config, None, head=False)
        print(f"features of the frozen base, {config.views} views of each film", flush=True)
        seen = [_features(base, batches(config.seed + 10_000 + view)) for view in range(config.views)]
        features, answers = (np.concatenate(columns) for columns in zip(*seen, strict=True))
        model = networks.add_head(networks.features_input(base), config.units, config.dropout)
        _compile(model, config.rate)
        options = {"batch_size": config.batch, "class_weight": class_weight}
        fit(model, (features, answers), _features(base, watched), config.epochs, folder, "top", best=True, **options)
        networks.save_layers(networks.take_layers(model, networks.TOP_NAMES), done, "float16")

    def tune(start: Path, done: Path) -> None:
        """Last block and head together, at a low rate, from the trained head."""
        model = _assemble(config, start)
        for layer in model.layers:
            layer.trainable = layer.name in both
        _compile(model, config.tune_rate)
        options = {"class_weight": class_weight}
        fit(model, batches(config.seed), watched, config.tune_epochs, folder, "tune", best=True, **options)
        networks.save_layers(networks.take_layers(model, both), done, "float16")

    both = (*networks.LAST_BLOCK, *networks.TOP_NAMES)
    candidates = {"top": (folder / "top.npz", networks.TOP_NAMES)}
    if config.tune_epochs:
        candidates["tune"] = (folder / "tune.npz", both)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        if not candidates["top"][0].exists():
            top(candidates["top"][0])
        if config.tune_epochs and not candidates["tune"][0].exists():
            tune(candidates["top"][0], candidates["tune"][0])
    finally:
        keras.mixed_precision.set_global_policy("float32")
    loss = {}
    for name, (weights, _) in candidates.items():
        probability = _assemble(config, weights).predict(watched, verbose=0)[:, 0].astype(float)
        answers = target["validation"][:, 0]
        loss[name] = log_loss(answers, probability, sample_weight=[class_weight[int(a)] for a in answers])
    best = min(loss, key=loss.get)
    weights, layers = candidates[best]
    return Trained(weights, layers, loss, round(time.monotonic() - started))


def read_history(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Columns of `history-NAME.csv` in `folder`, a value an epoch."""
    return read_columns(folder / f"history-{name}.csv")


def _targets(examples: list[Example]) -> np.ndarray:
    return np.array([[e.target] for e in examples], np.float32)  # (n, 1)


def _features(base: keras.Model, batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    """What the frozen base makes of every film: (n, h, w, 512) float16, and the targets (n, 1) in the same order."""
    order = batches.order[: len(batches) * batches.batch].copy()
    return base.predict(batches, verbose=0).astype(np.float16), batches.targets[order]


def _compile(model: keras.Model, rate: float) -> None:
    # XLA halves the speed on a CPU
    model.compile(keras.optimizers.Adam(rate), "binary_crossentropy", metrics=["AUC"], jit_compile=False)


def _assemble(config: TrainConfig, weights: Path | None, head: bool = True) -> keras.Model:
    """Base with its weights, and unless told otherwise the head, with the weights of `weights` over them."""
    model = networks.vgg16(config.size)
    if head:
        model = networks.add_head(model, config.units, config.dropout)
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
