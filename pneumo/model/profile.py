"""A site's profile: a JSON file with operating points that a hospital chose on its own films, for one model.

`pneumo evaluate DIR --external --profile OUT.json` writes it; the server and the commands read it from PNEUMO_PROFILE.
"""

import json
import os
from dataclasses import replace
from pathlib import Path

from pneumo.errors import ModelError
from pneumo.model.card import Card, read_json, read_points


def write_profile(path: Path, card: Card, points: dict[str, dict], films: dict[str, int], note: str) -> None:
    """Write a profile for the model of `card`; its name is the file's.

    `points` has rule, threshold and figures of each operating point (`evaluation.thresholds`), `films` the number of
    films by label, `note` what a reader must know about the choice. They hold for the card's population.
    """
    contents = {
        "name": path.stem,
        "model": {"name": card.name, "version": card.version, "sha256": card.sha256},
        "population": card.population,
        "default_operating_point": card.default_operating_point,
        "operating_points": points,
        "films": films,
        "note": note,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(contents, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def apply_profile(card: Card, path: Path) -> Card:
    """Replace the operating points of one of the card's populations by those of the profile at `path`.

    Raises:
        ModelError: the profile is missing, incomplete or damaged, or was made for another model or population.
    """
    contents = read_json(path, "site profile")
    try:
        name, model = str(contents["name"]), contents["model"]["sha256"]
        population = contents.get("population", card.population)
        thresholds, default = read_points(contents)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The site profile {path} is incomplete or damaged: {error!r}.") from None
    if model != card.sha256:
        raise ModelError(
            f"Expected a site profile for the model with SHA-256 {card.sha256}, received one for {model} in {path}. "
            "Evaluate this model on the site's films again."
        )
    if population not in card.populations:
        raise ModelError(
            f"Expected a site profile for {' or '.join(card.populations)}, received one for {population} in {path}."
        )
    own = replace(card.populations[population], thresholds=thresholds)
    populations = {**card.populations, population: own}
    card = replace(card, populations=populations, default_operating_point=default, profile=name)
    return replace(card, **populations[card.population].numbers())


def apply_settings(card: Card) -> Card:
    """Apply the settings PNEUMO_PROFILE (a profile's path) and PNEUMO_OPERATING_POINT (the default) to a card.

    Raises:
        ModelError: see `apply_profile`.
        OperatingPointError: the model has no operating point of that name.
    """
    if path := os.environ.get("PNEUMO_PROFILE"):
        card = apply_profile(card, Path(path))
    return replace(card, default_operating_point=card.operating_point(os.environ.get("PNEUMO_OPERATING_POINT") or None))
