"""Fit a network: in which precision, in which folder, and from where a killed run resumes."""

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

from pneumo.data.dataset import Example, content_hashes, fingerprint
from pneumo.errors import RunError
from pneumo.model.card import sha256
from pneumo.training.batches import Batches

XLA = False  # it halves the speed on a CPU
WORTH = 0.75  # bfloat16 is used if a convolution takes at most this share of float32's time: a whole step gains less


@contextmanager
def quickest_precision() -> Iterator[str]:
    """Let layers that are built inside compute in bfloat16, with float32 weights, where that is quicker.

    Gives the name of the dtype policy. It is measured, since no flag of a processor tells: a step of VGG-16 in bfloat16
    takes 0.7 of float32's time on one processor with AVX-512 BF16, 1.4 times as long on another, and several times as
    long where TensorFlow emulates it.
    """
    before = keras.mixed_precision.global_policy()
    seconds = time_convolution()
    policy = "mixed_bfloat16" if seconds["bfloat16"] < WORTH * seconds["float32"] else "float32"
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield policy
    finally:
        keras.mixed_precision.set_global_policy(before)


@functools.cache  # nested calls must get the same answer
def time_convolution(times: int = 8) -> dict[str, float]:
    """Time one of VGG-16's convolutions in block 3 on 8 films of 112 pixels: the least seconds of `times`, by dtype.

    The dtypes take turns, so that other work on the machine slows both.
    """
    inputs = {
        dtype: [keras.ops.ones(shape, dtype) for shape in ((8, 28, 28, 256), (3, 3, 256, 256))]
        for dtype in ("float32", "bfloat16")
    }
    least = dict.fromkeys(inputs, float("inf"))
    for _ in range(1 + times):  # the first prepares what the others use
        for dtype, (films, kernel) in inputs.items():
            began = time.perf_counter()
            keras.ops.convert_to_numpy(keras.ops.conv(films, kernel, padding="same")[:1, :1, :1, :1])  # waits for it
            least[dtype] = min(least[dtype], time.perf_counter() - began)
    return least


class StopWhen(keras.callbacks.Callback):
    """Ends the training when `reached(logs)` has held at the end of `times` epochs."""

    def __init__(self, reached: Callable[[dict], bool], times: int = 1) -> None:
        super().__init__()
        self.reached, self.times, self.seen = reached, times, 0

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Count the epoch."""
        self.seen = self.seen + 1 if self.reached(logs) else 0
        self.model.stop_training = self.model.stop_training or self.seen >= self.times


class Seconds(keras.callbacks.Callback):
    """Adds the `seconds` of an epoch's training, without validation, to its logs."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start the clock."""
        self.began = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Read the clock: validation follows the last batch."""
        self.seconds = time.perf_counter() - self.began

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Write the seconds down."""
        logs["seconds"] = self.seconds


def claim(folder: Path, config: object, weights: Path | str | None, examples: Sequence[Example]) -> None:
    """Make `folder` the home of one run, or resume the run that lives there.

    A run is of one recipe, of the `weights` that it begins with (the content of the file counts) and of the films in
    `examples`.

    Raises:
        RunError: another run lives there, whose checkpoints would be mixed up with this one's.
    """
    weights = sha256(weights) if isinstance(weights, Path) else weights
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
    train: Batches,
    validation: Batches,
    epochs: int,
    folder: Path,
    name: str,
    best: str | None = None,
    watchers: Sequence[keras.callbacks.Callback] = (),
    **options: object,
) -> None:
    """Call `model.fit` so that a killed run resumes after its last whole epoch; write `history-NAME.csv`.

    `model` must be new and compiled. With `best` it ends with the weights of the epoch with the lowest value of that
    name in the logs. `watchers` are further callbacks and may add to the logs; the history has a column `seconds`, too.
    TensorBoard's logs lie in `tensorboard-NAME`. `options` go to `model.fit`. Call `finished` once the outcome is kept.
    """
    history, kept = folder / f"history-{name}.csv", folder / f"best-{name}.weights.h5"
    callbacks = [keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: train.start(epoch)), *watchers]
    if best:
        reached = read_columns(history)[best].min() if history.exists() else None
        checkpoint = {"mode": "min", "save_best_only": True, "save_weights_only": True}
        callbacks.append(keras.callbacks.ModelCheckpoint(kept, best, initial_value_threshold=reached, **checkpoint))
    callbacks += [
        Seconds(),
        keras.callbacks.CSVLogger(history, append=True),
        keras.callbacks.TensorBoard(folder / f"tensorboard-{name}"),
        # the last: what it backs up has been measured, kept and written down
        keras.callbacks.BackupAndRestore(folder / f"backup-{name}", double_checkpoint=True, delete_checkpoint=False),
    ]
    verbose = 1 if sys.stdout.isatty() else 2  # a progress bar for people, a line an epoch for log files
    model.fit(train, validation_data=validation, epochs=epochs, callbacks=callbacks, verbose=verbose, **options)
    if best:
        model.load_weights(kept)


def finished(folder: Path, name: str) -> None:
    """Delete the backup from which a killed `fit` of that name would resume."""
    shutil.rmtree(folder / f"backup-{name}", ignore_errors=True)


def read_columns(history: Path) -> dict[str, np.ndarray]:
    """Read a history that `fit` wrote: name of the column -> (epochs,) float64.

    An epoch in which a run was killed may have two rows: the later counts.
    """
    with history.open(newline="") as stream:
        rows = {row["epoch"]: row for row in csv.DictReader(stream)}.values()
    return {key: np.array([float(row[key]) for row in rows]) for key in next(iter(rows), {})}
