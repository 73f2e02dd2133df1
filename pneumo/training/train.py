"""A recipe -> trained weights. VGG-16 keeps its base and retrains the top; other networks train as a whole.

Weights are learned from the train part. What is chosen (the epoch, and whether tuning the last block was worth it) is
chosen on validation. The internal test is not looked at here.
"""

import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import keras
import numpy as np

from pneumo.data.dataset import Example, load
from pneumo.data.sources import weigh_films
from pneumo.training import networks, objective
from pneumo.training.batches import Batches, Views
from pneumo.training.features import compute_features, load_base
from pneumo.training.fitting import XLA, StopWhen, claim, finished, fit, quickest_precision, read_columns
from pneumo.training.positions import Drawn, HeldOut, list_cells, name_population, position_loss
from pneumo.training.recipes import IMAGENET, SHIPPED, TrainConfig
from pneumo.training.views import make_views

WARM, DECAY = 0.06, 0.02  # share of the steps in which the rate rises; AdamW's weight decay


@dataclass(frozen=True)
class Trained:
    """What a training run leaves: where the trained weights are, the layers that they are of, and how it went.

    `validation_loss` and `histories` (columns of an epoch each) are by phase, or by seed where several are trained, and
    so is `reached`: what was measured on validation in the epoch that was kept. `seconds` is the time of all epochs,
    `precision` the dtype policy.
    """

    weights: Path
    layers: tuple[str, ...]
    validation_loss: dict[str, float]
    histories: dict[str, dict[str, list[float]]]
    seconds: int
    precision: str = "float32"
    reached: dict[str, dict[str, float]] = field(default_factory=dict)


def train(train: list[Example], validation: list[Example], folder: Path, config: TrainConfig) -> Trained:
    """Train the network of `config` in `folder`, or resume the run that is there.

    VGG-16's top is trained on the frozen base, then the last blocks at a low rate, which are kept only if that lowers
    the validation loss. Another network is trained as a whole. The loss is that of calibrated logits; the epoch of each
    phase of VGG-16 is chosen by it, that of another network by its plain validation loss.

    The history of a phase is in `history-PHASE.csv`. The features of the frozen blocks are cached in `features` beside
    `folder`, for other runs on the same films.

    Raises:
        RunError: `folder` holds another run.
    """
    claim(folder, config, config.base_weights, [*train, *validation])
    keras.utils.set_random_seed(config.seed)
    if config.positions:
        return _train_positions(train, validation, folder, config)
    phases = _train_top if config.network == "vgg16" else _train_whole
    with quickest_precision() as precision:
        candidates = phases(train, validation, folder, config)
    target, films = np.array([e.target for e in validation]), load(validation, config.size, config.steps)
    loss = {
        name: objective.calibrated_loss(target, compute_logits(config, weights, films, folder))
        for name, (weights, _) in candidates.items()
    }
    weights, layers = candidates[min(loss, key=loss.get)]
    histories, seconds = _read_histories(folder, candidates)
    return Trained(weights, layers, loss, histories, seconds, precision)


def _train_top(
    train: list[Example], validation: list[Example], folder: Path, config: TrainConfig
) -> dict[str, tuple[Path, tuple[str, ...]]]:
    """Train VGG-16 on cached features of its frozen blocks: name of the phase -> its weights, and their layers."""
    tuned = networks.trained_convolutions(config.frozen)
    phases = {"top": (folder / "top.npz", networks.TOP_NAMES)}
    if config.tune_epochs:
        phases["tune"] = (folder / "tune.npz", (*tuned, *networks.TOP_NAMES))
    if all(weights.exists() for weights, _ in phases.values()):
        return phases

    films = _load_for_augmentation(train, config)
    print(f"features of the frozen blocks, {config.views} views of each film", flush=True)
    views = [compute_features(config, films, folder, view) for view in range(config.views)]
    watched = compute_features(config, load(validation, config.size, config.steps), folder)
    target, class_weight = np.array([e.target for e in train]), _weigh_classes(train)
    weights = np.array([class_weight[number] for number in target])
    watched_target = np.array([e.target for e in validation])

    def run(name: str, epochs: int, rate: float, weights_before: Path | None = None) -> None:
        path, trainable = phases[name]
        keras.utils.set_random_seed(config.seed)  # a resumed run has drawn fewer numbers by now
        model = _build_tail(config, weights_before)
        for layer in model.layers:
            layer.trainable = layer.name in trainable
        batches = Views(views, target[:, None], config.batch, config.seed, weights)
        unseen = Views([watched], watched_target[:, None], config.batch)
        logit = keras.Model(model.input, model.get_layer(networks.LOGIT_NAME).output)
        loss, auc = keras.losses.BinaryCrossentropy(from_logits=True), keras.metrics.AUC(from_logits=True, name="AUC")
        right = keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)
        logit.compile(_make_optimizer(config, rate), loss, metrics=[auc, right], jit_compile=XLA)
        watcher = objective.CalibratedLoss(unseen, watched_target)
        fit(logit, batches, unseen, epochs, folder, name, best=watcher.name, watchers=[watcher])
        networks.save_layers(networks.take_layers(model, trainable), path, "float16")
        finished(folder, name)

    if not phases["top"][0].exists():
        run("top", config.epochs, config.rate)
    if config.tune_epochs and not phases["tune"][0].exists():
        run("tune", config.tune_epochs, config.tune_rate, phases["top"][0])
    return phases


