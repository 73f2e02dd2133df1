"""The weights that a training begins with: where they are, and how they were made. Knows no Keras."""

import json
from pathlib import Path

from pneumo.model.card import sha256
from pneumo.training.recipes import IMAGENET


def find_base(base: str) -> Path | str | None:
    """Find the weights that `base` names: the path of an .npz, IMAGENET as it is, or None for "none".

    Raises:
        FileNotFoundError: there is no such file.
    """
    if base in (IMAGENET, "none"):
        return None if base == "none" else IMAGENET
    if not Path(base).is_file():
        raise FileNotFoundError(f"Expected base weights at {base}, found none.")
    return Path(base)


def describe_base(weights: Path | str | None) -> dict:
    """Say where the weights come from that `find_base` found, as a card has it.

    Of an .npz that is its name and SHA-256, with what NAME.json beside it says, if there is one: how it was made.
    """
    if not isinstance(weights, Path):
        return {"command": f"keras.applications, {weights}" if weights else "none: from scratch"}
    receipt = weights.with_suffix(".json")
    said = json.loads(receipt.read_text(encoding="utf-8")) if receipt.exists() else {}
    return {"file": weights.name, "sha256": sha256(weights)} | said
