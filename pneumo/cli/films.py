"""What `predict`, `evaluate` and `audit` share: options, the model, every core, progress, and unreadable films."""

import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from pneumo import LABELS
from pneumo.model.card import POINTS
from pneumo.web.settings import cores

if TYPE_CHECKING:
    from pneumo.archive.listing import Film
    from pneumo.data.dataset import Example
    from pneumo.model.card import Card
    from pneumo.model.predictor import Prediction, Predictor

Item, Result = TypeVar("Item"), TypeVar("Result")
AHEAD = 2  # finished films a core that may wait for a slow one before them; more would fill the memory
FILE, FOLDER = click.Path(dir_okay=False, path_type=Path), click.Path(file_okay=False, path_type=Path)
model_option = click.option("--model", metavar="NAME", help="Model of models/, or path of a card; else PNEUMO_MODEL's.")
point_option = click.option(
    "--operating-point", type=click.Choice(POINTS), help="The threshold that makes the label; else the model's default."
)

population_option = click.option(
    "--population", metavar="NAME", help="Whose films these are, child or adult. [default: by age, or as they look]"
)


def load(model: str | None) -> "Predictor":
    """Load the model of that name, to read as many films at once as there are cores.

    A film on each core, with one thread each, is faster than one film on all cores, because decoding runs side by side,
    too. The answers are the same to the bit.
    """
    from pneumo.model.card import find_card, read_card
    from pneumo.model.predictor import Predictor
    from pneumo.model.profile import apply_settings

    return Predictor(apply_settings(read_card(find_card(model), roles=())), threads=1, at_once=cores())


def read(predictor: "Predictor", film: "Film", *args: object, **kwargs: object) -> "Prediction | str":
    """Read a film with these arguments of `Predictor.predict`: a prediction, or the reason why there is none."""
    from pneumo.archive.reading import fetch, judge

    return judge(predictor, fetch(film), *args, **kwargs)


def each(work: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None) -> Iterator[Result]:
    """Compute `work(item)` of each item on every core, in their order; memory does not grow with their number.

    Threads are enough: the network and the decoders release Python's lock. More `threads` than cores are for waiting.
    """
    threads = threads or cores()
    waiting: deque = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= AHEAD * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:  # after Ctrl-C or an error only the films that are being read are finished
        pool.shutdown(cancel_futures=True)


def progress(items: Iterable[Item], label: str, length: int, hidden: bool = False) -> Iterator[Item]:
    """Pass the items on, with a progress bar on stderr if that is a terminal."""
    hidden = hidden or not sys.stderr.isatty()
    with click.progressbar(items, length=length, label=label, file=sys.stderr, hidden=hidden) as bar:
        yield from bar


def report_unreadable(films: Iterable[Path], results: Iterable[object]) -> list[dict[str, str]]:
    """Name on stderr, and return for JSON, the films whose result is the reason (a str) why they could not be read."""
    unreadable = [
        {"file": click.format_filename(film), "reason": reason}
        for film, reason in zip(films, results, strict=True)
        if isinstance(reason, str)
    ]
    for one in unreadable:
        click.echo(f"unreadable: {one['file']}: {one['reason']}", err=True)
    return unreadable


def scan(folder: Path) -> "list[Example]":
    """List the films of a folder of labels, see `dataset.scan`; name on stderr what was passed over in it.

    Raises:
        FileNotFoundError: NORMAL or PNEUMONIA is missing or holds no picture.
    """
    from pneumo.data import dataset

    examples = dataset.scan(folder)
    known, others = {example.path for example in examples}, Counter()
    for path in (path for label in LABELS for path in (folder / label).rglob("*")):
        if path not in known and not path.name.startswith(".") and (path.is_symlink() or not path.is_dir()):
            others[path.suffix.lower() or "without a suffix"] += 1
    if others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
        click.echo(f"Not read in {click.format_filename(folder)}: {kinds}.", err=True)
    return examples


def part_of(examples: "Sequence[Example]", hashes: Sequence[str], part: str, card: "Card") -> "list[Example]":
    """Take the films of one part of the split; warn if they are other files than those behind the card's figures.

    `hashes` are the SHA-256 of the examples' files, in order.
    """
    from pneumo.data.dataset import fingerprint, split

    found, of = split(examples, hashes)[part], dict(zip((e.path for e in examples), hashes, strict=True))
    if fingerprint(of[example.path] for example in found) != card.contents["data"]["parts"][part]["fingerprint"]:
        click.echo(f"The files of {part} are not those behind the figures of the model card.", err=True)
    return found
