"""A recipe -> trained weights. Of VGG-16 the base is frozen and the top retrained; other networks train as a whole.

The order is the honest one: train on the train part; choose everything (whether the last block was worth tuning,
calibration, threshold, scale of the heat map) on validation, of the *served* model where it is the served model that
answers; then look at the internal test, once.
"""

import platform
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np
from sklearn.metrics import log_loss

from pneumo import networks
from pneumo.batches import Batches, StopWhen, claim, fit, read_columns, waiting_share
from pneumo.dataset import Example, load
from pneumo.recipes import IMAGENET, TrainConfig


@dataclass(frozen=True)
class Trained:
    """What a training run leaves: the weights of the layers that were trained, and how it went, by phase.

    `seconds` are those of all epochs, `waiting` the share of the epochs on films that was spent waiting for them, None
    without such epochs.
    """

    weights: Path
    layers: tuple[str, ...]
    validation_loss: dict[str, float]
    histories: dict[str, dict[str, list[float]]]
    seconds: int
    waiting: float | None = None


def train(train: list[Example], validation: list[Example], folder: Path, config: TrainConfig) -> Trained:
    """Train VGG-16's top on the frozen base, then the last block at a low rate, kept only if validation loss falls.

    Another network is trained as a whole, in one phase. Of each phase the epoch with the lowest validation loss is
    kept. The loss weighs both classes the same, in training and in the choice between the phases.

    Continues what is already in `folder`; the history of a phase lies there as `history-PHASE.csv`.
    """
    claim(folder, config)
    keras.utils.set_random_seed(config.seed)
    target = {name: _targets(part) for name, part in (("train", train), ("validation", validation))}
    watched = Batches(load(validation, config.size, config.steps), target["validation"], config.size, config.batch)
    # what a step makes is not made of a larger film than the one that is served
    films = load(train, config.size if config.steps else config.film_size, config.steps)
    positive = float(target["train"].mean())
    class_weight = {0: 0.5 / (1 - positive), 1: 0.5 / positive}  # both classes weigh the same

    def batches(seed: int) -> Batches:
        acquisition, augmentation = config.acquisition, config.augmentation
        columns = films, target["train"], config.size, config.batch, seed
        return Batches(*columns, acquisition, augmentation=augmentation)

    def top(done: Path) -> None:
        """The head alone, on cached features of the frozen base: some augmented views of each film, then `epochs`."""
        base = _assemble(config, None, head=False)
        print(f"features of the frozen base, {config.views} views of each film", flush=True)
        seen = [_features(base, batches(config.seed + 10_000 + view)) for view in range(config.views)]
        features, answers = (np.concatenate(columns) for columns in zip(*seen, strict=True))
        model = networks.add_head(networks.features_input(base), **config.options)
        _compile(model, config.optimizer, config.rate)
        options = {"batch_size": config.batch, "class_weight": class_weight}
        fit(model, (features, answers), _features(base, watched), config.epochs, folder, "top", best=True, **options)
        networks.save_layers(networks.take_layers(model, networks.TOP_NAMES), done, "float16")

    def tune(start: Path, done: Path) -> None:
        """Last block and head together, at a low rate, from the trained head."""
        model = _assemble(config, start)
        for layer in model.layers:
            layer.trainable = layer.name in both
        _compile(model, config.optimizer, config.tune_rate)
        options = {"class_weight": class_weight}
        fit(model, batches(config.seed), watched, config.tune_epochs, folder, "tune", best=True, **options)
        networks.save_layers(networks.take_layers(model, both), done, "float16")

    def whole(done: Path) -> None:
        """Every layer at once."""
        model = _assemble(config, None)
        _compile(model, config.optimizer, config.rate)
        options = {"class_weight": class_weight, "watchers": _watchers(config)}
        fit(model, batches(config.seed), watched, config.epochs, folder, "whole", best=True, **options)
        networks.save_layers(networks.take_layers(model, _with_weights(model)), done, "float32")

    both = (*networks.LAST_BLOCK, *networks.TOP_NAMES)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        if config.network != "vgg16":
            candidates = {"whole": (folder / "whole.npz", _with_weights(_assemble(config, None)))}
            if not candidates["whole"][0].exists():
                whole(candidates["whole"][0])
        else:
            candidates = {"top": (folder / "top.npz", networks.TOP_NAMES)}
            if not candidates["top"][0].exists():
                top(candidates["top"][0])
            if config.tune_epochs:
                candidates["tune"] = (folder / "tune.npz", both)
                if not candidates["tune"][0].exists():
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
    columns = {name: read_history(folder, name) for name in candidates}
    histories = {name: {key: values.tolist() for key, values in found.items()} for name, found in columns.items()}
    seconds = sum(sum(history.get("seconds", [])) for history in histories.values())
    return Trained(weights, layers, loss, histories, round(seconds), waiting_share(folder, next(reversed(candidates))))


