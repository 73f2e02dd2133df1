"""Whose films a command measures: figures hold for one population at a time."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo.cli.films import each, read

if TYPE_CHECKING:
    from pneumo.model.predictor import Predictor

ASKED = 25  # films, evenly spread, that tell what population a folder is of


def settle(predictor: "Predictor", population: str | None, films: Sequence[Path]) -> None:
    """Have a model that knows several populations read all of `films` by the numbers of one, and say so.

    Without a name it is the one that most of some of the films are read by, see `population.choose`.

    Raises:
        PopulationError: the model knows none of that name.
    """
    if len(predictor.card.populations) == 1:
        predictor.card.check_population(population)
        return
    if population is None:
        some = films[:: max(1, len(films) // ASKED)]
        answers = each(lambda film: read(predictor, film, force=True), some)
        found = Counter(answer.population["name"] for answer in answers if not isinstance(answer, str))
        if not found:
            return
        population = found.most_common(1)[0][0]
        told = f"as {found[population]} of {found.total()} of them are told to be; --population says another"
    else:
        told = "as you said"
    predictor.card = predictor.card.only(population)
    click.echo(f"All films are read as those of {population}, {told}.", err=True)
