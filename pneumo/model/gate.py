"""Is this a frontal chest film at all? Told from features of the same forward pass that gives the answer.

A linear classifier names what the picture is (upright frontal film, film turned or inverted, something else), and a
distance to the films that were learned from catches what no classifier was shown (Lee et al., arXiv 1807.03888). The
energy or the probability of a one-logit model would carry nothing about this.
"""

import io
from dataclasses import dataclass

import numpy as np

from pneumo.errors import ModelError

FRONTAL, OTHER = "frontal", "other"
KINDS = (FRONTAL, "upside_down", "sideways", "negative", OTHER)
REASONS = {
    "upside_down": "a chest film that is upside down. Turn it by 180° and send it again",
    "sideways": "a chest film that lies on its side. Turn it by 90° and send it again",
    "negative": "a chest film with dark bones (a negative). Invert it and send it again",
    OTHER: "a picture that does not look like one",
}
ARRAYS = ("weights", "bias", "centre", "whitening")
LIMITS = ("least_frontal", "sure_frontal", "largest_distance", "sure_distance")


@dataclass(frozen=True)
class Verdict:
    """What the gate says: `kind` of KINDS, `frontal` 0..1 how much it looks like a frontal film, `distance` 0 or more.

    `refused` pictures are not answered; `doubtful` ones are, with a warning.
    """

    kind: str
    frontal: float
    distance: float
    refused: bool
    doubtful: bool

    @property
    def reason(self) -> str:
        """What it was taken for, to end the sentence "Expected a frontal chest film, received …"."""
        return REASONS[self.kind]


@dataclass(frozen=True)
class Gate:
    """Parameters for features of length d: `weights` (d, KINDS), `bias` (KINDS,), `centre` (d,), `whitening` (d, k).

    A picture is refused below `least_frontal` or beyond `largest_distance`; it is doubtful below `sure_frontal` or
    beyond `sure_distance`.
    """

    weights: np.ndarray
    bias: np.ndarray
    centre: np.ndarray
    whitening: np.ndarray
    least_frontal: float
    sure_frontal: float
    largest_distance: float
    sure_distance: float

    def judge(self, features: np.ndarray) -> Verdict:
        """Say of one picture's features (d,) float32 what it is."""
        apart = features - self.centre
        logits = apart @ self.weights + self.bias
        share = np.exp(logits - logits.max())
        share /= share.sum()
        distance = float(np.sqrt(np.mean((apart @ self.whitening) ** 2)))
        frontal = float(share[0])
        far, unlike = distance > self.largest_distance, frontal < self.least_frontal
        kind = KINDS[1 + int(share[1:].argmax())] if far or unlike else FRONTAL
        if far and share.argmax() == 0:  # that far from every film the classifier's guess means nothing
            kind = OTHER
        doubtful = frontal < self.sure_frontal or distance > self.sure_distance
        return Verdict(kind, frontal, distance, far or unlike, doubtful)


def flatten(outputs: list[np.ndarray]) -> np.ndarray:
    """Averages over the upper and the lower half of several layers, (1, 2, 1, C) each -> (d,) float32 on a log scale.

    After a ReLU averages are 0 or more and skewed; their logarithms are nearer to normal.
    """
    return np.log1p(np.concatenate([output.ravel() for output in outputs]).clip(0)).astype(np.float32)


def read_gate(data: bytes, limits: dict) -> Gate:
    """Read the parameters in the file that `gate_training` wrote and join them with the card's limits.

    Raises:
        ModelError: an array is missing or the arrays do not fit together.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name].astype(np.float32) for name in ARRAYS}
        gate = Gate(**arrays, **{name: float(limits[name]) for name in LIMITS})
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise ModelError(f"The gate lacks what the code reads: {error!r}.") from None
    d = len(gate.centre)
    if gate.weights.shape != (d, len(KINDS)) or gate.bias.shape != (len(KINDS),) or len(gate.whitening) != d:
        raise ModelError("The arrays of the gate do not fit together.")
    return gate
