"""The `chest-xray` base: VGG-16 with batch normalisation, trained from scratch and folded to plain VGG-16.

It learns to tell normal, bacterial and viral films of the train part apart. Film sizes grow from stage to stage; AdamW
with warm-up and cosine; an exponential moving average of the weights. Training can start from folded weights: the
normalisations are put back first (`normalised.unfold`). A killed run resumes.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

from pneumo.data.dataset import AETIOLOGIES, Example, load
from pneumo.errors import PneumoError
from pneumo.evaluation.matching import score_films, weigh
from pneumo.model.card import sha256
from pneumo.training import networks, normalised
from pneumo.training.bases import base_receipt
from pneumo.training.batches import Batches
from pneumo.training.fitting import XLA, claim, finished, fit, quickest_precision, read_columns

START_FILMS = 128  # on which the statistics of a folded base's normalisations are measured


@dataclass(frozen=True)
class Stage:
    """`epochs` passes at `size` pixels, the learning rate warmed up to `rate` and lowered to 0 by a cosine.

    `acquisition` scales the probabilities of `augment.acquisition`.
    """

    size: int
    epochs: int
    rate: float
    acquisition: float = 1.0


# At 224 pixels an epoch takes four times as long, and two or three of them lost each time what 112 pixels had.
FROM_SCRATCH = (Stage(64, 18, 2e-3), Stage(112, 9, 8e-4))
CONTINUED = Stage(112, 20, 8e-4, acquisition=0.5)


@dataclass(frozen=True)
class PretrainConfig:
    """All settings of a pretraining. What it gave and how long it took: the card of the model built on it.

    `start` is a folded base to start from, None for random weights. `matched` is the share of a film's weight that
    follows `matching.weigh`, under which acquisition does not predict the label. `augmentation` is a name of
    `augment.AUGMENTATIONS`. The moving average of the weights spans `averaged_share` of a stage's steps, the warm-up of
    the learning rate `warm_up_share`.
    """

    stages: tuple[Stage, ...] = FROM_SCRATCH
    start: Path | None = None
    film_size: int = 224
    augmentation: str = "films"
    batch: int = 32
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    matched: float = 0.0
    averaged_share: float = 0.1
    warm_up_share: float = 0.08
    seed: int = 0


def pretrain(train: list[Example], validation: list[Example], folder: Path, config: PretrainConfig) -> Path:
    """Train the base and write `base.npz` (float16, folded) into `folder`, or resume the run that is there.

    `validation` is only watched: nothing is chosen by it. Returns the path of the weights.

    Raises:
        PneumoError: films whose aetiology is unknown.
        RunError: `folder` holds another run.
    """
    if unknown := sum(e.aetiology is None for e in [*train, *validation]):
        raise PneumoError(
            "Expected file names that tell normal, bacterial and viral apart, as those of the data set do: the base is "
            f"trained on that. {unknown} of {len(train) + len(validation)} films have other names."
        )
    claim(folder, config, config.start, [*train, *validation])
    keras.utils.set_random_seed(config.seed)
    with quickest_precision():
        model, columns = None, (_columns(train, config), _columns(validation, config))
        weights = weigh([e.target for e in train], score_films(train), config.matched) if config.matched else None
        for number, stage in enumerate(config.stages):
            before, model = model, normalised.vgg16_bn(len(AETIOLOGIES))
            if before:
                model.set_weights(before.get_weights())
            elif config.start:
                normalised.unfold(model, config.start, Batches(*columns[0], stage.size, START_FILMS, config.seed)[0][0])
            done = folder / f"stage-{stage.size}.weights.h5"
            if done.exists():
                model.load_weights(done)
                continue
            seed, options = config.seed + 1000 * number, (stage.acquisition, weights, config.augmentation)
            batches = Batches(*columns[0], stage.size, config.batch, seed, *options)
            watched = Batches(*columns[1], stage.size, config.batch)
            print(f"stage {number + 1} of {len(config.stages)}: {stage}", flush=True)
            _run_stage(model, stage, config, batches, watched, folder)
        base = folder / "base.npz"
        networks.save_layers(normalised.fold(model), base, "float16")
    base.with_suffix(".json").write_text(json.dumps(_make_receipt(config, folder), indent=2))
    return base


def _columns(examples: list[Example], config: PretrainConfig) -> tuple[np.ndarray, np.ndarray]:
    """Load films (n, film_size, film_size) uint8 and their aetiologies, one-hot (n, 3) float32."""
    one_hot = np.eye(len(AETIOLOGIES), dtype=np.float32)[[AETIOLOGIES.index(e.aetiology) for e in examples]]
    return load(examples, config.film_size), one_hot


def _run_stage(
    model: keras.Model, stage: Stage, config: PretrainConfig, train: Batches, validation: Batches, folder: Path
) -> None:
    """Train `model` for one stage; write its weights, its history and how it ended into `folder`."""
    name, steps = str(stage.size), stage.epochs * len(train)
    warm_up = int(config.warm_up_share * steps)
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps - warm_up, warmup_target=stage.rate, warmup_steps=warm_up)
    momentum = 1 - 1 / max(2.0, config.averaged_share * steps)
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=config.weight_decay, global_clipnorm=1.0, use_ema=True, ema_momentum=momentum
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=XLA)
    fit(model, train, validation, stage.epochs, folder, name)
    _settle_norms(model, train)
    seconds = read_columns(folder / f"history-{name}.csv")["seconds"].sum()
    end = {"seconds": round(float(seconds))}
    end["validation with averaged weights"] = model.evaluate(validation, verbose=0, return_dict=True)
    (folder / f"stage-{name}.json").write_text(json.dumps(end))
    unfinished = folder / "unfinished.weights.h5"
    model.save_weights(unfinished)
    unfinished.replace(folder / f"stage-{name}.weights.h5")
    finished(folder, name)
    print(f"stage {name} px: {end}", flush=True)


def _settle_norms(model: keras.Model, batches: Batches, count: int = 40) -> None:
    """Measure the mean and variance of each batch normalisation on `count` batches: averaged weights have none yet.

    Izmailov et al., arXiv 1803.05407, section 3.2.
    """
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momentum = norms[0].momentum
    for k in range(min(count, len(batches))):
        for norm in norms:
            norm.momentum = k / (k + 1)  # a plain mean over the batches so far
        model(batches[k][0], training=True)
    for norm in norms:
        norm.momentum = momentum


def _make_receipt(config: PretrainConfig, folder: Path) -> dict:
    """Say how to train the base again, and how each stage ended; ready for JSON."""
    command = "pneumo pretrain"
    if config.start:
        stage = config.stages[-1]
        command += f" --start {config.start.name} --epochs {stage.epochs} --rate {stage.rate}"
        command += f" --acquisition {stage.acquisition}"
    for option in ("matched", "augmentation", "seed"):
        value = getattr(config, option)
        words = f'"{value}"' if isinstance(value, str) else value
        command += f" --{option} {words}" if value != getattr(PretrainConfig, option) else ""
    ends = {s.size: json.loads((folder / f"stage-{s.size}.json").read_text()) for s in config.stages}
    receipt = {"command": command, "config": asdict(config) | {"start": None}, "stages": ends}
    if config.start:  # without what came before it, nobody could make it again
        receipt["config"]["start"] = {"sha256": sha256(config.start), "receipt": base_receipt(config.start)}
    return receipt
