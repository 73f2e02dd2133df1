"""What VGG-16's top is trained for: the label, less what acquisition alone tells of it.

Answers are (n, 2) float32: the target, 0 or 1, and the film's acquisition score (`matching.score_films`), 0 where it is
unknown. The network answers with logits, (n, 1).
"""

from collections.abc import Callable

import keras
import numpy as np
from sklearn.metrics import log_loss

from pneumo.evaluation.calibration import fit_platt
from pneumo.model.card import sigmoid
from pneumo.training.batches import Views

MOST = 4.0  # acquisition scores are clipped to ±MOST: a film beyond would teach nothing, or be learned by heart


def answers(target: np.ndarray, score: np.ndarray | None = None) -> np.ndarray:
    """Join targets (n,) and acquisition scores (n,) for Keras: (n, 2) float32."""
    score = np.zeros(len(target)) if score is None else np.clip(score, -MOST, MOST)
    return np.column_stack([target, score]).astype(np.float32)


def loss(experts: float = 0.0, independent: float = 0.0) -> Callable:
    """Make the loss: answers (n, 2) and logits (n, 1) -> binary cross-entropy (n,).

    In training `experts` times the acquisition score is added to the logit, so that the network learns what acquisition
    does not explain (Clark et al. 2019, arXiv 1909.03683; He et al. 2019, arXiv 1908.10763). `independent` times the
    squared correlation of logit and acquisition score within each class is added to the loss.
    """

    def value(answer: keras.KerasTensor, logit: keras.KerasTensor) -> keras.KerasTensor:
        ops = keras.ops
        target, score = answer[:, :1], answer[:, 1:]
        each = ops.binary_crossentropy(target, logit + experts * score, from_logits=True)[:, 0]
        if not independent:
            return each
        ill = ops.cast(target > 0.5, "float32")
        squared = _correlation_squared(logit, score, ill) + _correlation_squared(logit, score, 1 - ill)
        return each + independent * squared / 2

    return value


def _correlation_squared(x: keras.KerasTensor, y: keras.KerasTensor, member: keras.KerasTensor) -> keras.KerasTensor:
    """Squared correlation of two (n, 1) columns over the films whose `member` is 1; 0 where either does not vary."""
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
        """Add a batch."""
        super().update_state(answer[:, :1], logit, sample_weight)


def accuracy(answer: keras.KerasTensor, logit: keras.KerasTensor) -> keras.KerasTensor:
    """Return 1 where the logit lies on the side of the target, else 0: (n,)."""
    return keras.ops.cast((logit[:, 0] > 0) == (answer[:, 0] > 0.5), "float32")


def calibrated_loss(target: np.ndarray, logit: np.ndarray) -> float:
    """Cross-entropy of targets (n,) and logits (n,) after calibration on the same films, as the served model's are.

    A network that was trained with acquisition scores answers without them, so its raw logits are shifted by what the
    scores gave on average. Logits that do not rise with pneumonia count as if they were constant.
    """
    try:
        slope, intercept = fit_platt(target, logit)
    except ValueError:
        slope, intercept = 0.0, np.log(np.mean(target) / (1 - np.mean(target)))
    return float(log_loss(target, sigmoid(slope * np.asarray(logit, float) + intercept), labels=[0, 1]))


class CalibratedLoss(keras.callbacks.Callback):
    """Adds `calibrated_loss` of `films`, whose targets are (n,), to the logs of every epoch."""

    name = "val_calibrated"

    def __init__(self, films: Views, target: np.ndarray) -> None:
        super().__init__()
        self.films, self.target = films, target

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Measure it."""
        logs[self.name] = calibrated_loss(self.target, self.model.predict(self.films, verbose=0)[:, 0])
