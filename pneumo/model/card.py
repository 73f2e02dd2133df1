"""The model card: a JSON file beside the model that the code reads. Nothing it says is said again in code.

`models/NAME.json` names the served model, its hash, input size, labels, calibration, operating points, metrics and
origin. A site's profile (`pneumo.model.profile`) replaces the operating points and nothing else.
"""

import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pneumo import LABELS
from pneumo.errors import ModelError, OperatingPointError

MODELS = Path(__file__).resolve().parents[2] / "models"
RECIPE_CARDS = MODELS / "recipes"  # of the models of `pneumo train --recipe`
DEFAULT_MODEL = "vgg16-chest-xray"
POINTS = ("screening", "balanced", "specific")  # operating points, of rising threshold
TRIAGE = ("rule-out", "uncertain", "rule-in")  # below the lowest threshold, between, at the highest or above


@dataclass(frozen=True)
class Card:
    """What the code reads of a card; `contents` is the whole JSON.

    `probability = sigmoid(slope · logit + intercept)`; a film is PNEUMONIA from the threshold of its operating point
    on. `thresholds` has that of each of POINTS, `profile` the name of the site's profile that they are of, if any.
    A position is drawn from the logit `heatmap_floor` on, `heatmap_scale` above it in full colour.
    `feature_shapes` are those of the outputs that the gate looks at. `steps` are those of `preprocessing.STEPS` that
    the film goes through once it is squashed.
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


def read_card(path: Path | None = None, roles: tuple[str, ...] = ("served", "gate")) -> Card:
    """Read a card and check that the files in `roles` are the ones it describes.

    Raises:
        ModelError: no card, a card without what the code reads, or a file that is missing or has another hash.
    """
    path = path or card_path()
    contents = read_json(path, "model card")
    try:
        thresholds, default = read_points(contents)
        card = Card(
            path=path,
            name=contents["name"],
            version=contents["version"],
            size=int(contents["input"]["size"]),
            steps=tuple(contents["input"]["preprocessing"]),
            output_shape=tuple(contents["output"]["shape"]),
            feature_shapes=tuple(map(tuple, contents["output"]["features"])),
            thresholds=thresholds,
            default_operating_point=default,
            slope=float(contents["calibration"]["slope"]),
            intercept=float(contents["calibration"]["intercept"]),
            heatmap_floor=float(contents["heatmap"]["floor"]),
            heatmap_scale=float(contents["heatmap"]["scale"]),
            sha256=contents["files"]["served"]["sha256"],
            contents=contents,
        )
        labels = tuple(contents["labels"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The model card {path} lacks what the code reads: {error!r}.") from None
    if labels != LABELS:
        raise ModelError(f"Expected the labels {LABELS} in {path}, received {labels}.")
    finite = all(map(math.isfinite, (card.slope, card.intercept, card.heatmap_floor, card.heatmap_scale)))
    if not (finite and card.slope > 0 and card.heatmap_scale > 0):
        raise ModelError(f"Expected finite numbers, slope and heatmap scale above 0, in {path}.")
    for role in roles:
        card.read(role)
    return card


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), of any shape."""
    return 1 / (1 + np.exp(-x))
