"""The model card: a JSON file beside the model. The code reads its facts there and repeats none of them.

`models/NAME.json` holds the model's files with their hashes, input size, labels, calibration, operating points,
metrics and origin. A site's profile (`pneumo.model.profile`) replaces numbers of one population.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from pneumo import LABELS
from pneumo.errors import ModelError, OperatingPointError, PopulationError
from pneumo.model.population import Population, read_population

MODELS = Path(__file__).resolve().parents[2] / "models"
RECIPE_CARDS = MODELS / "recipes"  # where `pneumo train --recipe` puts its cards
DEFAULT_MODEL = "vgg16-chest-xray"
POINTS = ("screening", "balanced", "specific")  # the operating points, in the order of their thresholds
TRIAGE = ("rule-out", "uncertain", "rule-in")  # below the lowest threshold, between, from the highest threshold on
UNFAMILIAR = "unfamiliar"  # triage of a film like none of the training films: no threshold holds for it
ALL = "all films"  # how a card calls those of which its other groups are parts
CHILD = "child"  # the population of a card that names none


@dataclass(frozen=True)
class Card:
    """The facts of a card that the code uses; `contents` is the whole JSON.

    - `size`: the network reads (size, size) pixels. `steps`: names in `preprocessing.STEPS`, applied after squashing.
    - `output_shape` (1, h, w, 1): the map of logits. `feature_shapes`: the outputs that the gate looks at.
    - `slope`, `intercept`: the calibration, probability = sigmoid(slope · logit + intercept).
    - `thresholds`: one probability for each of POINTS; from it on a film is labelled PNEUMONIA.
    - `heatmap_floor`, `heatmap_scale`: a position has colour from logit `floor` on and full colour at `floor + scale`.
    - `sharpness`: how the map becomes the film's logit, see `heatmap.pool`.
    - `profile`: the name of the site's profile that the thresholds come from, if any.
    - `population`: one of `populations`, whose numbers these are; `for_population` gives the card of another.
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
    sharpness: float = 0.0
    population: str = CHILD
    populations: Mapping[str, Population] = field(default_factory=dict, repr=False)

    @property
    def has_map(self) -> bool:
        """Whether the heat map may be shown.

        Not that of a network that flattens the film: one position is no map. Nor that of a population where it is not
        sure to point better than chance: the interval of `pointing` on validation's films with boxes must lie above
        `chance`. Where no radiologist drew boxes, nobody knows, and the map is shown.
        """
        checked = self.contents.get("pointing") or {}
        boxed = (checked.get("validation") or {}).get(ALL)
        beats_chance = not boxed or boxed["intervals"]["pointing"][0] > boxed["chance"]
        return math.prod(self.output_shape) > 1 and beats_chance

    @property
    def threshold(self) -> float:
        """The threshold of the default operating point."""
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
        """The model's name, version, hash and profile, as every answer repeats them."""
        named = {"name": self.name, "version": self.version, "sha256": self.sha256}
        return named | ({"profile": self.profile} if self.profile else {})

    def for_population(self, population: str) -> "Card":
        """Return the card for the films of that population: its numbers, and `contents` with its members at the top.

        Raises:
            PopulationError: see `check_population`.
        """
        if self.check_population(population) == self.population:
            return self
        contents = merge_population(self.contents, population)
        return replace(self, population=population, contents=contents, **self.populations[population].numbers())

    def only(self, population: str) -> "Card":
        """Return the card of a model that knows that population alone: every film is read by its numbers.

        Raises:
            PopulationError: see `check_population`.
        """
        return replace(self.for_population(population), populations={population: self.populations[population]})

    def check_population(self, name: str | None) -> str | None:
        """Check the name of a population and return it; no name is fine.

        Raises:
            PopulationError: the model knows none of that name.
        """
        if name is not None and name not in self.populations:
            raise PopulationError(f"Expected one of {', '.join(self.populations)}, received {name[:40]!r}.")
        return name

    def probability(self, logit: float) -> float:
        """Calibrate a film's logit: the probability of pneumonia."""
        exponent = -(self.slope * logit + self.intercept)
        return 1 / (1 + math.exp(min(exponent, 700.0)))  # exp(710) overflows

    def operating_point(self, name: str | None = None) -> str:
        """Check the name of an operating point and return it; without a name, return the default.

        Raises:
            OperatingPointError: the model has no operating point of that name.
        """
        name = self.default_operating_point if name is None else name
        if name not in self.thresholds:
            raise OperatingPointError(f"Expected one of {', '.join(self.thresholds)}, received {name[:40]!r}.")
        return name

    def triage(self, probability: float) -> str:
        """Say whether a probability lies below, between or above the outer thresholds: one of TRIAGE."""
        return TRIAGE[(probability >= self.rule_out) + (probability >= self.rule_in)]

    def file(self, role: str) -> Path:
        """Return the path of the `served`, `gate`, `base` or `top` file."""
        return self.path.parent / self.contents["files"][role]["file"]

    def read(self, role: str) -> bytes:
        """Read the file of that role and check its hash.

        Raises:
            ModelError: the card does not name the file, or the file is missing, unreadable or has another hash.
        """
        try:
            file, expected = self.file(role), self.contents["files"][role]["sha256"]
        except (KeyError, TypeError) as error:
            raise ModelError(f"The model card {self.path} is incomplete or damaged: {error!r}.") from None
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


