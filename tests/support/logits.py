"""Films of a network whose calibration is known."""

import numpy as np

from pneumo.model.card import sigmoid


def many_logits(slope, intercept, count=1000):
    """Targets, logits and patients of films whose probability is sigmoid(slope · logit + intercept), two a patient."""
    rng = np.random.default_rng(0)
    logit = 2 * rng.standard_normal(count)
    return (rng.random(count) < sigmoid(slope * logit + intercept)).astype(int), logit, np.arange(count) // 2
