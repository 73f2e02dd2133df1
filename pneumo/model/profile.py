"""A site's profile: operating points chosen on a hospital's own films, for one model, in a JSON file.

`pneumo evaluate --external DIR --profile OUT.json` writes it; server and commands read PNEUMO_PROFILE's.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

from pneumo.errors import ModelError
from pneumo.model.card import Card, read_json, read_points


def write_profile(path: Path, card: Card, points: dict[str, dict], films: dict[str, int], note: str) -> None:
    """Write `points` (of `operating.suggest`) for the model of `card`; the profile is called what the file is."""
    contents = {
        "name": path.stem,
        "model": {"name": card.name, "version": card.version, "sha256": card.sha256},
        "default_operating_point": card.default_operating_point,
        "operating_points": points,
        "films": films,
        "note": note,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(contents, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def with_profile(card: Card, path: Path) -> Card:
    """The card with the operating points of a profile.

    Raises:
        ModelError: no profile, one without what the code reads, or one of another model.
    """
    contents = read_json(path, "site profile")
    try:
        name, model = str(contents["name"]), contents["model"]["sha256"]
        thresholds, default = read_points(contents)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The site profile {path} lacks what the code reads: {error!r}.") from None
    if model != card.sha256:
        raise ModelError(
            f"Expected a site profile of the model with SHA-256 {card.sha256}, received one of {model} in {path}: "
            "evaluate this model on the site's films again."
        )
    return replace(card, thresholds=thresholds, default_operating_point=default, profile=name)


def of_site(card: Card) -> Card:
    """The card as the environment has it: with the profile of PNEUMO_PROFILE and the default PNEUMO_OPERATING_POINT.

    Raises:
        ModelError: see `with_profile`.
        OperatingPointError: PNEUMO_OPERATING_POINT names none.
    """
    if path := os.environ.get("PNEUMO_PROFILE"):
        card = with_profile(card, Path(path))
    return replace(card, default_operating_point=card.operating_point(os.environ.get("PNEUMO_OPERATING_POINT") or None))
