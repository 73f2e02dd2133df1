"""Augmented views of films on disk: what VGG-16's frozen layers make of each, and which positions lie in its boxes.

Views are made in chunks, so that memory does not grow with the films, and a killed run goes on with the next chunk.
"""

import hashlib
import inspect
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from pneumo.data import augment, changes
from pneumo.data.dataset import Box, Example, content_hashes, load
from pneumo.evaluation.pointing import cover
from pneumo.films import tone
from pneumo.films.preprocessing import prepare
from pneumo.model.card import sha256
from pneumo.training import networks
from pneumo.training.features import VIEW_SEED, load_base
from pneumo.training.fitting import quickest_precision
from pneumo.training.recipes import IMAGENET, TrainConfig

SECONDS = 10  # between two lines of progress in a log
CHUNK = 64  # views; films of a chunk exchange sharpness and tone


@dataclass(frozen=True)
class StoredViews:
    """Views, memory-mapped: `features` (n, h, w, filters) float16, `covered` (n, p, p) float16, `film` (n,) int.

    `covered` is the share of each of the map's positions that lies in a box, `film` which film a view is of.
    """

    features: np.ndarray
    covered: np.ndarray
    film: np.ndarray


def make_views(
    examples: Sequence[Example], config: TrainConfig, folder: Path, counts: np.ndarray | None = None
) -> StoredViews:
    """Make `counts` (n,) augmented views of each film or, without them, one as it is; cached beside `folder`."""
    film = np.arange(len(examples)) if counts is None else np.repeat(np.arange(len(examples)), counts)
    if counts is not None:
        film = np.random.default_rng(VIEW_SEED).permutation(film)
    place = folder.parent / "features" / _name(examples, config, film, counts is not None)
    place.mkdir(parents=True, exist_ok=True)
    done = place / "done.json"
    finished = json.loads(done.read_text()) if done.exists() else 0
    chunks = -(-len(film) // CHUNK)
    if finished < chunks:
        model = _build(config)
        features, covered = _open(place, model.output_shape[1:], len(film), config, new=not finished)
        bar = keras.utils.Progbar(chunks, interval=SECONDS, unit_name="chunk")
    with ThreadPoolExecutor(1) as pool:  # prepares a chunk while the network sees the one before
        ahead = {}
        for chunk in range(finished, chunks):
            for number in range(chunk, min(chunk + 2, chunks)):
                if number not in ahead:
                    rows = slice(number * CHUNK, (number + 1) * CHUNK)
                    ahead[number] = (
                        rows,
                        pool.submit(_prepare, examples, film[rows], config, number, counts is not None),
                    )
            rows, prepared = ahead.pop(chunk)
            grey, boxes = prepared.result()
            inputs = np.repeat(grey[..., None].astype(np.float32), 3, axis=-1)
            features[rows] = model.predict(inputs, batch_size=16, verbose=0)
            covered[rows] = [cover(own, covered.shape[1]) for own in boxes]
            done.write_text(json.dumps(chunk + 1))
            bar.update(chunk + 1)
    return StoredViews(*(np.load(place / f"{name}.npy", mmap_mode="r") for name in ("features", "covered")), film)


def _prepare(
    examples: Sequence[Example], chosen: np.ndarray, config: TrainConfig, chunk: int, augmented: bool
) -> tuple[np.ndarray, list[Sequence[Box]]]:
    """Load, augment and prepare the chosen films: (n, size, size) uint8, and where their boxes are then."""
    films, boxes = load([examples[i] for i in chosen], config.film_size), [examples[i].boxes or () for i in chosen]
    if augmented:
        seed = VIEW_SEED + chunk
        films, boxes = augment.augment_with_boxes(films, boxes, seed, config.acquisition, config.augmentation)
    return np.stack([prepare(film, config.size, config.steps)[0] for film in films]), boxes


def _name(examples: Sequence[Example], config: TrainConfig, film: np.ndarray, augmented: bool) -> str:
    """Name views by everything that they depend on."""
    base = config.base_weights if config.base_weights == IMAGENET else sha256(config.base_weights)
    key = hashlib.sha256("".join(content_hashes(examples)).encode() + film.tobytes())
    key.update(repr([example.boxes for example in examples]).encode())
    key.update(repr((base, config.size, config.film_size, config.frozen, config.steps)).encode())
    key.update(inspect.getsource(tone).encode())
    if augmented:
        key.update(repr((config.augmentation, config.acquisition)).encode())
        key.update((inspect.getsource(augment) + inspect.getsource(changes)).encode())
    return key.hexdigest()[:16]


def _build(config: TrainConfig) -> keras.Model:
    with quickest_precision():
        model = networks.front(config.size, config.frozen)
        load_base(model, config)
    return model


def _open(
    place: Path, shape: tuple[int, ...], count: int, config: TrainConfig, new: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Open the two arrays for writing; `new` ones are made."""
    positions = config.size // networks.POSITION
    shapes = {"features": (count, *shape), "covered": (count, positions, positions)}
    if new:
        opened = [
            np.lib.format.open_memmap(place / f"{name}.npy", "w+", np.float16, one) for name, one in shapes.items()
        ]
    else:
        opened = [np.lib.format.open_memmap(place / f"{name}.npy", "r+") for name in shapes]
    return opened[0], opened[1]
