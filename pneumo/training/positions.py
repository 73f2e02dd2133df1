"""What the map's positions are taught: to speak inside radiologists' boxes, and to be silent elsewhere.

A film's own answer is soft where a program took its label from a report. Batches are drawn so that every film appears
as often as its weight says (`sources.weigh_films`).
"""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

from pneumo.data.dataset import OTHER, Example
from pneumo.data.sources import find_population
from pneumo.model.card import CHILD
from pneumo.model.heatmap import pool
from pneumo.training.networks import LOGIT_NAME, MAP_NAME
from pneumo.training.objective import calibrated_loss
from pneumo.training.views import StoredViews

SMOOTH = 0.015  # how far the answer for a film that was read is from 0 or 1
TEXT = {"PNEUMONIA": 0.65, OTHER: 0.1, "NORMAL": 0.03}  # the answer for a film labelled by text: reports name less
SILENT = {"PNEUMONIA": 0.0, OTHER: 0.25, "NORMAL": 0.5}  # how much it counts that no position speaks in a film
RING = 0.25  # the same for the outermost positions of a pneumonia without boxes: no lung lies there
INSIDE = 0.3  # positions: an opacity that the augmentation moved out of the film has fewer
POINTING = 2.0  # against the two halves, inside and outside


def name_population(example: Example) -> str:
    """Name the population of a film: where nothing tells the age the patient is a child, as in the first source."""
    return find_population(example) or CHILD


def make_answers(examples: Sequence[Example]) -> np.ndarray:
    """Make the films' answers: the probability that each is a pneumonia, (n, 1) float32."""
    read = [SMOOTH + (1 - 2 * SMOOTH) * example.target for example in examples]
    answers = [TEXT[e.label] if e.by_text else one for e, one in zip(examples, read, strict=True)]
    return np.array(answers, np.float32)[:, None]


def weigh_positions(example: Example, covered: np.ndarray) -> np.ndarray:
    """Weigh what the positions of a film are asked: (p, p) shares that lie in boxes -> (p, p, 2) float32.

    The first of the two is how much it counts that a position speaks, the second that it is silent. In a film with
    boxes each sums to 1: half of the weight is inside, half outside, however small the box is.
    """
    speak, silent = np.zeros(covered.shape, np.float32), np.zeros(covered.shape, np.float32)
    if example.boxes and covered.sum() > INSIDE:
        speak = covered / covered.sum()
        silent = (1 - covered) / max(float((1 - covered).sum()), 1.0)
    elif example.target:
        ring = np.ones(covered.shape, np.float32)
        ring[1:-1, 1:-1] = 0
        silent = RING * ring / ring.sum()
    else:
        silent += SILENT[example.label] / silent.size * (0.5 if example.by_text else 1.0)
    return np.stack([speak, silent], axis=-1).astype(np.float32)


