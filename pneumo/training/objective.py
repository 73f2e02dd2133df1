"""What VGG-16 is trained for: the label, less what acquisition alone tells of it.

Answers are (n, 2): the target, 0 or 1, and the film's nuisance score (`audit.nuisance_score`), 0 where it is not to be
used. Networks answer with logits, (n, 1). For the base they are (n, 4) and (n, 3): one of AETIOLOGIES instead of the
target.
"""

from collections.abc import Callable

import keras
import numpy as np
from sklearn.metrics import log_loss

from pneumo.data.dataset import AETIOLOGIES
from pneumo.evaluation.calibration import fit_platt
from pneumo.evaluation.matching import find_contradicted
from pneumo.model.card import sigmoid
from pneumo.training.batches import Views
from pneumo.training.recipes import TrainConfig

MOST = 4.0  # of a nuisance score: beyond, a film would teach nothing, or be learned by heart
PNEUMONIA = np.array([[float(aetiology != "normal") for aetiology in AETIOLOGIES]], np.float32)  # (1, 3)


def answers(target: np.ndarray, score: np.ndarray | None = None) -> np.ndarray:
    """Targets (n,), or aetiologies (n, 3), and nuisance scores (n,), joined for Keras: (n, 2) or (n, 4) float32."""
    score = np.zeros(len(target)) if score is None else np.clip(score, -MOST, MOST)
    return np.column_stack([target, score]).astype(np.float32)


def loss(config: TrainConfig) -> Callable:
    """Binary cross-entropy (n,) of answers and logits, changed as `config` says.

    `experts` adds that much of the nuisance score to the logit in training, so that the network is left with what
    acquisition does not explain (Clark et al. 2019, arXiv 1909.03683; He et al. 2019, arXiv 1908.10763).
    `independent` adds that much of the squared correlation of logit and nuisance score within each class.
    `smoothing` moves the targets that far from 0 and 1 towards one half (Szegedy et al., arXiv 1512.00567).
    """

    def value(answer: keras.KerasTensor, logit: keras.KerasTensor) -> keras.KerasTensor:
        ops = keras.ops
        target, score = answer[:, :1], answer[:, 1:]
        smooth = target * (1 - config.smoothing) + config.smoothing / 2
        each = ops.binary_crossentropy(smooth, logit + config.experts * score, from_logits=True)[:, 0]
        return each + _dependence(config.independent, logit, score, target)

    return value


def aetiology_loss(smoothing: float, experts: float, independent: float) -> Callable:
    """Cross-entropy (n,) of answers (n, 4) and logits (n, 3), changed as in `loss`.

    The nuisance score counts for both kinds of pneumonia; the logit of pneumonia is that of either against normal.
    """

    def value(answer: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        ops = keras.ops
        aetiology, score = answer[:, :-1], answer[:, -1:]
        smooth = aetiology * (1 - smoothing) + smoothing / len(AETIOLOGIES)
        each = ops.categorical_crossentropy(smooth, logits + experts * score * PNEUMONIA, from_logits=True)
        logit = ops.logsumexp(logits[:, 1:], axis=1, keepdims=True) - logits[:, :1]
        return each + _dependence(independent, logit, score, 1 - aetiology[:, :1])

    return value


def _dependence(price: float, logit: keras.KerasTensor, score: keras.KerasTensor, target: keras.KerasTensor) -> object:
    """`price` times the squared correlation of logit and nuisance score within each class; all (n, 1)."""
    if not price:
        return 0.0
    ill = keras.ops.cast(target > 0.5, "float32")
    return price * (_correlation_squared(logit, score, ill) + _correlation_squared(logit, score, 1 - ill)) / 2


def _correlation_squared(x: keras.KerasTensor, y: keras.KerasTensor, member: keras.KerasTensor) -> keras.KerasTensor:
    """Of (n, 1) columns, over the films with `member` 1; 0 where either does not vary."""
    ops = keras.ops
    weights = member / ops.maximum(ops.sum(member), 1)
    x, y = (values - ops.sum(weights * values) for values in (x, y))
    covariance, variances = ops.sum(weights * x * y), ops.sum(weights * x * x) * ops.sum(weights * y * y)
    return ops.square(covariance) / (variances + 1e-6)


class Auc(keras.metrics.AUC):
    """AUC of answers and logits."""

    def __init__(self) -> None:
        super().__init__(from_logits=True, name="AUC")

    def update_state(self, answer: object, logit: object, sample_weight: object = None) -> None:
        super().update_state(answer[:, :1], logit, sample_weight)


def accuracy(answer: keras.KerasTensor, logit: keras.KerasTensor) -> keras.KerasTensor:
    """1 where the logit lies on the side of the target, else 0: (n,)."""
    return keras.ops.cast((logit[:, 0] > 0) == (answer[:, 0] > 0.5), "float32")


def aetiology_accuracy(answer: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
    """1 where the largest logit (n, 3) is that of the aetiology in the answer (n, 4), else 0: (n,)."""
    return keras.metrics.categorical_accuracy(answer[:, :-1], logits)


def calibrated_loss(target: np.ndarray, logit: np.ndarray) -> float:
    """Cross-entropy of targets (n,) and logits (n,) that were calibrated on the same films, as the served ones are.

    A network that was trained with nuisance scores answers without them: its raw logits lie off, by whatever the scores
    said on average. Logits that do not rise with pneumonia count as if they said nothing.
    """
    try:
        slope, intercept = fit_platt(target, logit)
    except ValueError:
        return float(log_loss(target, np.full(len(target), np.mean(target)), labels=[0, 1]))
    return float(log_loss(target, sigmoid(slope * np.asarray(logit, float) + intercept), labels=[0, 1]))


class CalibratedLoss(keras.callbacks.Callback):
    """After every epoch adds `name` to its logs: `calibrated_loss` of films whose targets are (n,)."""

    name = "val_calibrated"

    def __init__(self, films: Views, target: np.ndarray) -> None:
        super().__init__()
        self.films, self.target = films, target

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs[self.name] = calibrated_loss(self.target, self.model.predict(self.films, verbose=0)[:, 0])


class WorstGroups(keras.callbacks.Callback):
    """Before every epoch, weighs four groups of films by exp(`step` · loss of the group), 1 on average.

    The groups are the films of each label whose acquisition contradicts it, and the others: group DRO (Sagawa et al.,
    arXiv 1911.08731), with the weights of an epoch instead of a batch.
    """

    def __init__(self, train: Views, step: float) -> None:
        super().__init__()
        target, score = train.targets.T
        self.train, self.step, self.target, self.before = train, step, target, train.weights
        self.group = 2 * target.astype(int) + find_contradicted(target, score)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        whole = Views(self.train.views, self.train.targets, self.train.batch)
        whole.start(epoch)
        logit = self.model.predict(whole, verbose=0)[:, 0]
        loss = np.logaddexp(0, np.where(self.target == 1, -logit, logit))
        counts = np.bincount(self.group)
        factor = np.exp(self.step * np.bincount(self.group, loss) / counts)[self.group]
        self.train.weights = (self.before * factor / np.average(factor, weights=self.before)).astype(np.float32)
