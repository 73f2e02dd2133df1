"""What commands that read many films share: options, the model, all cores, a progress bar, and films that fail."""

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from pneumo.errors import PneumoError
from pneumo.model.card import POINTS
from pneumo.web.settings import cores

if TYPE_CHECKING:
    from pneumo.data.dataset import Example
    from pneumo.model.card import Card
    from pneumo.model.predictor import Prediction, Predictor

Item, Result = TypeVar("Item"), TypeVar("Result")
AHEAD = 2  # results per core that may wait for a slow film before them; this bounds the memory
FILE, FOLDER = click.Path(dir_okay=False, path_type=Path), click.Path(file_okay=False, path_type=Path)
model_option = click.option(
    "--model", metavar="NAME", help="A model in models/, or the path of a card. [default: PNEUMO_MODEL]"
)
point_option = click.option(
    "--operating-point", type=click.Choice(POINTS), help="Whose threshold makes the label. [default: the model's]"
)

population_option = click.option(
    "--population", metavar="NAME", help="Whose films these are, child or adult. [default: by age, or as they look]"
)


def load(model: str | None) -> "Predictor":
    """Load the model of that name; it reads as many films at once as there are cores.

    One film per core with one thread each is faster than one film on all cores, because decoding runs in parallel too.
    The answers are the same to the bit.
    """
    from pneumo.model.card import find_card, read_card
    from pneumo.model.predictor import Predictor
    from pneumo.model.profile import apply_settings

    return Predictor(apply_settings(read_card(find_card(model), roles=())), threads=1, at_once=cores())


def read(
    predictor: "Predictor",
    film: Path,
    operating_point: str | None = None,
    force: bool = False,
    population: str | None = None,
) -> "Prediction | str":
    """Read a film: a prediction, or the reason why there is none."""
    try:
        return predictor.predict(film.read_bytes(), operating_point, force, population)
    except PneumoError as error:
        return str(error)
    except OSError as error:
        return f"{error.strerror}."


def each(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Compute `work(item)` of each item on all cores, in order; the memory does not depend on their number.

    Threads are enough: the network and the decoders release Python's lock.
    """
    waiting: deque = deque()
    pool = ThreadPoolExecutor(cores())
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= AHEAD * cores():
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # after Ctrl-C or an error, only the films in progress are finished
        pool.shutdown(cancel_futures=True)


def progress(items: Iterable[Item], label: str, length: int, hidden: bool = False) -> Iterator[Item]:
    """Pass the items on and show a progress bar on stderr, if that is a terminal."""
    hidden = hidden or not sys.stderr.isatty()
    with click.progressbar(items, length=length, label=label, file=sys.stderr, hidden=hidden) as bar:
        yield from bar


def report_unreadable(films: Iterable[Path], results: Iterable[object]) -> list[dict[str, str]]:
    """Name on stderr the films whose result is a reason (a str), and return them for JSON."""
    unreadable = [
        {"file": click.format_filename(film), "reason": reason}
        for film, reason in zip(films, results, strict=True)
        if isinstance(reason, str)
    ]
    for one in unreadable:
        click.echo(f"unreadable: {one['file']}: {one['reason']}", err=True)
    return unreadable


def part_of(examples: "Sequence[Example]", hashes: Sequence[str], part: str, card: "Card") -> "list[Example]":
    """Choose the films of one part of the split; `hashes` are the files' SHA-256, in order.

    Says on stderr if they are not the files behind the card's figures, for example copies of another size.
    """
    from pneumo.data.dataset import fingerprint, split

    found, of = split(examples, hashes)[part], dict(zip((e.path for e in examples), hashes, strict=True))
    if fingerprint(of[example.path] for example in found) != card.contents["data"]["parts"][part]["fingerprint"]:
        click.echo(f"The files of {part} are not those behind the figures of the model card.", err=True)
    return found
