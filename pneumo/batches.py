"""Films -> batches for Keras, and what lets a killed fit go on: shared by pretraining and training."""

import csv
import json
import sys
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from pneumo.augment import augment
from pneumo.errors import RunError
from pneumo.images import squash


class Batches(keras.utils.PyDataset):
    """Batches of (n, size, size, 3) float32 in 0..255 and their targets; augmented ones differ from epoch to epoch.

    With a `seed` the films are shuffled and augmented, and every batch depends on (seed, epoch, index) alone, whichever
    thread makes it. Without one they come as they are, in order. `acquisition` is that of `augment.augment`.
    """

    def __init__(
        self,
        films: np.ndarray,
        targets: np.ndarray,
        size: int,
        batch: int,
        seed: int | None = None,
        acquisition: float = 1.0,
    ) -> None:
        super().__init__(workers=2, use_multiprocessing=False, max_queue_size=8)
        self.films, self.targets, self.size, self.batch, self.seed = films, targets, size, batch, seed
        self.acquisition = acquisition
        self.start(epoch=0)

    def start(self, epoch: int) -> None:
        """Take up the order of `epoch`."""
        self.epoch = epoch
        count = len(self.films)
        fixed = self.seed is None
        self.order = np.arange(count) if fixed else np.random.default_rng((self.seed, epoch)).permutation(count)

    def __len__(self) -> int:
        """Augmented batches are all full; the last, smaller one is kept only when measuring."""
        return -(-len(self.films) // self.batch) if self.seed is None else max(1, len(self.films) // self.batch)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Make batch `index` of this epoch."""
        chosen = self.order[index * self.batch : (index + 1) * self.batch]
        films = self.films[chosen]
        if self.seed is not None:
            seed = int(np.random.default_rng((self.seed, self.epoch, index)).integers(2**31))
            films = augment(films, seed, self.acquisition)
        grey = np.stack([squash(film, self.size) for film in films]).astype(np.float32)
        return np.repeat(grey[..., None], 3, axis=-1), self.targets[chosen]

    def on_epoch_end(self) -> None:
        """Draw a new order."""
        self.start(self.epoch + 1)


class _ContinueOrder(keras.callbacks.Callback):
    """After a resume the batches of the epochs already done must not come again."""

    def __init__(self, batches: Batches) -> None:
        super().__init__()
        self.batches = batches

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.batches.start(self.model._initial_epoch or 0)  # where BackupAndRestore says to go on


def claim(folder: Path, config: object) -> None:
    """Make `folder` the home of one run, or go on with the one that lives there.

    Raises:
        RunError: another recipe was trained there; its checkpoints would be taken for this one's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    home, recipe = folder / "config.json", json.dumps(asdict(config), indent=2, default=str)
    if home.exists() and home.read_text() != recipe:
        raise RunError(f"{folder} holds a run of another recipe: name another folder with --run, or delete this one.")
    home.write_text(recipe)


def fit(
    model: keras.Model,
    train: Batches | tuple[np.ndarray, np.ndarray],
    validation: Batches | tuple[np.ndarray, np.ndarray],
    epochs: int,
    folder: Path,
    name: str,
    best: bool = False,
    **options: object,
) -> None:
    """`model.fit`, on batches or on arrays, that writes `history-NAME.csv` and goes on where a killed run stopped.

    The model must be fresh: a resumed fit leaves its epoch behind in it. With `best` it ends with the weights of the
    epoch that had the lowest validation loss.
    """
    history = folder / f"history-{name}.csv"
    callbacks = [
        keras.callbacks.BackupAndRestore(folder / f"backup-{name}", double_checkpoint=True),
        *([_ContinueOrder(train)] if isinstance(train, Batches) else []),
    ]
    if best:
        done = read_columns(history).get("val_loss", []) if history.exists() else []
        callbacks.append(
            keras.callbacks.ModelCheckpoint(
                folder / f"best-{name}.weights.h5",
                save_best_only=True,
                save_weights_only=True,
                initial_value_threshold=min(done, default=None),  # of the epochs before the run was killed
            )
        )
    callbacks.append(keras.callbacks.CSVLogger(history, append=True))
    verbose = 1 if sys.stdout.isatty() else 2  # a progress bar for people, a line an epoch for log files
    arguments = (train,) if isinstance(train, Batches) else train
    model.fit(*arguments, validation_data=validation, epochs=epochs, callbacks=callbacks, verbose=verbose, **options)
    if best:
        model.load_weights(folder / f"best-{name}.weights.h5")


def read_columns(path: Path) -> dict[str, np.ndarray]:
    """Columns of a history that `fit` wrote: name -> (epochs,) float64."""
    with path.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    return {key: np.array([float(row[key]) for row in rows]) for key in rows[0]} if rows else {}
