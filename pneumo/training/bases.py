"""The weights that a training begins with: where they are, and how they were made. Knows no Keras."""

import json
import os
from pathlib import Path

from pneumo.model.card import DEFAULT_MODEL, MODELS, find_card, read_card, sha256
from pneumo.training.recipes import IMAGENET


def find_base(base: str) -> Path | str | None:
    """Find the weights that `base` names: the path of an .npz, IMAGENET as it is, or None for "none".

    "chest-xray" is the base that `pneumo pretrain` left in runs/pretrain, else the shipped one.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if base in (IMAGENET, "none"):
        return None if base == "none" else IMAGENET
    candidates = [Path(base)]
    if base == "chest-xray":
        own = Path("runs/pretrain/base.npz")
        # relative to the working directory: the notebook prints what was found, and is read on other machines
        shared = (os.path.relpath(path) for path in (MODELS.parent / own, MODELS / f"{DEFAULT_MODEL}.base.npz"))
        candidates = [own, *map(Path, shared)]
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"Expected base weights at {candidates[-1]}, found none.")


def base_receipt(weights: Path) -> dict:
    """Read how base weights were made: from the file beside them or, if they are the shipped ones, from their card.

    Raises:
        RunError: neither tells.
    """
    if weights.with_suffix(".json").exists():
        return json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    shipped = read_card(find_card(DEFAULT_MODEL), roles=("base",)).contents
    if shipped["files"]["base"]["sha256"] == sha256(weights):
        return shipped["receipt"]["base"]
    return {"file": weights.name, "sha256": sha256(weights)}
