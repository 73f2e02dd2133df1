"""The model card: a JSON file beside the model that the code reads. Nothing it says is said again in code.

`models/NAME.json` names the served model, its hash, input size, labels, calibration, threshold, metrics and origin.
"""

import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

from pneumo.dataset import LABELS
from pneumo.errors import ModelError

MODELS = Path(__file__).resolve().parent.parent / "models"
DEFAULT_MODEL = "vgg16-chest-xray"


@dataclass(frozen=True)
class Card:
    """What the code reads of a card; `contents` is the whole JSON.

    `probability = sigmoid(slope · logit + intercept)`; a film is PNEUMONIA from `threshold` on. `heatmap_scale` is how
    far above the threshold's logit a position must lie to be drawn in full colour.
    """

    path: Path
    name: str
    version: str
    size: int
    output_shape: tuple[int, ...]
    threshold: float
    slope: float
    intercept: float
    heatmap_scale: float
    sha256: str
    contents: dict = field(repr=False, compare=False)

    def file(self, role: str) -> Path:
        """Path of the `served`, `base` or `top` file."""
        return self.path.parent / self.contents["files"][role]["file"]


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


def read_card(path: Path | None = None, roles: tuple[str, ...] = ("served",)) -> Card:
    """Read a card and check that the files in `roles` are the ones it describes.

    Raises:
        ModelError: no card, a card without what the code reads, or a file that is missing or has another hash.
    """
    path = path or card_path()
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"Expected a model card at {path}, found none.") from None
    except (ValueError, OSError) as error:
        raise ModelError(f"The model card {path} cannot be read: {error}.") from None
    try:
        card = Card(
            path=path,
            name=contents["name"],
            version=contents["version"],
            size=int(contents["input"]["size"]),
            output_shape=tuple(contents["output"]["shape"]),
            threshold=float(contents["threshold"]),
            slope=float(contents["calibration"]["slope"]),
            intercept=float(contents["calibration"]["intercept"]),
            heatmap_scale=float(contents["heatmap"]["scale"]),
            sha256=contents["files"]["served"]["sha256"],
            contents=contents,
        )
        wanted = {role: (card.file(role), contents["files"][role]["sha256"]) for role in roles}
        labels = tuple(contents["labels"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The model card {path} lacks what the code reads: {error!r}.") from None
    if labels != LABELS:
        raise ModelError(f"Expected the labels {LABELS} in {path}, received {labels}.")
    finite = all(map(math.isfinite, (card.slope, card.intercept, card.heatmap_scale)))
    if not (finite and 0 < card.threshold < 1 and card.slope > 0 and card.heatmap_scale > 0):
        raise ModelError(f"Expected 0 < threshold < 1, slope > 0 and heatmap scale > 0, all finite, in {path}.")
    for role, (file, expected) in wanted.items():
        if not file.is_file():
            raise ModelError(f"Expected the {role} model at {file}, found no file.")
        if (received := sha256(file)) != expected:
            raise ModelError(f"Expected {file} to have SHA-256 {expected}, received {received}: another model.")
    return card
