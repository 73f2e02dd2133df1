"""Whose films a command measures: figures hold for one population at a time."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo import LABELS
from pneumo.cli.films import each, read
from pneumo.errors import PneumoError

if TYPE_CHECKING:
    from pneumo.data.dataset import Example
    from pneumo.model.predictor import Predictor

ASKED = 25  # films, evenly spread, that tell what population a folder is of


def list_films(folder: Path) -> "list[Example]":
    """List the labelled films of DIR, also those in DIR/OTHER, with what DIR/labels.csv says of them.

    Says on stderr what was passed over.

    Raises:
        FileNotFoundError: DIR/NORMAL or DIR/PNEUMONIA is missing or holds no picture.
        PneumoError: labels.csv or boxes.csv lacks a column, a film, or a number.
    """
    from pneumo.data.dataset import OTHER, scan
    from pneumo.data.sources import read_source

    # a source may have its films in DIR/train, but those were trained with: DIR/train has to be said
    examples = scan(folder) if (folder / "train").is_dir() else read_source(folder, folder.name)
    known, others = {example.path for example in examples}, Counter()
    for path in (path for label in (*LABELS, OTHER) for path in (folder / label).rglob("*")):
        if path not in known and not path.name.startswith(".") and (path.is_symlink() or not path.is_dir()):
            others[path.suffix.lower() or "without a suffix"] += 1
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
        click.echo(f"Not read in {click.format_filename(folder)}: {kinds}.", err=True)
    return examples


def sort_films(
    predictor: "Predictor", population: str | None, examples: "Sequence[Example]"
) -> "dict[str, list[Example]]":
    """Sort films by the population by whose numbers they are read, and say so on stderr.

    All are of the one that is asked for. Otherwise the patient's age says it, where labels.csv tells it: films of
    patients whom the model does not know are left out. Films of the children's data set are children's. The rest are
    of the population that most of some of them are read by, see `population.choose`.

    Raises:
        PopulationError: the model knows none of that name.
        PneumoError: no film is of a patient whom the model knows.
    """
    known = predictor.card.populations
    if len(known) == 1:
        predictor.card.check_population(population)
        return {predictor.card.population: list(examples)}
    if predictor.card.check_population(population):
        click.echo(f"All films are read as those of {population}, as you said.", err=True)
        return {population: list(examples)}
    sorted_films: dict[str, list[Example]] = {name: [] for name in known}
    untold, strange = [], 0
    for example in examples:
        if example.age is not None:
            name = min(known, key=lambda one: known[one].years_away(example.age))
            if known[name].years_away(example.age):
                strange += 1
            else:
                sorted_films[name].append(example)
        elif example.aetiology and "child" in known:
            sorted_films["child"].append(example)
        else:
            untold.append(example)
    if untold:
        sorted_films[_ask(predictor, untold)] += untold
    if strange:
        seen = " and ".join(one.told() for one in known.values())
        click.echo(f"{strange} films are left out: the model has only seen patients {seen}.", err=True)
    if strange == len(examples):
        raise PneumoError("Expected films of patients whom the model knows, received none.")
    return {name: own for name, own in sorted_films.items() if own}


def _ask(predictor: "Predictor", films: "Sequence[Example]") -> str:
    """Find the population that most of some of the films are read by; the first where none can be read."""
    some = films[:: max(1, len(films) // ASKED)]
    answers = each(lambda film: read(predictor, film.path, force=True), some)
    found = Counter(answer.population["name"] for answer in answers if not isinstance(answer, str))
    if not found:
        return next(iter(predictor.card.populations))
    name, votes = found.most_common(1)[0]
    told = f"as {votes} of {found.total()} of them are told to be; --population says another"
    click.echo(f"Films without an age are read as those of {name}, {told}.", err=True)
    return name
