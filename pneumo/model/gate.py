"""The gate decides whether a picture is a frontal chest film, from features of the forward pass that gives the answer.

A linear classifier names what the picture is: an upright frontal film, a turned or inverted film, a lateral film, or
something else. A distance to the training films catches what the classifier never saw (Lee et al., arXiv 1807.03888),
and names films that are unlike those of every population of the model. The probability itself cannot tell: a model
with one logit answers a photograph as firmly as a film.
"""

import io
from dataclasses import dataclass, replace

import numpy as np

from pneumo.errors import ModelError

FRONTAL, OTHER = "frontal", "other"
LATERAL, CT, BODY_PART, PHOTOGRAPH = "lateral", "ct", "body_part", "photograph"
REASONS = {
    "upside_down": "a chest film that is upside down. Turn it by 180° and send it again",
    "sideways": "a chest film that lies on its side. Turn it by 90° and send it again",
    "negative": "a chest film with dark bones (a negative). Invert it and send it again",
    LATERAL: "a chest film from the side. Send the frontal one",
    CT: "a slice of a CT scan",
    BODY_PART: "a film of another part of the body",
    PHOTOGRAPH: "a photograph",
    OTHER: "a picture that does not look like one",
}
KINDS = (FRONTAL, *REASONS)
ARRAYS = ("weights", "bias", "centre", "whitening")
LIMITS = ("least_frontal", "sure_frontal", "largest_distance", "sure_distance")
FAMILIAR_SHARE = 0.95  # of a site's own films, after its calibration


@dataclass(frozen=True)
class Verdict:
    """What the gate says about one picture.

    `kind` is one of KINDS; `frontal`, 0..1, is the classifier's probability of an upright frontal film; `distance`, 0
    or more, is the distance to the training films. A `refused` picture is not read; a `doubtful` one is read with a
    warning. What was measured on the training films does not hold for a film that is not `familiar`.
    """

    kind: str
    frontal: float
    distance: float
    refused: bool
    doubtful: bool
    familiar: bool

    @property
    def reason(self) -> str:
        """What the picture was taken for: the end of the sentence "Expected a frontal chest film, received …"."""
        return REASONS[self.kind]


@dataclass(frozen=True)
class Site:
    """Where a site's own films lie: their mean features, `centre` (d,) float32.

    `reach`, 1 or more, says how much further they scatter than the training films: distances to `centre` are divided
    by it.
    """

    centre: np.ndarray
    reach: float


@dataclass(frozen=True)
class Gate:
    """The gate's parameters for features of length d, and its limits.

    `centre` (p, d) are the mean features of the films of each population. `weights` (d, n) and `bias` (n,) classify
    features less the first centre over `kinds`, of which FRONTAL is the first and OTHER the last. `whitening` (d, k)
    gives the distance, that to the nearest centre, divided by its `reach` (p,). All arrays are float32. A picture is
    refused below `least_frontal` or beyond `largest_distance`; it is doubtful below `sure_frontal` or beyond
    `sure_distance`, there not familiar.
    """

    kinds: tuple[str, ...]

    weights: np.ndarray
    bias: np.ndarray
    centre: np.ndarray
    whitening: np.ndarray
    least_frontal: float
    sure_frontal: float
    largest_distance: float
    sure_distance: float
    reach: np.ndarray | float = 1.0

    def with_site(self, site: Site | None) -> "Gate":
        """Return the gate that knows the films of a site, too; without a site, this one.

        Raises:
            ModelError: the site's centre has other features.
        """
        if site is None:
            return self
        if site.centre.shape != self.centre.shape[1:]:
            raise ModelError(
                f"Expected a site profile with a centre of {self.centre.shape[1]} features, received "
                f"{site.centre.size}. Calibrate this model on the site's films again."
            )
        reach = np.append(np.broadcast_to(self.reach, len(self.centre)), site.reach)
        return replace(self, centre=np.vstack([self.centre, site.centre]), reach=reach.astype(np.float32))

    def find_site(self, features: np.ndarray) -> tuple[Site, np.ndarray]:
        """Find centre and reach of a site's films by their features, (n, d) with n of 2 or more.

        The other value is the distance (n,) of each film, by that reach, from the centre of the others. By choice of
        the reach FAMILIAR_SHARE of them are familiar, unless they scatter so far that others would be refused.
        """
        rest = (features.sum(axis=0) - features) / (len(features) - 1)  # (n, d) each film's centre of the others
        distance = np.sqrt(np.mean(((features - rest) @ self.whitening) ** 2, axis=1))
        wanted = np.quantile(distance, FAMILIAR_SHARE) / self.sure_distance
        reach = max(1.0, float(min(wanted, self.largest_distance / self.sure_distance)))
        return Site(features.mean(axis=0).astype(np.float32), reach), distance / reach

    def judge(self, features: np.ndarray) -> Verdict:
        """Judge one picture by its features, (d,) float32."""
        centred = features - self.centre  # (p, d)
        logits = centred[0] @ self.weights + self.bias  # (n,)
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        # `@` would start BLAS threads; they spin for a while and slow the network's next pass by a third
        white = np.einsum("pd,dk->pk", centred, self.whitening)
        distance = float((np.sqrt(np.mean(white**2, axis=1)) / self.reach).min())
        frontal = float(probabilities[0])
        far, unlike = distance > self.largest_distance, frontal < self.least_frontal
        kind = self.kinds[1 + int(probabilities[1:].argmax())] if far or unlike else FRONTAL
        if far and probabilities.argmax() == 0:  # so far from every film, the classifier's guess means nothing
            kind = OTHER
        familiar = distance <= self.sure_distance
        return Verdict(kind, frontal, distance, far or unlike, frontal < self.sure_frontal or not familiar, familiar)


def flatten(outputs: list[np.ndarray]) -> np.ndarray:
    """Join the averages over each layer's upper and lower half, (1, 2, 1, C) each -> (d,) float32, log(1 + x).

    After a ReLU the averages are 0 or more and skewed; their logarithms are closer to a normal distribution.
    """
    return np.log1p(np.concatenate([output.ravel() for output in outputs]).clip(0)).astype(np.float32)


def read_gate(data: bytes, told: dict) -> Gate:
    """Read the gate's parameters from the bytes of its .npz file; `told` is what the card says: kinds and limits.

    Raises:
        ModelError: an array, a limit or the kinds are missing, or they do not fit together.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            arrays = {name: stored[name].astype(np.float32) for name in ARRAYS}
        arrays["centre"] = np.atleast_2d(arrays["centre"])
        gate = Gate(tuple(told["kinds"]), **arrays, **{name: float(told["limits"][name]) for name in LIMITS})
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise ModelError(f"The gate is incomplete or damaged: {error!r}.") from None
    n, d = len(gate.kinds), gate.centre.shape[1]
    fit = gate.weights.shape == (d, n) and gate.bias.shape == (n,) and len(gate.whitening) == d
    if not fit or gate.kinds[0] != FRONTAL or not set(gate.kinds) <= set(KINDS):
        raise ModelError("The arrays of the gate do not fit together.")
    return gate
