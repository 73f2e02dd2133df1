"""The model card: a JSON file beside the model that the code reads. Nothing it says is said again in code.

`models/NAME.json` names the served model, its hash, input size, labels, calibration, operating points, metrics and
origin. A site's profile (`pneumo.model.profile`) replaces the operating points and nothing else.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from pneumo import LABELS
from pneumo.errors import ModelError, OperatingPointError, PopulationError
from pneumo.model.population import Population

MODELS = Path(__file__).resolve().parents[2] / "models"
RECIPE_CARDS = MODELS / "recipes"  # of the models of `pneumo train --recipe`
DEFAULT_MODEL = "vgg16-chest-xray"
POINTS = ("screening", "balanced", "specific")  # operating points, of rising threshold
TRIAGE = ("rule-out", "uncertain", "rule-in")  # below the lowest threshold, between, at the highest or above
CHILD, YEARS = "child", (1, 5)  # the population of a card that names none, and the ages of its patients


@dataclass(frozen=True)
class Card:
    """What the code reads of a card; `contents` is the whole JSON.

    `probability = sigmoid(slope · logit + intercept)`; a film is PNEUMONIA from the threshold of its operating point
    on. `thresholds` has that of each of POINTS, `profile` the name of the site's profile that they are of, if any.
    A position is drawn from the logit `heatmap_floor` on, `heatmap_scale` above it in full colour.
    `feature_shapes` are those of the outputs that the gate looks at. `steps` are those of `preprocessing.STEPS` that
    the film goes through once it is squashed.

    All numbers of a Population are here those of `population`, one of `populations`; `of` gives the card of another.
    """

    path: Path
    name: str
    version: str
    size: int
    steps: tuple[str, ...]
    output_shape: tuple[int, ...]
    feature_shapes: tuple[tuple[int, ...], ...]
    thresholds: dict[str, float]
    default_operating_point: str
    slope: float
    intercept: float
    heatmap_floor: float
    heatmap_scale: float
    sha256: str
    contents: dict = field(repr=False, compare=False)
    profile: str | None = None
    population: str = CHILD
    populations: Mapping[str, Population] = field(default_factory=dict, repr=False)

    @property
    def has_map(self) -> bool:
        """Whether the model says where: a network that flattens the film has one position, and no map."""
        return math.prod(self.output_shape) > 1

    @property
    def threshold(self) -> float:
        """That of the default operating point."""
        return self.thresholds[self.default_operating_point]

    @property
    def rule_out(self) -> float:
        """Below this probability the film speaks against pneumonia: the lowest threshold."""
        return self.thresholds[POINTS[0]]

    @property
    def rule_in(self) -> float:
        """From this probability on the film speaks for pneumonia: the highest threshold."""
        return self.thresholds[POINTS[-1]]

    @property
    def model(self) -> dict[str, str]:
        """Which model answers, and by which profile, as every answer says it."""
        named = {"name": self.name, "version": self.version, "sha256": self.sha256}
        return named | ({"profile": self.profile} if self.profile else {})

    def of(self, population: str) -> "Card":
        """The card for the films of that population: its numbers, and `contents` with its members at the top.

        Raises:
            PopulationError: see `check_population`.
        """
        if self.check_population(population) == self.population:
            return self
        numbers = {item.name: getattr(self.populations[population], item.name) for item in fields(Population)}
        del numbers["ages"]
        contents = merge_population(self.contents, population)
        return replace(self, population=population, contents=contents, **numbers)

    def check_population(self, name: str | None) -> str | None:
        """Check the name of a population and return it; no name is fine.

        Raises:
            PopulationError: the model knows none of that name.
        """
        if name is not None and name not in (self.populations or (self.population,)):
            known = ", ".join(self.populations) or self.population
            raise PopulationError(f"Expected one of {known} as population, received {name[:40]!r}.")
        return name

    def probability(self, logit: float) -> float:
        """Calibrate a film's logit: the probability of pneumonia."""
        exponent = -(self.slope * logit + self.intercept)
        return 1 / (1 + math.exp(min(exponent, 700.0)))  # exp(710) overflows

    def operating_point(self, name: str | None = None) -> str:
        """The operating point of that name, without a name the default.

        Raises:
            OperatingPointError: there is none of that name.
        """
        name = self.default_operating_point if name is None else name
        if name not in self.thresholds:
            raise OperatingPointError(f"Expected one of {', '.join(self.thresholds)}, received {name[:40]!r}.")
        return name

    def triage(self, probability: float) -> str:
        """Where a probability lies between the rule-out and the rule-in point: one of TRIAGE."""
        return TRIAGE[(probability >= self.rule_out) + (probability >= self.rule_in)]

    def file(self, role: str) -> Path:
        """Path of the `served`, `gate`, `base` or `top` file."""
        return self.path.parent / self.contents["files"][role]["file"]

    def read(self, role: str) -> bytes:
        """What is in that file, which is the one that the card describes.

        Raises:
            ModelError: it is missing, cannot be read or has another hash, or the card does not describe it.
        """
        try:
            file, expected = self.file(role), self.contents["files"][role]["sha256"]
        except (KeyError, TypeError) as error:
            raise ModelError(f"The model card {self.path} lacks what the code reads: {error!r}.") from None
        try:
            data = file.read_bytes()
        except FileNotFoundError:
            again = f" `{self.contents['receipt']['command']}` makes it." if self.contents.get("recipe") else ""
            raise ModelError(f"Expected the {role} model at {file}, found no file.{again}") from None
        except OSError as error:
            raise ModelError(f"The {role} model {file} cannot be read: {error.strerror}.") from None
        if (received := hashlib.sha256(data).hexdigest()) != expected:
            raise ModelError(f"Expected {file} to have SHA-256 {expected}, received {received}: another model.")
        return data


