"""The `chest-xray` base: VGG-16 with batch normalisation from scratch on the train part, folded to plain VGG-16.

Folded weights can be gone on from: the normalisations are put back first (`networks.unfold`).
The pretext is normal / bacterial / viral. Progressive sizes, bfloat16 where that is quicker, AdamW with warm-up
and cosine, an exponential moving average of the weights, and every stage resumes after being killed.
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
from pneumo.training import networks, objective
from pneumo.training.batches import XLA, Batches, claim, finished, fit, quickest_precision, read_columns, waiting_share
from pneumo.training.receipts import base_receipt

START_FILMS = 128  # to measure what the normalisations of a folded base would have seen


@dataclass(frozen=True)
class Stage:
    """`epochs` passes at `size` pixels, the learning rate warmed up to `rate` and let down to 0 by a cosine.

    `acquisition` is the share of the usual probability of blur, resampling, sharpening, noise and compression.
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
    """The whole recipe. What it gave and how long it took stands in the card of the model that was built on it.

    `start` is a folded base to go on from, None to begin from scratch. `matched` is the share of a film's weight that
    follows `audit.weigh`, under which acquisition says nothing of the label; `experts` and `independent` are those of
    `objective.aetiology_loss`, `augmentation` is one of `augment.AUGMENTATIONS`, `mixup` that of `batches.Batches`.
    """

    stages: tuple[Stage, ...] = FROM_SCRATCH
    start: Path | None = None
    film_size: int = 224
    augmentation: str = "films"
    batch: int = 32
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    matched: float = 0.0
    experts: float = 0.0
    independent: float = 0.0
    mixup: float = 0.0
    averaged_share: float = 0.1  # the moving average of weights looks back over this share of a stage
    warm_up_share: float = 0.08
    seed: int = 0


def _settle_norms(model: keras.Model, batches: Batches, count: int = 40) -> None:
    """Measure each batch normalisation's mean and variance anew: the averaged weights never trained as such.

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


def _run_stage(
    model: keras.Model, stage: Stage, config: PretrainConfig, train: Batches, validation: Batches, folder: Path
) -> None:
    steps = stage.epochs * len(train)
    warm_up = int(config.warm_up_share * steps)
    rate = keras.optimizers.schedules.CosineDecay(0.0, steps - warm_up, warmup_target=stage.rate, warmup_steps=warm_up)
    momentum = 1 - 1 / max(2.0, config.averaged_share * steps)
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=config.weight_decay, global_clipnorm=1.0, use_ema=True, ema_momentum=momentum
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = objective.aetiology_loss(config.label_smoothing, config.experts, config.independent)
    accuracy = keras.metrics.MeanMetricWrapper(objective.aetiology_accuracy, name="accuracy")
    model.compile(optimizer, loss, metrics=[accuracy], jit_compile=XLA)
    fit(model, train, validation, stage.epochs, folder, str(stage.size))


def pretrain(train: list[Example], validation: list[Example], folder: Path, config: PretrainConfig) -> Path:
    """Train the base and write `base.npz` (float16, folded) into `folder`; continues what is already there.

    `validation` is only watched: nothing is chosen by it. Returns the path of the weights.

    Raises:
        PneumoError: films whose aetiology nobody knows.
    """
    if unknown := sum(e.aetiology is None for e in [*train, *validation]):
        raise PneumoError(
            "Expected file names that tell normal, bacterial and viral apart, as those of the data set do: the base is "
            f"trained on that. {unknown} of {len(train) + len(validation)} films are called otherwise."
        )
    claim(folder, config, config.start, [*train, *validation])
    keras.utils.set_random_seed(config.seed)
    with quickest_precision():
        films = {"train": load(train, config.film_size), "validation": load(validation, config.film_size)}
        one_hot = np.eye(len(AETIOLOGIES), dtype=np.float32)
        debiased = config.matched or config.experts or config.independent
        score = {"train": score_films(train) if debiased else None, "validation": None}
        answers = {
            name: objective.answers(one_hot[[AETIOLOGIES.index(e.aetiology) for e in part]], score[name])
            for name, part in (("train", train), ("validation", validation))
        }
        weights = weigh([e.target for e in train], score["train"], config.matched) if config.matched else None
        model = None
        for number, stage in enumerate(config.stages):
            # a fresh model a stage: a resumed fit leaves its epoch behind in the model
            previous, model = model, networks.vgg16_bn(len(AETIOLOGIES))
            if previous:
                model.set_weights(previous.get_weights())
            elif config.start:
                sample = Batches(films["train"], answers["train"], stage.size, START_FILMS, config.seed)[0][0]
                networks.unfold(model, config.start, sample)
            done = folder / f"stage-{stage.size}.weights.h5"
            if done.exists():
                model.load_weights(done)
                continue
            seed = config.seed + 1000 * number
            batches = Batches(
                films["train"],
                answers["train"],
                stage.size,
                config.batch,
                seed,
                stage.acquisition,
                weights,
                config.augmentation,
                mixup=config.mixup,
            )
            watched = Batches(films["validation"], answers["validation"], stage.size, config.batch)
            print(f"stage {number + 1} of {len(config.stages)}: {stage}", flush=True)
            _run_stage(model, stage, config, batches, watched, folder)
            batches.mixup = 0.0  # films as they come are what the base will see
            _settle_norms(model, batches)
            measured = model.evaluate(watched, verbose=0, return_dict=True)
            seconds = read_columns(folder / f"history-{stage.size}.csv")["seconds"].sum()  # of killed runs, too
            end = {"seconds": round(float(seconds)), "waiting": waiting_share(folder, str(stage.size))}
            end |= {"validation with averaged weights": measured}
            (folder / f"stage-{stage.size}.json").write_text(json.dumps(end))
            unfinished = folder / "unfinished.weights.h5"
            model.save_weights(unfinished)
            unfinished.replace(done)
            finished(folder, str(stage.size))
            print(f"stage {stage.size} px: {end}", flush=True)
        base = folder / "base.npz"
        networks.save_layers(networks.fold(model), base, "float16")
        ends = {s.size: json.loads((folder / f"stage-{s.size}.json").read_text()) for s in config.stages}
        command = "pneumo pretrain"
        if config.start:
            stage = config.stages[-1]
            command += f" --start {config.start.name} --epochs {stage.epochs} --rate {stage.rate}"
            command += f" --acquisition {stage.acquisition}"
        for option in ("matched", "experts", "independent", "mixup", "label_smoothing", "augmentation", "seed"):
            value = getattr(config, option)
            words = f'"{value}"' if isinstance(value, str) else value
            command += f" --{option.replace('_', '-')} {words}" if value != getattr(PretrainConfig, option) else ""
        receipt = {"command": command, "config": asdict(config) | {"start": None}, "stages": ends}
        if config.start:  # without what came before it, nobody could make it again
            receipt["config"]["start"] = {"sha256": sha256(config.start), "receipt": base_receipt(config.start)}
        base.with_suffix(".json").write_text(json.dumps(receipt, indent=2))
        return base
