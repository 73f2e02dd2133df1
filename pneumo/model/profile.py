"""A site's profile: a JSON file with what a hospital found on its own films, for one model and one population.

`pneumo calibrate DIR --profile OUT.json` writes calibration, operating points and where the site's films lie for the
gate; `pneumo evaluate DIR --external --profile OUT.json` writes operating points only and keeps the rest. The server
and the commands read the profile that PNEUMO_PROFILE names.
"""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from pneumo.errors import ModelError
from pneumo.files import write_whole
from pneumo.model.card import Card, read_json, read_points
from pneumo.model.gate import Site
from pneumo.model.population import Population


def write_profile(path: Path, card: Card, points: dict[str, dict], films: dict[str, int], note: str) -> None:
    """Write a profile for the model of `card` and its population; its name is the file's.

    `points` has rule, threshold and figures of each operating point (`evaluation.thresholds`), `films` the number of
    films by label, `note` what a reader must know about the choice. Calibration and site are the card's.

    Raises:
        RunError: the disk is full, or another reason of the system's; nothing is left half-written.
    """
    own = card.populations[card.population]
    contents = {
        "name": path.stem,
        "model": {"name": card.name, "version": card.version, "sha256": card.sha256},
        "population": card.population,
        "default_operating_point": card.default_operating_point,
        "operating_points": points,
        "calibration": {"slope": own.slope, "intercept": own.intercept},
        "films": films,
        "note": note,
    }
    if own.site:
        centre = [round(value, 5) for value in own.site.centre.tolist()]
        contents["gate"] = {"reach": own.site.reach, "centre": centre}
    text = json.dumps(contents, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with write_whole(path) as stream:
        stream.write(text.encode())


def apply_profile(card: Card, path: Path) -> Card:
    """Replace the numbers of one of the card's populations by those of the profile at `path`.

    Films of the other populations are read by the card's own numbers.

    Raises:
        ModelError: the profile is missing, incomplete or damaged, or was made for another model or population.
    """
    contents = read_json(path, "site profile")
    try:
        name, model = str(contents["name"]), contents["model"]["sha256"]
        population = contents.get("population", card.population)
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
    try:
        own, default = _replace_numbers(card.populations[population], contents), read_points(contents)[1]
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"The site profile {path} is incomplete or damaged: {error!r}.") from None
    populations = {**card.populations, population: own}
    card = replace(card, populations=populations, default_operating_point=default, profile=name)
    return replace(card, **populations[card.population].numbers())


def _replace_numbers(population: Population, contents: dict) -> Population:
    """Take a population's numbers from a profile's JSON; those that it lacks stay.

    Raises:
        KeyError, TypeError: a member is missing.
        ValueError: a number is not finite, a slope not above 0, or the site's reach below 1.
    """
    numbers = {"slope": population.slope, "intercept": population.intercept, **contents.get("calibration", {})}
    slope, intercept, site = float(numbers["slope"]), float(numbers["intercept"]), population.site
    if told := contents.get("gate"):
        site = Site(np.array(told["centre"], np.float32), float(told["reach"]))
        if not (np.isfinite(site.centre).all() and site.centre.ndim == 1 and 1 <= site.reach < math.inf):
            raise ValueError(f"Expected a finite centre and a reach of 1 or more, received {site.reach}.")
    if not (math.isfinite(intercept) and 0 < slope < math.inf):
        raise ValueError(f"Expected a slope above 0 and a finite intercept, received {slope} and {intercept}.")
    return replace(population, thresholds=read_points(contents)[0], slope=slope, intercept=intercept, site=site)


def apply_settings(card: Card) -> Card:
    """Apply the settings PNEUMO_PROFILE (a profile's path) and PNEUMO_OPERATING_POINT (the default) to a card.

    Raises:
        ModelError: see `apply_profile`.
        OperatingPointError: the model has no operating point of that name.
    """
    if path := os.environ.get("PNEUMO_PROFILE"):
        card = apply_profile(card, Path(path))
    return replace(card, default_operating_point=card.operating_point(os.environ.get("PNEUMO_OPERATING_POINT") or None))
