"""What `evaluate` and `audit` share: options, a part of the films, films to show, the numbers as JSON."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo.cli.films import FILE, FOLDER

if TYPE_CHECKING:
    from pneumo.data.dataset import Example
    from pneumo.model.card import Card
    from pneumo.model.predictor import Prediction, Predictor

folder_argument = click.argument("folder", type=FOLDER, metavar="DIR")
json_option = click.option("--json", "out", type=FILE, help="Write all numbers here.")
part_option = click.option(
    "--part",
    type=click.Choice(["validation", "internal_test"]),
    help="DIR is Kaggle's train folder: measure this part of the split by patient that the model was made with.",
)


def part_of(examples: "Sequence[Example]", hashes: Sequence[str], part: str, card: "Card") -> "list[Example]":
    """Take the films of one part of the split; warn if they are other files than those behind the card's figures.

    `hashes` are the SHA-256 of the examples' files, in order.
    """
    from pneumo.data.dataset import fingerprint, split

    found, of = split(examples, hashes)[part], dict(zip((e.path for e in examples), hashes, strict=True))
    if fingerprint(of[example.path] for example in found) != card.contents["data"]["parts"][part]["fingerprint"]:
        click.echo(f"The files of {part} are not those behind the figures of the model card.", err=True)
    return found


def show(predictor: "Predictor", examples: "Sequence[Example]") -> "tuple[list[str], Callable[[int], Prediction]]":
    """Return what a report shows films by: their names, (n,), and a function that reads film i again."""
    names = [click.format_filename(example.path.name) for example in examples]
    return names, lambda i: predictor.predict(examples[i].path.read_bytes(), force=True)


def write_json(out: Path, result: dict) -> None:
    """Write all numbers of a measurement, whole or not at all, making the folder if there is none."""
    from pneumo.files import write_whole

    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with write_whole(out) as stream:
        stream.write(text.encode())
