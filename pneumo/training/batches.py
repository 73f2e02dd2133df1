"""Films -> batches for Keras, and what lets a killed fit go on: shared by pretraining and training."""

import csv
import functools
import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

from pneumo.data.augment import augment
from pneumo.data.dataset import Example, content_hashes, fingerprint
from pneumo.errors import RunError
from pneumo.films.film import squash
from pneumo.model.card import sha256
from pneumo.training.receipts import base_receipt

XLA = False  # it halves the speed on a CPU
WORTH = 0.75  # of float32's time: what bfloat16 may take in one convolution, since a whole step gains less


@contextmanager
def quickest_precision() -> Iterator[str]:
    """Layers that are built inside compute in bfloat16, with float32 weights, where that is quicker; gives the policy.

    Measured, since no flag of a processor tells: a step of VGG-16 in bfloat16 takes 0.7 of float32's time with one
    processor's AVX-512 BF16, 1.4 times as long with another's, and several times as long where TensorFlow imitates it.
    """
    before = keras.mixed_precision.global_policy()
    quicker = seconds_of_convolution("bfloat16") < WORTH * seconds_of_convolution("float32")
    policy = "mixed_bfloat16" if quicker else "float32"
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield policy
    finally:
        keras.mixed_precision.set_global_policy(before)


@functools.cache  # runs within runs ask again, and must not be told otherwise
def seconds_of_convolution(dtype: str, times: int = 5) -> float:
    """The least that one of VGG-16's convolutions in block 3 takes of `times`, on 8 films of 112 pixels."""
    films, kernel = (keras.ops.ones(shape, dtype) for shape in ((8, 28, 28, 256), (3, 3, 256, 256)))
    least = float("inf")
    for _ in range(1 + times):  # the first makes what the others find
        began = time.perf_counter()
        keras.ops.convert_to_numpy(keras.ops.conv(films, kernel, padding="same")[:1, :1, :1, :1])  # waits for it
        least = min(least, time.perf_counter() - began)
    return least