def _train_positions(train: list[Example], validation: list[Example], folder: Path, config: TrainConfig) -> Trained:
    """Train VGG-16's layers behind the frozen ones, and the head, on weighted films and radiologists' boxes.

    That is done once for each of `config.seeds` seeds, from `config.seed` on. The epoch and the seed are chosen by the
    calibrated loss on validation, the mean of the populations'.
    """
    layers = (*networks.trained_convolutions(config.frozen), *networks.TOP_NAMES)
    seeds = {f"seed-{seed}": seed for seed in range(config.seed, config.seed + config.seeds)}
    paths = {name: folder / f"{name}.npz" for name in seeds}
    with quickest_precision() as precision:
        if not all(path.exists() for path in paths.values()):
            weights, sharpness = weigh_films(train), [config.sharpness[name_population(e)] for e in train]
            views = make_views(train, config, folder, np.maximum(1, np.rint(config.views * weights)).astype(int))
            held_out = make_views(validation, config, folder)
        for name in (name for name, path in paths.items() if not path.exists()):
            print(f"training with {name}", flush=True)
            drawn = Drawn(
                views, train, weights, sharpness, list_cells(train), config.batch, config.epoch_steps, seeds[name]
            )
            watcher = HeldOut(held_out, validation, config.sharpness, config.batch)
            keras.utils.set_random_seed(seeds[name])  # whatever was drawn before
            model = _build_tail(config)
            learner = networks.pooled_by_sharpness(model)
            learner.compile(
                _make_schedule(config),
                {
                    networks.LOGIT_NAME: keras.losses.BinaryCrossentropy(from_logits=True),
                    networks.MAP_NAME: position_loss,
                },
                loss_weights={networks.LOGIT_NAME: 1.0, networks.MAP_NAME: config.positions},
                jit_compile=XLA,
            )
            fit(learner, drawn, None, config.epochs, folder, name, best=HeldOut.name, watchers=[watcher])
            networks.save_layers(networks.take_layers(model, layers), paths[name], "float16")
            finished(folder, name)
    histories, seconds = _read_histories(folder, seeds)
    best = {name: int(np.argmin(history[HeldOut.name])) for name, history in histories.items()}
    reached = {
        name: {key: values[best[name]] for key, values in history.items() if key.startswith("val_")}
        for name, history in histories.items()
    }
    loss = {name: found[HeldOut.name] for name, found in reached.items()}
    return Trained(paths[min(loss, key=loss.get)], layers, loss, histories, seconds, precision, reached)


def _make_schedule(config: TrainConfig) -> keras.optimizers.Optimizer:
    """AdamW whose rate rises in WARM of the training and then falls to 0 by a cosine (Loshchilov, arXiv 1608.03983)."""
    steps = config.epochs * config.epoch_steps
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - round(WARM * steps), warmup_target=config.rate, warmup_steps=round(WARM * steps)
    )
    return keras.optimizers.AdamW(rate, weight_decay=DECAY, beta_2=0.99, global_clipnorm=1.0)


def _train_whole(
    train: list[Example], validation: list[Example], folder: Path, config: TrainConfig
) -> dict[str, tuple[Path, tuple[str, ...]]]:
    """Train every layer at once, on batches that are augmented anew each epoch; answers as `_train_top` does."""
    model = _build_whole(config)
    done, layers = folder / "whole.npz", tuple(layer.name for layer in model.layers if layer.weights)
    if not done.exists():
        batches = Batches(
            _load_for_augmentation(train, config),
            _list_targets(train),
            config.size,
            config.batch,
            config.seed,
            config.acquisition,
            augmentation=config.augmentation,
        )
        watched = load(validation, config.size, config.steps)
        optimizer, metrics = _make_optimizer(config, config.rate), ["AUC", "accuracy"]
        model.compile(optimizer, "binary_crossentropy", metrics=metrics, jit_compile=XLA)
        fit(
            model,
            batches,
            Batches(watched, _list_targets(validation), config.size, config.batch),
            config.epochs,
            folder,
            "whole",
            best="val_loss",
            watchers=_make_watchers(config),
            class_weight=_weigh_classes(train),
        )
        networks.save_layers(networks.take_layers(model, layers), done, "float32")
        finished(folder, "whole")
    return {"whole": (done, layers)}