def find_card(name: str | None = None) -> Path:
    """Return the path of a model's card. A name that ends in `.json` is a path; the default is PNEUMO_MODEL."""
    name = name or os.environ.get("PNEUMO_MODEL") or DEFAULT_MODEL
    return Path(name) if name.endswith(".json") else MODELS / f"{name}.json"


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe_file(path: Path) -> dict:
    """Return a file's name, size in bytes and hash, as a card stores them."""
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256(path)}


def read_json(path: Path, what: str) -> dict:
    """Read a JSON file; errors call it `what` ("model card", "site profile").

    Raises:
        ModelError: the file is missing, unreadable or no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"Expected a {what} at {path}, found none.") from None
    except (ValueError, OSError) as error:
        raise ModelError(f"The {what} {path} cannot be read: {error}.") from None


def read_points(contents: dict) -> tuple[dict[str, float], str]:
    """Read thresholds and default operating point from a card or a profile.

    Raises:
        KeyError, TypeError: a member is missing.
        ValueError: a threshold is no probability, a later threshold is lower, or the default is unknown.
    """
    thresholds = {name: float(contents["operating_points"][name]["threshold"]) for name in POINTS}
    low, middle, high = thresholds.values()
    if not 0 < low <= middle <= high < 1:
        raise ValueError(f"Expected thresholds between 0 and 1, each at least the one before, received {thresholds}.")
    if (default := contents["default_operating_point"]) not in POINTS:
        raise ValueError(f"Expected one of {POINTS} as default_operating_point, received {default!r}.")
    return thresholds, default


def merge_population(contents: dict, population: str) -> dict:
    """Put the members of one of the `populations` at the top of a card's JSON, where a card without them has them.

    A card without `populations` stays as it is.
    """
    return contents | contents["populations"][population] if contents.get("populations") else contents


def read_card(path: Path | None = None, roles: tuple[str, ...] = ("served", "gate")) -> Card:
    """Read a card and check the hashes of the files in `roles`.

    Raises:
        ModelError: the card is missing, incomplete or damaged, or a file is missing or has another hash.
    """
    path = path or find_card()
    contents = read_json(path, "model card")
    try:
        contents = dict(contents)
        merged = {name: merge_population(contents, name) for name in contents.get("populations") or (CHILD,)}
        populations = {name: read_population(one, read_points(one)[0]) for name, one in merged.items()}
        first = next(iter(populations))
        contents = merged[first]
        card = Card(
            path=path,
            name=contents["name"],
            version=contents["version"],
            size=int(contents["input"]["size"]),
            steps=tuple(contents["input"]["preprocessing"]),
            output_shape=tuple(contents["output"]["shape"]),
            feature_shapes=tuple(map(tuple, contents["output"]["features"])),
            default_operating_point=read_points(contents)[1],
            sha256=contents["files"]["served"]["sha256"],
            contents=contents,
            population=first,
            populations=populations,
            **populations[first].numbers(),
        )
        labels = tuple(contents["labels"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The model card {path} is incomplete or damaged: {error!r}.") from None
    if labels != LABELS:
        raise ModelError(f"Expected the labels {LABELS} in {path}, received {labels}.")
    for role in roles:
        card.read(role)
    return card


def sigmoid(x: np.ndarray) -> np.ndarray:
    """Compute 1 / (1 + exp(-x)) of an array of any shape."""
    return 1 / (1 + np.exp(-x))