def card_path(name: str | None = None) -> Path:
    """Where the card of `name` lies; without a name PNEUMO_MODEL's, which may also be a path to a card."""
    name = name or os.environ.get("PNEUMO_MODEL") or DEFAULT_MODEL
    return Path(name) if name.endswith(".json") else MODELS / f"{name}.json"


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe_file(path: Path) -> dict:
    """What a card says of a file beside it."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def read_json(path: Path, what: str) -> dict:
    """Read the `what` at `path`: a model card or a site profile.

    Raises:
        ModelError: there is none, or it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"Expected a {what} at {path}, found none.") from None
    except (ValueError, OSError) as error:
        raise ModelError(f"The {what} {path} cannot be read: {error}.") from None


def read_points(contents: dict) -> tuple[dict[str, float], str]:
    """Thresholds and default of the operating points of a card or a profile.

    Raises:
        KeyError, TypeError: something is missing.
        ValueError: thresholds that are no probabilities or do not rise, or a default that is none of them.
    """
    thresholds = {name: float(contents["operating_points"][name]["threshold"]) for name in POINTS}
    low, middle, high = thresholds.values()
    if not 0 < low <= middle <= high < 1:
        raise ValueError(f"Expected 0 < thresholds < 1 that do not fall, received {thresholds}.")
    if (default := contents["default_operating_point"]) not in POINTS:
        raise ValueError(f"Expected one of {POINTS} as default_operating_point, received {default!r}.")
    return thresholds, default


def merge_population(contents: dict, population: str) -> dict:
    """A card's JSON with the members of one of its `populations` at the top, as in a card that knows no other."""
    own = contents["populations"][population]
    return contents | own | {"heatmap": contents["heatmap"] | own.get("heatmap", {})}


def read_population(contents: dict) -> Population:
    """What the JSON says of a population, of a card merged with it.

    Raises:
        KeyError, TypeError: something is missing.
        ValueError: numbers that mean nothing.
    """
    first, last = contents.get("ages", YEARS)
    population = Population(
        ages=(int(first), None if last is None else int(last)),
        thresholds=read_points(contents)[0],
        slope=float(contents["calibration"]["slope"]),
        intercept=float(contents["calibration"]["intercept"]),
        heatmap_floor=float(contents["heatmap"]["floor"]),
        heatmap_scale=float(contents["heatmap"]["scale"]),
    )
    numbers = (population.slope, population.intercept, population.heatmap_floor, population.heatmap_scale)
    if not (all(map(math.isfinite, numbers)) and population.slope > 0 and population.heatmap_scale > 0):
        raise ValueError(f"Expected finite numbers, slope and heatmap scale above 0, received {numbers}.")
    return population


def read_card(path: Path | None = None, roles: tuple[str, ...] = ("served", "gate")) -> Card:
    """Read a card and check that the files in `roles` are the ones it describes.

    Raises:
        ModelError: no card, a card without what the code reads, or a file that is missing or has another hash.
    """
    path = path or card_path()
    contents = read_json(path, "model card")
    try:
        names = contents["populations"] if "populations" in contents else ()
        merged = {name: merge_population(contents, name) for name in names} or {CHILD: contents}
        populations = {name: read_population(one) for name, one in merged.items()}
        first = next(iter(populations))
        contents = merged[first]
        numbers = populations[first]
        card = Card(
            path=path,
            name=contents["name"],
            version=contents["version"],
            size=int(contents["input"]["size"]),
            steps=tuple(contents["input"]["preprocessing"]),
            output_shape=tuple(contents["output"]["shape"]),
            feature_shapes=tuple(map(tuple, contents["output"]["features"])),
            thresholds=numbers.thresholds,
            default_operating_point=read_points(contents)[1],
            slope=numbers.slope,
            intercept=numbers.intercept,
            heatmap_floor=numbers.heatmap_floor,
            heatmap_scale=numbers.heatmap_scale,
            sha256=contents["files"]["served"]["sha256"],
            contents=contents,
            population=first,
            populations=populations,
        )
        labels = tuple(contents["labels"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The model card {path} lacks what the code reads: {error!r}.") from None
    if labels != LABELS:
        raise ModelError(f"Expected the labels {LABELS} in {path}, received {labels}.")
    for role in roles:
        card.read(role)
    return card


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), of any shape."""
    return 1 / (1 + np.exp(-x))