def position_loss(wanted: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """Compute the loss of maps of logits (n, p, p, 1), given what `weigh_positions` makes, (n, p, p, 2): (n,).

    Cross-entropy at every position, by its weight; and in films with boxes, POINTING times the cross-entropy of "the
    strongest position lies in a box", the positions' shares being their softmax.
    """
    ops = keras.ops
    logit, speak, silent = logits[..., 0], wanted[..., 0], wanted[..., 1]
    each = ops.sum(speak * ops.softplus(-logit) + silent * ops.softplus(logit), axis=(1, 2))
    inside = speak / ops.maximum(ops.max(speak, axis=(1, 2), keepdims=True), 1e-6)
    boxed = ops.cast(ops.max(speak, axis=(1, 2)) > 0, "float32")
    missed = ops.logsumexp(logit, axis=(1, 2)) - ops.logsumexp(logit + ops.log(inside + 1e-6), axis=(1, 2))
    return each + POINTING * boxed * missed


class Drawn(keras.utils.PyDataset):
    """Batches of views: features (batch, h, w, filters) and sharpness (batch, 1), float32, and the answers.

    Each film's map is pooled with its `sharpness` (n,), see `heatmap.pool`. An epoch has `steps` batches. Each is a
    fair sample by the films' weights (n,), cell by cell, so that hardly any batch lacks a kind of film; a film's views
    take turns. A batch depends on (seed, epoch, index) alone.
    """

    def __init__(
        self,
        views: StoredViews,
        examples: Sequence[Example],
        weights: np.ndarray,
        sharpness: np.ndarray,
        cells: Sequence[str],
        batch: int,
        steps: int,
        seed: int,
    ) -> None:
        super().__init__(workers=1, use_multiprocessing=False, max_queue_size=4)
        self.views, self.examples, self.weights = views, examples, np.asarray(weights, float)
        self.cells = np.unique(np.asarray(cells), return_inverse=True)[1]
        self.batch, self.steps, self.seed = batch, steps, seed
        self.answers, self.sharpness = make_answers(examples), np.asarray(sharpness, np.float32)[:, None]
        order = np.argsort(views.film, kind="stable")
        self.rows = np.split(order, np.searchsorted(views.film[order], np.arange(1, len(examples))))
        self.start(epoch=0)

    def start(self, epoch: int) -> None:
        """Draw the views of `epoch`."""
        random = np.random.default_rng((self.seed, epoch))
        order = random.permutation(len(self.examples))
        order = order[np.argsort(self.cells[order], kind="stable")]  # films of a cell side by side
        upto = np.cumsum(self.weights[order])
        count = self.batch * self.steps
        ticks = (np.arange(count) + random.random()) * upto[-1] / count
        films = order[np.searchsorted(upto, ticks, side="right").clip(max=len(order) - 1)]
        seen: dict[int, int] = {}
        chosen = []
        for film in films.tolist():
            turn = seen.setdefault(film, epoch)
            seen[film] = turn + 1
            chosen.append(self.rows[film][turn % len(self.rows[film])])
        # every batch gets one of each run of `steps` ticks: a film of many ticks is not in neighbouring batches only
        self.chosen = random.permuted(np.array(chosen).reshape(self.batch, self.steps), axis=1).T

    def __len__(self) -> int:
        """Count the batches of an epoch."""
        return self.steps

    def __getitem__(self, index: int) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, np.ndarray]]:
        """Make batch `index` of this epoch."""
        rows = self.chosen[index]
        films = self.views.film[rows]
        wanted = [
            weigh_positions(self.examples[i], self.views.covered[row].astype(np.float32))
            for i, row in zip(films, rows, strict=True)
        ]
        answers = {LOGIT_NAME: self.answers[films], MAP_NAME: np.stack(wanted)}
        return (self.views.features[rows].astype(np.float32), self.sharpness[films]), answers


def list_cells(examples: Sequence[Example]) -> list[str]:
    """Name the kind of each film: source, label, view, and whether it was read."""
    return [f"{e.source} {e.label} {e.view} {e.by_text}" for e in examples]


class HeldOut(keras.callbacks.Callback):
    """Adds to an epoch's logs how held-out films are read: in each population the films that were read, by `name`.

    `val_calibrated` is the mean over the populations of `objective.calibrated_loss`, `val_AUC_NAME` the AUC of each,
    and `val_pointing` in how many films with boxes the strongest position lies in one, half of it or more.
    """

    name = "val_calibrated"

    def __init__(
        self, views: StoredViews, examples: Sequence[Example], sharpness: Mapping[str, float], batch: int
    ) -> None:
        super().__init__()
        self.views, self.sharpness, self.batch = views, sharpness, batch
        self.target = np.array([example.target for example in examples])
        groups = [name_population(e) for e in examples]
        self.members = {
            name: [i for i, group in enumerate(groups) if group == name and not examples[i].by_text]
            for name in dict.fromkeys(groups)
        }
        self.boxed = [i for i, example in enumerate(examples) if example.boxes]

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Compute the maps, and measure."""
        maps = predict_maps(self.model, self.views.features, self.batch)
        losses = []
        for name, members in self.members.items():
            target = self.target[members]
            if len(set(target.tolist())) == 2:
                logit = pool(maps[members], self.sharpness[name])
                losses.append(calibrated_loss(target, logit))
                logs[f"val_AUC_{name}"] = float(roc_auc_score(target, logit))
        if self.boxed:
            found = [self.views.covered[i].ravel()[maps[i].argmax()] for i in self.boxed]
            logs["val_pointing"] = float(np.mean(np.array(found, float) >= 0.5))
        logs[self.name] = float(np.mean(losses))


def predict_maps(model: keras.Model, features: np.ndarray, batch: int) -> np.ndarray:
    """Compute the maps of logits from features of the frozen layers, batch by batch: (n, p, p) float32."""
    ends = keras.Model(model.inputs[0], model.get_layer(MAP_NAME).output)
    found = [
        ends.predict_on_batch(features[at : at + batch].astype(np.float32)) for at in range(0, len(features), batch)
    ]
    return np.concatenate(found)[..., 0]