def read_history(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Columns of `history-NAME.csv` in `folder`, a value an epoch."""
    return read_columns(folder / f"history-{name}.csv")


def _targets(examples: list[Example]) -> np.ndarray:
    return np.array([[e.target] for e in examples], np.float32)  # (n, 1)


def _features(base: keras.Model, batches: Batches) -> tuple[np.ndarray, np.ndarray]:
    """What the frozen base makes of every film: (n, h, w, 512) float16, and the targets (n, 1) in the same order."""
    order = batches.order[: len(batches) * batches.batch].copy()
    return base.predict(batches, verbose=0).astype(np.float16), batches.targets[order]


def _compile(model: keras.Model, optimizer: str, rate: float) -> None:
    how = keras.optimizers.get({"class_name": optimizer, "config": {"learning_rate": rate}})
    # XLA halves the speed on a CPU
    model.compile(how, "binary_crossentropy", metrics=["AUC", "accuracy"], jit_compile=False)


def _watchers(config: TrainConfig) -> list[keras.callbacks.Callback]:
    watchers = []
    if config.plateau:
        watchers.append(keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.1, patience=config.plateau))
    if config.enough:
        watchers.append(StopWhen(lambda logs: logs["accuracy"] >= config.enough))
    if config.gap:
        watchers.append(StopWhen(lambda logs: logs["val_loss"] - logs["loss"] > config.gap, times=2))
    return watchers


def _with_weights(model: keras.Model) -> tuple[str, ...]:
    return tuple(layer.name for layer in model.layers if layer.weights)


def _assemble(config: TrainConfig, weights: Path | None, head: bool = True) -> keras.Model:
    """Base with its weights, and unless told otherwise the head, with the weights of `weights` over them."""
    if config.network != "vgg16":
        # all of it is in `weights`, once there are any
        imagenet = {"imagenet": True} if config.base_weights == IMAGENET and not weights else {}
        model = networks.build(config.network, config.size, **config.options, **imagenet)
    else:
        model = networks.build("vgg16", config.size, **config.options) if head else networks.vgg16(config.size)
        if config.base_weights == IMAGENET:
            networks.load_imagenet(model)
        elif config.base_weights:
            networks.load_layers(model, config.base_weights)
    if weights:
        networks.load_layers(model, weights)
    return model


def receipt(config: TrainConfig, trained: Trained, base_name: str, recipe: str | None = None) -> dict:
    """What someone needs to train it again, and where it ran."""
    packages = ("keras", "tensorflow", "numpy", "imgaug", "pillow", "litert-quantizer")
    command = "pneumo train" + (f" --recipe {recipe} --image-size {config.size}" if recipe else "")
    command += f" --base {base_name} --epochs {config.epochs}"
    command += f" --tune-epochs {config.tune_epochs}" if config.network == "vgg16" else ""
    settings = {key: value for key, value in asdict(config).items() if key != "base_weights"}
    return {
        "command": command,
        "config": settings,
        "trained_layers": list(trained.layers),
        "validation_loss": {name: round(value, 5) for name, value in trained.validation_loss.items()},
        "seconds": trained.seconds,
        "waiting": trained.waiting,
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "backend": keras.backend.backend(),
        "machine": f"{platform.machine()} CPU",
    }
