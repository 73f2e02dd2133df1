"""A recipe -> trained weights. Of VGG-16 the base is frozen and the top retrained; other networks train as a whole.

The order is the honest one: train on the train part; choose everything (whether the last block was worth tuning,
calibration, threshold, scale of the heat map) on validation, of the *served* model where it is the served model that
answers; then look at the internal test, once.
"""

import hashlib
import inspect
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from pneumo.data import acquisition as nuisance
from pneumo.data import augment
from pneumo.data.dataset import Example, content_hashes, load
from pneumo.evaluation import matching
from pneumo.evaluation.matching import score_films, weigh
from pneumo.films.film import to_input
from pneumo.model.card import sha256
from pneumo.training import networks, objective
from pneumo.training.batches import (
    XLA,
    Batches,
    StopWhen,
    Views,
    claim,
    finished,
    fit,
    quickest_precision,
    read_columns,
    waiting_share,
)
from pneumo.training.recipes import IMAGENET, SHIPPED, TrainConfig

VIEW_SEED = 10_000  # the views are the same whatever the run's seed: they are the dear part


@dataclass(frozen=True)
class Trained:
    """What a training run leaves: the weights of the layers that were trained, and how it went, by phase.

    `seconds` are those of all epochs, `waiting` the share of the epochs on films that was spent waiting for them, None
    without such epochs. `precision` is the dtype policy.
    """

    weights: Path
    layers: tuple[str, ...]
    validation_loss: dict[str, float]
    histories: dict[str, dict[str, list[float]]]
    seconds: int
    waiting: float | None = None
    precision: str = "float32"


def train(train: list[Example], validation: list[Example], folder: Path, config: TrainConfig) -> Trained:
    """Train VGG-16's top on the frozen base, then the last block at a low rate, kept only if validation loss falls.

    That is the loss of calibrated logits, of which the epoch of each phase is chosen, too. Another network is trained
    as a whole, in one phase, of which the epoch with the lowest validation loss is kept.

    Continues what is already in `folder`; the history of a phase lies there as `history-PHASE.csv`. What the frozen
    blocks make of the films lies in `features` beside `folder`, for whoever trains on the same films with them.
    """
    claim(folder, config, config.base_weights, [*train, *validation])
    keras.utils.set_random_seed(config.seed)
    phases = _tail if config.network == "vgg16" else _whole
    with quickest_precision() as precision:
        candidates = phases(train, validation, folder, config)
    target, films = np.array([e.target for e in validation]), load(validation, config.size, config.steps)
    loss = {
        name: objective.calibrated_loss(target, logits(config, weights, films, folder))
        for name, (weights, _) in candidates.items()
    }
    best = min(loss, key=loss.get)
    weights, layers = candidates[best]
    columns = {name: read_history(folder, name) for name in candidates}
    histories = {name: {key: values.tolist() for key, values in found.items()} for name, found in columns.items()}
    seconds = sum(sum(history.get("seconds", [])) for history in histories.values())
    waiting = waiting_share(folder, *candidates)
    return Trained(weights, layers, loss, histories, round(seconds), waiting, precision)


def _tail(train: list[Example], validation: list[Example], folder: Path, config: TrainConfig) -> dict[str, tuple]:
    """VGG-16 on cached features of its frozen blocks: name of the phase -> its weights, and the layers they are of."""
    tuned = networks.last_blocks(config.tuned_blocks)
    phases = {"top": (folder / "top.npz", networks.TOP_NAMES)}
    if config.tune_epochs:
        phases["tune"] = (folder / "tune.npz", (*tuned, *networks.TOP_NAMES))
    if all(weights.exists() for weights, _ in phases.values()):
        return phases

    films = _to_augment(train, config)
    print(f"features of the frozen blocks, {config.views} views of each film", flush=True)
    views = [frozen(config, films, folder, view) for view in range(config.views)]
    watched = frozen(config, load(validation, config.size, config.steps), folder)
    target, class_weight = np.array([e.target for e in train]), _class_weight(train)
    debiased = config.matched or config.experts or config.independent or config.worst
    score = _nuisance(train, folder) if debiased else np.zeros(len(target))
    weights = np.array([class_weight[number] for number in target]) if config.balanced else np.ones(len(target))
    if config.matched:
        weights = weights * weigh(target, score, config.matched)

    def run(
        name: str, trainable: tuple[str, ...], epochs: int, rate: float, weights_before: Path | None = None
    ) -> None:
        keras.utils.set_random_seed(config.seed)  # whatever was made before: a killed run makes less of it
        model = _behind(config, weights_before)
        for layer in model.layers:
            layer.trainable = layer.name in trainable
        batches = Views(views, objective.answers(target, score), config.batch, config.seed, weights, config.mixup)
        watched_target = np.array([e.target for e in validation])
        optimizer = _optimizer(config, rate, epochs * len(batches))
        logit = keras.Model(model.input, model.get_layer(networks.LOGIT_NAME).output)
        metrics = [objective.Auc(), objective.accuracy]
        logit.compile(optimizer, objective.loss(config), metrics=metrics, jit_compile=XLA)
        unseen = Views([watched], objective.answers(watched_target), config.batch)
        watchers = [objective.CalibratedLoss(unseen, watched_target)]
        watchers += [objective.WorstGroups(batches, config.worst)] if config.worst else []
        best = objective.CalibratedLoss.name
        fit(logit, batches, unseen, epochs, folder, name, best=best, watchers=watchers)
        networks.save_layers(networks.take_layers(model, trainable), phases[name][0], "float16")
        finished(folder, name)

    if not phases["top"][0].exists():
        run("top", networks.TOP_NAMES, config.epochs, config.rate)
    if config.tune_epochs and not phases["tune"][0].exists():
        run("tune", phases["tune"][1], config.tune_epochs, config.tune_rate, phases["top"][0])
    return phases