class Batches(keras.utils.PyDataset):
    """Batches of (n, size, size, 3) float32 in 0..255 and their targets; augmented ones differ from epoch to epoch.

    With a `seed` the films are shuffled and augmented, and every batch depends on (seed, epoch, index) alone, whichever
    thread makes it. Without one they come as they are, in order. `acquisition` and `augmentation` are those of
    `augment.augment`, `weights` (n,) how much each film counts. `whole` keeps the order and leaves out no film.

    With `mixup` a film is blended with another of its batch, in shares drawn from Beta(mixup, mixup), and so are target
    and weight (Zhang et al., arXiv 1710.09412).
    """

    def __init__(
        self,
        films: np.ndarray,
        targets: np.ndarray,
        size: int,
        batch: int,
        seed: int | None = None,
        acquisition: float = 1.0,
        weights: np.ndarray | None = None,
        augmentation: str = "films",
        whole: bool = False,
        mixup: float = 0.0,
    ) -> None:
        super().__init__(workers=2, use_multiprocessing=False, max_queue_size=8)
        self.whole = whole or seed is None
        self.films, self.targets, self.size, self.batch, self.seed = films, targets, size, batch, seed
        self.acquisition, self.weights, self.augmentation, self.mixup = acquisition, weights, augmentation, mixup
        self.start(epoch=0)

    def start(self, epoch: int) -> None:
        """Take up the order of `epoch`."""
        self.epoch = epoch
        count = len(self.films)
        self.order = np.arange(count) if self.whole else np.random.default_rng((self.seed, epoch)).permutation(count)

    def __len__(self) -> int:
        """In training all batches are full; the last, smaller one is kept only when no film may be left out."""
        return -(-len(self.films) // self.batch) if self.whole else max(1, len(self.films) // self.batch)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Make batch `index` of this epoch."""
        chosen = self.order[index * self.batch : (index + 1) * self.batch]
        films = self.films[chosen]
        if self.seed is not None:
            seed = int(np.random.default_rng((self.seed, self.epoch, index)).integers(2**31))
            films = augment(films, seed, self.acquisition, self.augmentation)
        grey = np.stack([squash(film, self.size) for film in films]).astype(np.float32)
        batch = np.repeat(grey[..., None], 3, axis=-1), self.targets[chosen]
        return self._blended(index, batch if self.weights is None else (*batch, self.weights[chosen]))

    def _blended(self, index: int, batch: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        if not self.mixup:
            return batch
        random = np.random.default_rng((self.seed, self.epoch, index))
        share, other = np.float32(random.beta(self.mixup, self.mixup)), random.permutation(len(batch[0]))
        return tuple(share * values + (1 - share) * values[other] for values in batch)

    def on_epoch_end(self) -> None:
        """Draw a new order."""
        self.start(self.epoch + 1)


class Views(Batches):
    """Batches of what a frozen network made of each film, several times augmented: every epoch takes the next view.

    `views` are (n, ...) arrays; the rest is that of `Batches`.
    """

    def __init__(
        self,
        views: Sequence[np.ndarray],
        targets: np.ndarray,
        batch: int,
        seed: int | None = None,
        weights: np.ndarray | None = None,
        mixup: float = 0.0,
    ) -> None:
        super().__init__(views[0], targets, 0, batch, seed, weights=weights, mixup=mixup)
        self.views = views

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Make batch `index` of this epoch."""
        chosen = self.order[index * self.batch : (index + 1) * self.batch]
        view = self.views[self.epoch % len(self.views)]
        columns = (view, self.targets) if self.weights is None else (view, self.targets, self.weights)
        return self._blended(index, tuple(column[chosen].astype(np.float32) for column in columns))


class StopWhen(keras.callbacks.Callback):
    """End the training after `times` epochs on end of which `reached(logs)` holds."""

    def __init__(self, reached: Callable[[dict], bool], times: int = 1) -> None:
        super().__init__()
        self.reached, self.times, self.seen = reached, times, 0

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.seen = self.seen + 1 if self.reached(logs) else 0
        self.model.stop_training = self.model.stop_training or self.seen >= self.times


class _Resume(keras.callbacks.BackupAndRestore):
    """Goes on with a killed fit as if it had not been killed: the same batches, dropout, patience and history.

    An epoch is done once all other callbacks are through with it, which measure it, keep its weights and write its row:
    it is backed up when the next one begins, the last when training ends. What was not done is done again.
    """

    def __init__(self, folder: Path, history: Path, batches: Batches | None, others: Sequence) -> None:
        super().__init__(folder, double_checkpoint=True, delete_checkpoint=False)
        self.history, self.batches, self.others, self.done = history, batches, others, None

    def on_train_begin(self, logs: dict | None = None) -> None:
        super().on_train_begin(logs)
        self.start = self.model._initial_epoch or 0
        if self.batches:
            self.batches.start(self.start)
        if not self.start:
            self.history.unlink(missing_ok=True)
            return
        rows = read_rows(self.history)[: self.start]
        unfinished = self.history.with_suffix(".unfinished")
        with unfinished.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        unfinished.replace(self.history)
        optimizer = self.model.optimizer
        steps = int(keras.ops.convert_to_numpy(optimizer.iterations))
        for layer in self.model.layers:
            if generator := getattr(layer, "seed_generator", None):  # of dropout: it has drawn once a step
                generator.state.assign([keras.ops.convert_to_numpy(generator.state)[0], steps])
        rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        for other in self.others:
            if isinstance(other, keras.callbacks.ModelCheckpoint):
                other.best = min(float(row[other.monitor]) for row in rows)
            if isinstance(other, StopWhen | keras.callbacks.ReduceLROnPlateau):
                for epoch, row in enumerate(rows):
                    other.on_epoch_end(epoch, {name: float(value) for name, value in row.items()})
            if isinstance(other, keras.callbacks.ReduceLROnPlateau):
                optimizer.learning_rate = rate  # which had been lowered already
        if self.model.stop_training:
            self.model._initial_epoch = self.params["epochs"]

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if epoch > self.start:
            super().on_epoch_end(epoch - 1)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.done = epoch

    def on_train_end(self, logs: dict | None = None) -> None:
        if self.done is not None:
            super().on_epoch_end(self.done)


class _Feed(PyDatasetAdapter):
    """How Keras hands out batches, counting the seconds in which the one that is asked for is not there yet.

    On TensorFlow that is asked inside the step, with nothing fetched ahead: no callback would see it. And step and
    index of a batch are not the same: what an epoch's threads have made too much comes first in the next.
    """

    waited = 0.0

    def _get_iterator(self) -> Iterator[tuple]:
        batches = super()._get_iterator()
        while True:
            asked = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - asked
            if batch is None:
                return
            yield batch


class _Waiting(keras.callbacks.Callback):
    """Adds to an epoch's logs how many `seconds` its training took and, of a feed, what share was `waiting` for it."""

    def __init__(self, feed: _Feed | None) -> None:
        super().__init__()
        self.feed = feed

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.began, self.before = time.perf_counter(), self.feed.waited if self.feed else 0.0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.ended = time.perf_counter()  # validation comes behind the last

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        seconds = self.ended - self.began
        logs["seconds"] = seconds
        if self.feed:
            logs["waiting"] = (self.feed.waited - self.before) / seconds


def claim(folder: Path, config: object, weights: Path | str | None, examples: Sequence[Example]) -> None:
    """Make `folder` the home of one run, or go on with the one that lives there.

    A run is of one recipe, of the `weights` it begins with, a file of which the content counts, and of the films in
    `examples`.

    Raises:
        RunError: another run lives there; its checkpoints would be taken for this one's. Or nobody knows how `weights`
            were made, so that no card could tell.
    """
    if isinstance(weights, Path):
        base_receipt(weights)
        weights = sha256(weights)
    settings = {name: value for name, value in asdict(config).items() if not isinstance(value, Path)}
    run = {"config": settings, "weights": weights, "films": fingerprint(content_hashes(examples))}
    folder.mkdir(parents=True, exist_ok=True)
    home, text = folder / "config.json", json.dumps(run, indent=2)
    if home.exists() and home.read_text() != text:
        raise RunError(
            f"{folder} holds a run of another recipe, of other weights to begin with, or of other films: name another "
            "folder with --run, or delete this one."
        )
    home.write_text(text)


def fit(
    model: keras.Model,
    train: Batches | tuple[np.ndarray, np.ndarray],
    validation: Batches | tuple[np.ndarray, np.ndarray],
    epochs: int,
    folder: Path,
    name: str,
    best: str | None = None,
    watchers: Sequence[keras.callbacks.Callback] = (),
    **options: object,
) -> None:
    """`model.fit`, on batches or on arrays, that writes `history-NAME.csv` and goes on where a killed run stopped.

    The history has a column `seconds`, of each epoch's training, and on batches `waiting`, the share of them that it
    waited for a batch. The model must be fresh: a resumed fit leaves its epoch behind in it. With `best` it ends with
    the weights of the epoch whose logs have the lowest value of that name. `watchers` are further callbacks, and may
    add to the logs. TensorBoard's logs lie in `tensorboard-NAME`. `finished` has to follow once its outcome is kept.
    """
    history = folder / f"history-{name}.csv"
    callbacks = list(watchers)
    if best:
        kept = folder / f"best-{name}.weights.h5"
        callbacks.append(
            keras.callbacks.ModelCheckpoint(kept, best, mode="min", save_best_only=True, save_weights_only=True)
        )
        if model.optimizer.use_ema:  # before whatever measures or keeps the averaged weights
            callbacks.insert(0, keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    batches = train if isinstance(train, Batches) else None
    callbacks.append(_Resume(folder / f"backup-{name}", history, batches, callbacks[:]))
    arguments, feed = train, None
    if isinstance(train, Batches):
        feed = _Feed(train, class_weight=options.pop("class_weight", None))
        arguments = (feed,)
    callbacks.append(_Waiting(feed))
    callbacks.append(keras.callbacks.CSVLogger(history, append=True))
    callbacks.append(keras.callbacks.TensorBoard(folder / f"tensorboard-{name}"))
    verbose = 1 if sys.stdout.isatty() else 2  # a progress bar for people, a line an epoch for log files
    model.fit(*arguments, validation_data=validation, epochs=epochs, callbacks=callbacks, verbose=verbose, **options)
    if best:
        model.load_weights(kept)


def finished(folder: Path, name: str) -> None:
    """Delete what a `fit` of that name would go on from, had it been killed."""
    shutil.rmtree(folder / f"backup-{name}", ignore_errors=True)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a history that `fit` wrote, one an epoch."""
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Columns of a history that `fit` wrote: name -> (epochs,) float64."""
    rows = read_rows(path)
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]} if rows else {}


def waiting_share(folder: Path, *names: str) -> float | None:
    """Share of all epochs' time, of these `fit`s on batches, that training waited for one: 0..1, None if unknown."""
    histories = [folder / f"history-{name}.csv" for name in names]
    columns = [read_columns(history) for history in histories if history.exists()]
    if not columns or any("waiting" not in found for found in columns):
        return None
    waiting, seconds = (np.concatenate([found[key] for found in columns]) for key in ("waiting", "seconds"))
    return float(np.average(waiting, weights=seconds))
