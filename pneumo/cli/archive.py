"""`pneumo predict --parts` reads a shard of an archive, `pneumo merge` joins the shards' parts and sums them up."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pneumo.cli.films import FILE, each, model_option
from pneumo.errors import RunError

if TYPE_CHECKING:
    from pneumo.archive.listing import Film
    from pneumo.archive.summary import Summary
    from pneumo.model.card import Card
    from pneumo.model.predictor import Predictor

FETCHES = 8  # films fetched at a time: from S3 one takes some 50 ms, in which nothing is computed


class ShardType(click.ParamType):
    """I/N, the I-th of N shares, counted from 0."""

    name = "shard"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Read the two numbers."""
        index, _, count = str(value).partition("/")
        if not (index.isdecimal() and count.isdecimal() and int(index) < int(count) <= 99999):
            self.fail(f"expected I/N with I from 0 to N - 1, such as 0/3, received {value}.", param, ctx)
        return int(index), int(count)


SHARD = ShardType()


def read_archive(
    load: "Callable[[], Predictor]",
    sources: Sequence[str],
    lists: Sequence[str],
    shard: tuple[int, int],
    where: str,
    parquet: bool,
    options: dict,
) -> None:
    """Write the parts of a shard that are not there yet into the folder `where`, and say what all its rows say."""
    from pneumo.archive.folder import open_folder
    from pneumo.archive.listing import Shard, find_films
    from pneumo.archive.parts import describe_settings, write_shard
    from pneumo.archive.reading import fetch, judge
    from pneumo.archive.rows import CSV, PARQUET, decode, make_schema, to_row
    from pneumo.archive.summary import summarise

    if parquet:
        make_schema()  # a missing pyarrow is said before the first film is read
    predictor, kind, share = load(), PARQUET if parquet else CSV, Shard(*shard)

    def say(words: str) -> None:
        click.echo(words, err=True)

    def read(films: "Sequence[Film]") -> list[tuple]:
        """Fetch films ahead, read them on every core, and return their rows."""
        fetched = each(fetch, films, FETCHES)
        rows = each(lambda data: to_row("", judge(predictor, data, **options))[1:], fetched)
        return [(click.format_filename(film), *row) for film, row in zip(films, rows, strict=True)]

    settings = describe_settings(predictor.card, **options)
    folder = open_folder(where)
    names = write_shard(folder, share, find_films(sources, lists, share, say), read, settings, kind, say)
    summary = summarise(row for name in names for row in decode(folder.read(name), kind))
    _print_summary(summary, _choose_point(predictor.card, settings))


@click.command()
@click.argument("parts", metavar="DIR_OR_URL")
@click.argument("out", type=FILE)
@click.option("--figure", type=FILE, help="Draw the histogram of probabilities and the reasons of refusals: a .png.")
@model_option
def merge(parts: str, out: Path, figure: Path | None, model: str | None) -> None:
    """Join the parts that `pneumo predict --parts` wrote into one file OUT, and sum them up.

    OUT is CSV or Parquet, as the parts are. It appears once all shards are finished.
    """
    from pneumo.archive.folder import open_folder
    from pneumo.archive.parts import find_finished
    from pneumo.archive.rows import check_writable, join
    from pneumo.archive.summary import draw, summarise
    from pneumo.files import write_whole
    from pneumo.model.card import find_card, read_card
    from pneumo.model.profile import apply_settings

    folder = open_folder(parts)
    finished = find_finished(folder)
    if out.suffix != f".{finished.kind}":
        raise click.UsageError(f"Expected a name that ends in .{finished.kind}, as the parts do, received {out.name}.")
    check_writable(out, click.format_filename(out), finished.kind)
    with write_whole(out) as stream:
        summary = summarise(join((folder.read(name) for name in finished.parts), finished.kind, stream))
    card = apply_settings(read_card(find_card(model), roles=()))
    if card.sha256 != finished.settings["model"]["sha256"]:
        raise RunError(
            f"Expected the card of the model that read the films, {finished.settings['model']['name']} "
            f"{finished.settings['model']['version']}, received {card.name} {card.version}: name it with --model."
        )
    card = _choose_point(card, finished.settings)
    _print_summary(summary, card)
    if figure:
        figure.parent.mkdir(parents=True, exist_ok=True)
        draw(summary, card).savefig(figure, dpi=120)


def _choose_point(card: "Card", settings: dict) -> "Card":
    """Return the card with the operating point that made the labels as its default."""
    return replace(card, default_operating_point=settings["operating_point"])


def _print_summary(summary: "Summary", card: "Card") -> None:
    from pneumo.archive.summary import tabulate

    for line in tabulate(summary, card):
        click.echo(line)