def _whole(train: list[Example], validation: list[Example], folder: Path, config: TrainConfig) -> dict[str, tuple]:
    """Every layer at once, on batches that are augmented anew each epoch; the same answer as `_tail`."""
    model = _assemble(config)
    done, layers = folder / "whole.npz", tuple(layer.name for layer in model.layers if layer.weights)
    if not done.exists():
        batches = Batches(
            _to_augment(train, config),
            _targets(train),
            config.size,
            config.batch,
            config.seed,
            config.acquisition,
            augmentation=config.augmentation,
        )
        watched = load(validation, config.size, config.steps)
        optimizer, metrics = _optimizer(config, config.rate), ["AUC", "accuracy"]
        model.compile(optimizer, "binary_crossentropy", metrics=metrics, jit_compile=XLA)
        fit(
            model,
            batches,
            Batches(watched, _targets(validation), config.size, config.batch),
            config.epochs,
            folder,
            "whole",
            best="val_loss",
            watchers=_watchers(config),
            class_weight=_class_weight(train),
        )
        networks.save_layers(networks.take_layers(model, layers), done, "float32")
        finished(folder, "whole")
    return {"whole": (done, layers)}


def frozen(config: TrainConfig, films: np.ndarray, folder: Path, view: int | None = None) -> np.ndarray:
    """What VGG-16's frozen blocks make of films (n, H, W) uint8: (n, h, w, filters) float16, kept beside `folder`.

    Of the films augmented as number `view` says, else as they are.
    """
    base = config.base_weights if config.base_weights == IMAGENET else sha256(config.base_weights)
    key = hashlib.sha256(films)
    key.update(repr((base, films.shape, config.size, config.tuned_blocks)).encode())
    if view is not None:
        key.update(repr((config.augmentation, config.acquisition, view, config.batch)).encode())
        key.update((inspect.getsource(augment) + inspect.getsource(nuisance)).encode())  # the one calls the other

    def features() -> np.ndarray:
        seed = None if view is None else VIEW_SEED + view
        columns = films, np.zeros(len(films)), config.size, config.batch, seed, config.acquisition
        with quickest_precision():
            model = networks.front(config.size, config.tuned_blocks)
            _load_base(model, config)
            found = model.predict(Batches(*columns, augmentation=config.augmentation, whole=True), verbose=0)
        return found.astype(np.float16)

    return _kept(folder, key.hexdigest(), features)


def _nuisance(train: list[Example], folder: Path) -> np.ndarray:
    """Nuisance score of the films, (n,), kept beside `folder`."""
    key = hashlib.sha256("".join(content_hashes(train)).encode())
    key.update((inspect.getsource(nuisance) + inspect.getsource(matching)).encode())
    return _kept(folder, key.hexdigest(), lambda: score_films(train))


def _kept(folder: Path, key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """What was made under that key, memory-mapped; made now if it was not."""
    path = folder.parent / "features" / f"{key[:16]}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished.npy")
        np.save(unfinished, make())
        unfinished.replace(path)
    return np.load(path, mmap_mode="r")


