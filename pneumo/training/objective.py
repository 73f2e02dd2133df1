"""What the epoch of VGG-16's top is chosen by: the loss of its logits once they are calibrated, as they are served."""

import keras
import numpy as np
from sklearn.metrics import log_loss

from pneumo.evaluation.calibration import fit_platt
from pneumo.model.card import sigmoid
from pneumo.training.batches import Views


def calibrated_loss(target: np.ndarray, logit: np.ndarray) -> float:
    """Cross-entropy of targets (n,) and logits (n,) after calibration on the same films, as the served model's are.

    Where the logits lie and how far apart does not matter. Logits that do not rise with pneumonia count as if they were
    constant.
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
