"""Films -> batches for Keras. The augmentation happens here; how a network is fitted on them, in `fitting`."""

from collections.abc import Sequence

import keras
import numpy as np

from pneumo.data.augment import augment
from pneumo.films.film import squash


class Batches(keras.utils.PyDataset):
    """Batches of (n, size, size, 3) float32 in 0..255, their targets and, with `weights` (n,), how much each counts.

    With a `seed` the films are shuffled and augmented: a batch depends on (seed, epoch, index) alone, whichever thread
    makes it, and every batch is full. Without one the films come as they are, in order, and the last batch may be
    smaller. `acquisition` and `augmentation` are arguments of `augment.augment`. With `whole` the films are augmented
    and keep their order, none left out.
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
    ) -> None:
        super().__init__(workers=2, use_multiprocessing=False, max_queue_size=8)
        self.whole = whole or seed is None
        self.films, self.targets, self.size, self.batch, self.seed = films, targets, size, batch, seed
        self.acquisition, self.augmentation = acquisition, augmentation
        self.weights = None if weights is None else np.asarray(weights, np.float32)
        self.start(epoch=0)

    def start(self, epoch: int) -> None:
        """Take up the order of `epoch`."""
        self.epoch = epoch
        count = len(self.films)
        self.order = np.arange(count) if self.whole else np.random.default_rng((self.seed, epoch)).permutation(count)

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return -(-len(self.films) // self.batch) if self.whole else max(1, len(self.films) // self.batch)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        """Make batch `index` of this epoch."""
        chosen = self.order[index * self.batch : (index + 1) * self.batch]
        columns = (self.targets,) if self.weights is None else (self.targets, self.weights)
        return self.make_inputs(chosen, index), *(column[chosen] for column in columns)

    def make_inputs(self, chosen: np.ndarray, index: int) -> np.ndarray:
        """Make the network's input of the films with the numbers `chosen`, for batch `index`."""
        films = self.films[chosen]
        if self.seed is not None:
            seed = int(np.random.default_rng((self.seed, self.epoch, index)).integers(2**31))
            films = augment(films, seed, self.acquisition, self.augmentation)
        grey = np.stack([squash(film, self.size) for film in films]).astype(np.float32)
        return np.repeat(grey[..., None], 3, axis=-1)


class Views(Batches):
    """Batches of features that frozen layers made of each film, augmented several times: an epoch takes the next view.

    `views` are (n, h, w, filters) arrays; the other arguments are those of `Batches`.
    """

    def __init__(
        self,
        views: Sequence[np.ndarray],
        targets: np.ndarray,
        batch: int,
        seed: int | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        super().__init__(views[0], targets, 0, batch, seed, weights=weights)
        self.views = views

    def make_inputs(self, chosen: np.ndarray, index: int) -> np.ndarray:
        """Take the features of the films with the numbers `chosen` from this epoch's view: float32."""
        return self.views[self.epoch % len(self.views)][chosen].astype(np.float32)