def logits(config: TrainConfig, weights: Path, films: np.ndarray, folder: Path) -> np.ndarray:
    """Logits of prepared films (n, size, size) uint8 by the trained float32 network: (n,) float32."""
    if config.network == "vgg16":
        model, batches = _behind(config, weights), Views([frozen(config, films, folder)], _none(films), config.batch)
    else:
        model, batches = _assemble(config, weights), Batches(films, _none(films), config.size, config.batch)
    return keras.Model(model.input, model.get_layer(networks.LOGIT_NAME).output).predict(batches, verbose=0)[:, 0]


def logit_map(config: TrainConfig, weights: Path) -> Callable[[np.ndarray], np.ndarray]:
    """The trained float32 VGG-16 as a function of one film: (size, size) uint8 -> (h, w) float32 logits."""
    model = networks.build(config.network, config.size, **config.options)
    _load_base(model, config)
    networks.load_layers(model, weights)
    mapped = networks.map_model(model)
    return lambda film: mapped.predict_on_batch(to_input(film, config.size))[0, ..., 0]


def _to_augment(train: list[Example], config: TrainConfig) -> np.ndarray:
    """Prepared films (n, H, W) uint8; what a step makes is not made of a larger film than the one that is served."""
    return load(train, config.size if config.steps else config.film_size, config.steps)


def _none(films: np.ndarray) -> np.ndarray:
    return np.zeros((len(films), 1))


def read_history(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Columns of `history-NAME.csv` in `folder`, a value an epoch."""
    return read_columns(folder / f"history-{name}.csv")


def _targets(examples: list[Example]) -> np.ndarray:
    return np.array([[e.target] for e in examples], np.float32)  # (n, 1)


def _class_weight(train: list[Example]) -> dict[int, float]:
    """Under which both classes weigh the same."""
    positive = float(np.mean([e.target for e in train]))
    return {0: 0.5 / (1 - positive), 1: 0.5 / positive}


def _optimizer(config: TrainConfig, rate: float, steps: int = 0) -> keras.optimizers.Optimizer:
    options = {"learning_rate": rate}
    if config.averaged:
        options |= {"use_ema": True, "ema_momentum": 1 - 1 / max(2.0, config.averaged * steps)}
    return keras.optimizers.get({"class_name": config.optimizer, "config": options})


def _watchers(config: TrainConfig) -> list[keras.callbacks.Callback]:
    watchers = []
    if config.plateau:
        watchers.append(keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.1, patience=config.plateau))
    if config.enough:
        watchers.append(StopWhen(lambda logs: logs["accuracy"] >= config.enough))
    if config.gap:
        watchers.append(StopWhen(lambda logs: logs["val_loss"] - logs["loss"] > config.gap, times=2))
    return watchers


def _assemble(config: TrainConfig, weights: Path | None = None) -> keras.Model:
    """A network other than VGG-16, with `weights` once there are any."""
    imagenet = {"imagenet": True} if config.base_weights == IMAGENET and not weights else {}
    model = networks.build(config.network, config.size, **config.options, **imagenet)
    if weights:
        networks.load_layers(model, weights)
    return model


def _behind(config: TrainConfig, weights: Path | None = None) -> keras.Model:
    """VGG-16's last blocks with the base's weights, and the head, with those of `weights` over them."""
    model = networks.tail(config.size, config.tuned_blocks, **config.options)
    _load_base(model, config)
    if weights:
        networks.load_layers(model, weights)
    return model


def _load_base(model: keras.Model, config: TrainConfig) -> None:
    """Give every layer of `model` that the base has the base's weights."""
    if config.base_weights == IMAGENET:
        networks.load_imagenet(model)
    else:
        networks.load_layers(model, config.base_weights, [layer.name for layer in model.layers])


def receipt(config: TrainConfig, trained: Trained, base_name: str, recipe: str | None = None) -> dict:
    """What someone needs to train it again, and where it ran."""
    packages = ("keras", "tensorflow", "numpy", "imgaug", "pillow", "litert-quantizer")
    command = "pneumo train" + (f" --recipe {recipe}" if recipe else "")
    command += f" --image-size {config.size}" if recipe or config.size != SHIPPED.size else ""
    command += f" --base {base_name} --epochs {config.epochs}"
    command += f" --tune-epochs {config.tune_epochs}" if config.network == "vgg16" else ""
    command += f" --seed {config.seed}" if config.seed != SHIPPED.seed else ""
    settings = {key: value for key, value in asdict(config).items() if key != "base_weights"}
    return {
        "command": command,
        "config": settings,
        "trained_layers": list(trained.layers),
        "validation_loss": {name: round(value, 5) for name, value in trained.validation_loss.items()},
        "seconds": trained.seconds,
        "waiting": trained.waiting,
        "precision": trained.precision,
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "backend": keras.backend.backend(),
        "machine": f"{platform.machine()} CPU",
    }
