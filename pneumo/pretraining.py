"""The `chest-xray` base: VGG-16 with batch normalisation from scratch on the train part, folded to plain VGG-16.

The pretext is normal / bacterial / viral. Progressive sizes, mixed_bfloat16, AdamW with warm-up and cosine, an
exponential moving average of the weights, and every stage resumes after being killed.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

from pneumo import networks
from pneumo.augment import augment
from pneumo.dataset import AETIOLOGIES, Example, load
from pneumo.images import squash


@dataclass(frozen=True)
class Stage:
    """`epochs` passes at `size` pixels, the learning rate warmed up to `rate` and let down to 0 by a cosine."""

    size: int
    epochs: int
    rate: float


@dataclass(frozen=True)
class PretrainConfig:
    """The whole recipe. What it gave and how long it took stands in the card of the model that was built on it."""

    stages: tuple[Stage, ...] = (Stage(64, 18, 2e-3), Stage(112, 10, 8e-4), Stage(224, 3, 3e-4))
    film_size: int = 224
    batch: int = 32
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    averaged_share: float = 0.1  # the moving average of weights looks back over this share of a stage
    warm_up_share: float = 0.08
    seed: int = 0


class Batches(keras.utils.PyDataset):
    """Batches of ((n, size, size, 3) float32, (n, classes) one-hot); augmented ones differ from epoch to epoch.

    Every batch depends on (seed, epoch, index) alone, whichever thread makes it.
    """

    def __init__(
        self, films: np.ndarray, targets: np.ndarray, size: int, batch: int, *, seed: int | None = None, workers: int = 2
    ) -> None:
        super().__init__(workers=workers, use_multiprocessing=False, max_queue_size=8)
        self.films, self.targets, self.size, self.batch, self.seed = films, targets, size, batch, seed
        self.epoch = 0
        self._shuffle()

    def _shuffle(self) -> None:
        count = len(self.films)
        fixed = self.seed is None
        self.order = np.arange(count) if fixed else np.random.default_rng((self.seed, self.epoch)).permutation(count)

    def __len__(self) -> int:
        """Augmented batches are all full; the last, smaller one is kept only when measuring."""
        return -(-len(self.films) // self.batch) if self.seed is None else max(1, len(self.films) // self.batch)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Make batch `index` of this epoch."""
        chosen = self.order[index * self.batch : (index + 1) * self.batch]
        films = self.films[chosen]
        if self.seed is not None:
            films = augment(films, int(np.random.default_rng((self.seed, self.epoch, index)).integers(2**31)))
        grey = np.stack([squash(film, self.size) for film in films]).astype(np.float32)
        return np.repeat(grey[..., None], 3, axis=-1), self.targets[chosen]

    def on_epoch_end(self) -> None:
        """Draw a new order."""
        self.epoch += 1
        self._shuffle()


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


def _run_stage(model: keras.Model, stage: Stage, config: PretrainConfig, train: Batches, validation: Batches, folder: Path) -> None:
    steps = stage.epochs * len(train)
    warm_up = int(config.warm_up_share * steps)
    rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps - warm_up, warmup_target=stage.rate, warmup_steps=warm_up
    )
    momentum = 1 - 1 / max(2.0, config.averaged_share * steps)
    optimizer = keras.optimizers.AdamW(
        rate, weight_decay=config.weight_decay, global_clipnorm=1.0, use_ema=True, ema_momentum=momentum
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    loss = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.label_smoothing)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)  # XLA halves the speed on a CPU
    backup = keras.callbacks.BackupAndRestore(folder / f"backup-{stage.size}", double_checkpoint=True)

    class ContinueOrder(keras.callbacks.Callback):
        """After a resume the batches of the epochs already done must not come again."""

        def on_train_begin(self, logs: dict | None = None) -> None:
            train.epoch = self.model._initial_epoch or 0  # where BackupAndRestore says to go on
            train._shuffle()

    log = keras.callbacks.CSVLogger(folder / f"history-{stage.size}.csv", append=True)
    model.fit(train, validation_data=validation, epochs=stage.epochs, callbacks=[backup, ContinueOrder(), log], verbose=2)


def pretrain(train: list[Example], validation: list[Example], folder: Path, config: PretrainConfig) -> Path:
    """Train the base and write `base.npz` (float16, folded) into `folder`; continues what is already there.

    `validation` is only watched: nothing is chosen by it. Returns the path of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(config.seed)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        films = {"train": load(train, config.film_size), "validation": load(validation, config.film_size)}
        one_hot = np.eye(len(AETIOLOGIES), dtype=np.float32)
        target = {
            name: one_hot[[AETIOLOGIES.index(e.aetiology) for e in part]]
            for name, part in (("train", train), ("validation", validation))
        }
        model, seconds = None, {}
        for number, stage in enumerate(config.stages):
            # a fresh model a stage: a resumed fit leaves its epoch behind in the model
            previous, model = model, networks.vgg16_bn(len(AETIOLOGIES))
            if previous:
                model.set_weights(previous.get_weights())
            done = folder / f"stage-{stage.size}.weights.h5"
            if done.exists():
                model.load_weights(done)
                continue
            started = time.monotonic()
            batches = Batches(films["train"], target["train"], stage.size, config.batch, seed=config.seed + 1000 * number)
            watched = Batches(films["validation"], target["validation"], stage.size, config.batch)
            print(f"stage {number + 1} of {len(config.stages)}: {stage}", flush=True)
            _run_stage(model, stage, config, batches, watched, folder)
            _settle_norms(model, batches)
            model.save_weights(done)
            seconds[stage.size] = round(time.monotonic() - started)
            print(f"stage {stage.size} px: {seconds[stage.size]} s; with averaged weights:", flush=True)
            print(model.evaluate(watched, verbose=0, return_dict=True), flush=True)
        weights = folder / "base.npz"
        networks.save_layers(networks.fold(model), weights, "float16")
        receipt = {"config": asdict(config), "seconds": seconds, "keras": keras.version(), "backend": keras.backend.backend()}
        (folder / "pretraining.json").write_text(json.dumps(receipt, indent=2))
        return weights
    finally:
        keras.mixed_precision.set_global_policy("float32")