def compute_logits(config: TrainConfig, weights: Path, films: np.ndarray, folder: Path) -> np.ndarray:
    """Compute the logits of prepared films with the trained float32 network: (n, size, size) uint8 -> (n,) float32."""
    if config.network == "vgg16":
        model, features = _build_tail(config, weights), compute_features(config, films, folder)
        batches = Views([features], np.zeros((len(films), 1)), config.batch)
    else:
        model, batches = (
            _build_whole(config, weights),
            Batches(films, np.zeros((len(films), 1)), config.size, config.batch),
        )
    return keras.Model(model.input, model.get_layer(networks.LOGIT_NAME).output).predict(batches, verbose=0)[:, 0]


def _load_for_augmentation(train: list[Example], config: TrainConfig) -> np.ndarray:
    """Load films for augmentation: (n, H, W) uint8. Preprocessing steps see films of the size that is served."""
    return load(train, config.size if config.steps else config.film_size, config.steps)


def _read_histories(folder: Path, names: Iterable[str]) -> tuple[dict[str, dict[str, list[float]]], int]:
    """Read `history-NAME.csv` of these phases or seeds, a value an epoch, and how many seconds all epochs took."""
    columns = {name: read_columns(folder / f"history-{name}.csv") for name in names}
    histories = {name: {key: values.tolist() for key, values in found.items()} for name, found in columns.items()}
    return histories, round(sum(sum(history["seconds"]) for history in histories.values()))


def _list_targets(examples: list[Example]) -> np.ndarray:
    return np.array([[e.target] for e in examples], np.float32)  # (n, 1)


def _weigh_classes(train: list[Example]) -> dict[int, float]:
    """Weigh the classes so that both count the same."""
    positive = float(np.mean([e.target for e in train]))
    return {0: 0.5 / (1 - positive), 1: 0.5 / positive}


def _make_optimizer(config: TrainConfig, rate: float) -> keras.optimizers.Optimizer:
    return keras.optimizers.get({"class_name": config.optimizer, "config": {"learning_rate": rate}})


def _make_watchers(config: TrainConfig) -> list[keras.callbacks.Callback]:
    watchers = []
    if config.plateau:
        watchers.append(keras.callbacks.ReduceLROnPlateau("val_loss", factor=0.1, patience=config.plateau))
    if config.enough:
        watchers.append(StopWhen(lambda logs: logs["accuracy"] >= config.enough))
    if config.gap:
        watchers.append(StopWhen(lambda logs: logs["val_loss"] - logs["loss"] > config.gap, times=2))
    return watchers


def _build_whole(config: TrainConfig, weights: Path | None = None) -> keras.Model:
    """Build a network other than VGG-16, with `weights` once there are any."""
    imagenet = {"imagenet": True} if config.base_weights == IMAGENET and not weights else {}
    model = networks.build(config.network, config.size, **config.options, **imagenet)
    if weights:
        networks.load_layers(model, weights)
    return model


def _build_tail(config: TrainConfig, weights: Path | None = None) -> keras.Model:
    """Build VGG-16's last blocks and the head: the base's weights, replaced by those of `weights` where it has any."""
    model = networks.tail(config.size, config.frozen, **config.options)
    load_base(model, config)
    if weights:
        networks.load_layers(model, weights)
    return model


def make_receipt(config: TrainConfig, trained: Trained, base_name: str, recipe: str | None = None) -> dict:
    """Say how to train it again, with what, and where it ran; ready for JSON."""
    packages = ("keras", "tensorflow", "numpy", "imgaug", "pillow", "litert-quantizer")
    command = "pneumo train" + (f" --recipe {recipe}" if recipe else "")
    command += f" --image-size {config.size}" if recipe or config.size != SHIPPED.size else ""
    command += f" --base {base_name} --epochs {config.epochs}"
    command += f" --tune-epochs {config.tune_epochs}" if config.network == "vgg16" else ""
    command += f" --seed {config.seed}" if config.seed != SHIPPED.seed else ""
    command += f" --seeds {config.seeds}" if config.positions and config.seeds != SHIPPED.seeds else ""
    settings = {key: value for key, value in asdict(config).items() if key != "base_weights"}
    return {
        "command": command,
        "config": settings,
        "trained_layers": list(trained.layers),
        "validation_loss": {name: round(value, 5) for name, value in trained.validation_loss.items()},
        "reached": trained.reached,
        "seconds": trained.seconds,
        "precision": trained.precision,
        "versions": {name: version(name) for name in packages} | {"python": platform.python_version()},
        "backend": keras.backend.backend(),
        "machine": f"{platform.machine()} CPU",
    }
