"""Is this the film of a child or of an adult? Told by the patient's age, else by the request, else by the pixels.

Each population of a card has its own calibration and operating points, so the same logit means another probability
there. What the pixels say comes from features of the same forward pass that gives the answer.
"""

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pneumo.errors import ModelError
from pneumo.model.gate import Site

# The pixels settle nothing below this share, and contradict age or request only from it on.
SURE = 0.95
ADULT = 18  # years
YEARS = (1, 5)  # ages of the patients of a card that names none


@dataclass(frozen=True)
class Population:
    """Films of patients of some ages, and what follows from a logit there; see `Card` for all but `ages` and `site`.

    `ages` are the years, first and last, of the patients that the model is meant for and has seen; None is no limit.
    `site` is where a profile says that the site's own films of this population lie.
    """

    ages: tuple[int, int | None]
    thresholds: dict[str, float]
    slope: float
    intercept: float
    heatmap_floor: float
    heatmap_scale: float
    sharpness: float = 0.0
    site: Site | None = field(default=None, compare=False)

    def numbers(self) -> dict:
        """All that `Card` has too, by name."""
        return {name: value for name, value in vars(self).items() if name not in ("ages", "site")}

    def years_away(self, age: float) -> int:
        """How many whole years an age lies outside `ages`; 0 inside, up to the day before the next birthday."""
        first, last = self.ages
        return max(first - int(age), 0, 0 if last is None else int(age) - last)

    def told(self) -> str:
        """The ages in words, to follow "patients"."""
        first, last = self.ages
        return f"of {first} years and older" if last is None else f"of {first} to {last} years"


def read_population(contents: Mapping, thresholds: dict[str, float]) -> Population:
    """Read a population's numbers from a card's JSON that has them at the top.

    Raises:
        KeyError, TypeError: a member is missing.
        ValueError: a number is not finite, or a slope or scale is not above 0.
    """
    first, last = contents.get("ages", YEARS)
    population = Population(
        ages=(int(first), None if last is None else int(last)),
        thresholds=thresholds,
        slope=float(contents["calibration"]["slope"]),
        intercept=float(contents["calibration"]["intercept"]),
        heatmap_floor=float(contents["heatmap"]["floor"]),
        heatmap_scale=float(contents["heatmap"]["scale"]),
        sharpness=float(contents["heatmap"].get("sharpness", 0.0)),
    )
    positive, other = (population.slope, population.heatmap_scale), (population.intercept, population.heatmap_floor)
    numbers = (*positive, *other, population.sharpness)
    if not (all(map(math.isfinite, numbers)) and min(positive) > 0 and population.sharpness >= 0):
        raise ValueError(f"Expected finite numbers, slope and heatmap scale above 0, received {numbers}.")
    return population


@dataclass(frozen=True)
class Applied:
    """The population whose numbers a film is read by: `by` is `age`, `request`, `pixels`, or `model` if it knows one.

    `warnings` say where these contradict each other, or where none of them settles it.
    """

    name: str
    by: str
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Row:
    """What the pixels say: `weights` (d, n) and `bias` (n,) of a logistic regression on the gate's features (d,).

    `names` are the n populations, in that order.
    """

    names: tuple[str, ...]
    weights: np.ndarray
    bias: np.ndarray

    def shares(self, features: np.ndarray) -> dict[str, float]:
        """How much a film's features (d,) float32 look like those of each population; together 1."""
        logits = features @ self.weights + self.bias
        parts = np.exp(logits - logits.max())
        return dict(zip(self.names, (parts / parts.sum()).tolist(), strict=True))


def read_row(data: bytes, names: tuple[str, ...]) -> Row | None:
    """Read the row of a gate's file for the populations of a card; None where the card knows one only.

    Raises:
        ModelError: there is none, or one of other populations.
    """
    if len(names) == 1:
        return None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            row = Row(
                tuple(stored["populations"].tolist()),
                stored["population_weights"].astype(np.float32),
                stored["population_bias"].astype(np.float32),
            )
    except (KeyError, OSError, ValueError) as error:
        raise ModelError(f"The gate tells no populations apart: {error!r}.") from None
    if sorted(row.names) != sorted(names) or row.weights.shape[1:] != row.bias.shape or len(row.bias) != len(names):
        raise ModelError(f"Expected a gate that tells {' and '.join(names)} apart, received {' and '.join(row.names)}.")
    return row


def choose(
    populations: Mapping[str, Population], age: float | None, asked: str | None, shares: Mapping[str, float] | None
) -> Applied:
    """Which of `populations` applies to a film.

    `age` is in years, None where the file does not tell it; `asked` is what the request says, one of them or None;
    `shares` is what the `Row` says. An age between two populations is that of the nearer one, with a warning.
    """
    shares = shares if len(populations) > 1 else None
    seen = " and ".join(population.told() for population in populations.values())
    warnings = []
    if age is not None:
        name = min(populations, key=lambda one: populations[one].years_away(age))
        if populations[name].years_away(age):
            old = f"{int(age)} years old" if age >= 1 else "less than a year old"
            old = f"an adult ({old})" if age >= ADULT else old
            warnings.append(f"The patient is {old}: the model has only seen patients {seen}.")
    else:
        name = asked or max(shares or populations, key=(shares or dict.fromkeys(populations, 0)).get)
    by = "model" if len(populations) == 1 else "age" if age is not None else "request" if asked else "pixels"
    if asked not in (None, name):
        warnings.append(f"The request says {asked}, the file's PatientAge says {name}: read as {name}.")
    if shares:
        look = max(shares, key=shares.get)
        if by == "pixels" and shares[look] < SURE:
            warnings.append(
                f"Neither file nor request says how old the patient is, and the film does not show it clearly: read as "
                f"{name}. If that is wrong, say which of {', '.join(populations)} it is."
            )
        elif look != name and shares[look] >= SURE:
            source = "file's PatientAge" if by == "age" else "request"
            warnings.append(f"The {source} says {name}, but the film looks like that of {look}: is it the right film?")
    return Applied(name, by, tuple(warnings))
