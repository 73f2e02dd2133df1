"""How weights were made: the receipt beside them, or in the shipped card."""

import json
from pathlib import Path

from pneumo.errors import RunError
from pneumo.model.card import DEFAULT_MODEL, find_card, read_card, sha256


def base_receipt(weights: Path) -> dict:
    """How base weights were made: from beside them, or, where they are the shipped ones, from the shipped card.

    Raises:
        RunError: neither knows them.
    """
    if weights.with_suffix(".json").exists():
        return json.loads(weights.with_suffix(".json").read_text(encoding="utf-8"))
    shipped = read_card(find_card(DEFAULT_MODEL), roles=("base",)).contents
    if shipped["files"]["base"]["sha256"] != sha256(weights):
        raise RunError(f"Expected the receipt of the base weights at {weights.with_suffix('.json')}, found none.")
    return shipped["receipt"]["base"]
