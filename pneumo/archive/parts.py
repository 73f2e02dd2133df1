"""An archive's rows in parts of FILMS films, so that a killed run goes on and memory does not grow with the archive.

A part's name holds its shard, its number, and a key of everything that its rows depend on: the names of its films, the
model and the options. A part that is there under its name is done. After its last part a shard writes a JSON file that
says so.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from pneumo import __version__
from pneumo.archive.folder import LocalFolder, RemoteFolder
from pneumo.archive.listing import Film, Shard
from pneumo.archive.rows import COLUMNS, encode
from pneumo.errors import RunError
from pneumo.model.card import Card

FILMS = 1000  # a minute of one core
PART = re.compile(r"shard-(\d{5})-of-(\d{5})\.part-(\d{5})\.[0-9a-f]{16}\.(csv|parquet)")
DONE = re.compile(r"shard-(\d{5})-of-(\d{5})\.json")


@dataclass(frozen=True)
class Finished:
    """What the shards of a folder say once all are finished.

    `settings` are those that every shard was read with, `parts` the names of all files, `films` their number of rows.
    """

    settings: dict
    parts: list[str]
    films: int
    kind: str


def describe_settings(card: Card, operating_point: str | None, force: bool, population: str | None) -> dict:
    """Collect what rows depend on besides the films: program, model with its numbers, and options."""
    populations = {name: vars(population) for name, population in card.populations.items()}
    numbers = json.dumps([card.contents, populations, COLUMNS], sort_keys=True)
    return {
        "pneumo": __version__,
        "model": card.model,
        "numbers": hashlib.sha256(numbers.encode()).hexdigest(),
        "operating_point": card.operating_point(operating_point),
        "population": card.check_population(population),
        "force": force,
    }


def name_part(shard: Shard, number: int, films: Sequence[Film], settings: dict, kind: str) -> str:
    """Return the name of the file for those films."""
    key = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for film in films:
        key.update(b"\0" + str(film).encode("utf-8", "surrogateescape"))
    return f"{_name_shard(shard)}.part-{number:05}.{key.hexdigest()[:16]}.{kind}"


def write_shard(
    folder: LocalFolder | RemoteFolder,
    shard: Shard,
    films: Iterable[Film],
    read: Callable[[Sequence[Film]], Sequence[Sequence]],
    settings: dict,
    kind: str,
    say: Callable[[str], None],
) -> list[str]:
    """Write the parts of a shard that are not there yet; return the names of all. `read` turns films into rows.

    Raises:
        RunError: the folder has parts of other films, of another model or of another number of shards.
    """
    films, names, count = iter(films), [], 0
    while chunk := list(islice(films, FILMS)):
        name = name_part(shard, len(names), chunk, settings, kind)
        there = _find_parts(folder, shard, kind)  # each time anew: another process may work on the same shard
        if there.get(len(names), name) != name:
            raise _refuse(folder, there[len(names)])
        if len(names) in there:
            say(f"{name} is there already.")
        else:
            folder.write(name, encode(read(chunk), kind))
            say(f"{name} is written: {len(chunk)} films.")
        names.append(name)
        count += len(chunk)
    if beyond := [name for number, name in _find_parts(folder, shard, kind).items() if number >= len(names)]:
        raise _refuse(folder, beyond[0])
    done = {**settings, "films": count, "parts": names, "kind": kind}
    folder.write(f"{_name_shard(shard)}.json", json.dumps(done, indent=2).encode())
    return names


def find_finished(folder: LocalFolder | RemoteFolder) -> Finished:
    """Find the parts of all shards, in their order.

    Raises:
        RunError: there are none, a shard is not finished, or two were read with different settings.
    """
    names = folder.names()
    found = sorted(match.groups() for match in map(DONE.fullmatch, names) if match)
    started = sorted(match.groups()[:2] for match in map(PART.fullmatch, names) if match)
    if not found and not started:
        raise RunError(f"Expected parts that `pneumo predict --parts {folder}` wrote, found none.")
    counts = {count for _, count in (*found, *started)}
    if len(counts) > 1:
        raise RunError(f"Expected shards of one number in {folder}, found some of {' and of '.join(sorted(counts))}.")
    (count,) = counts
    missing = sorted({f"{number:05}" for number in range(int(count))} - {number for number, _ in found})
    if missing:
        shown = ", ".join(str(int(number)) for number in missing[:10]) + (" …" if len(missing) > 10 else "")
        raise RunError(
            f"Expected all {int(count)} shards in {folder} to be finished, {len(missing)} are not: {shown}. Run the "
            "same commands again: what is there is kept."
        )
    said = [json.loads(folder.read(f"shard-{number}-of-{count}.json")) for number, _ in found]
    films, parts = sum(one.pop("films") for one in said), [name for one in said for name in one.pop("parts")]
    if lost := sorted({*parts} - {*names}):
        raise RunError(f"Expected {lost[0]} in {folder}, found no such file. Run its shard again.")
    if any(one != said[0] for one in said):
        raise RunError(f"Expected shards of one model and the same options in {folder}, found different ones.")
    return Finished(said[0], parts, films, said[0].pop("kind"))


def _name_shard(shard: Shard) -> str:
    return f"shard-{shard.index:05}-of-{shard.count:05}"


def _find_parts(folder: LocalFolder | RemoteFolder, shard: Shard, kind: str) -> dict[int, str]:
    """Find the parts of a shard by their numbers; refuse a folder of other shards or another kind of file."""
    found = {}
    for match in _match_parts(folder):
        index, count, number, suffix = match.groups()
        if int(count) != shard.count or suffix != kind:
            raise _refuse(folder, match[0])
        if int(index) == shard.index:
            found[int(number)] = match[0]
    return found


def _match_parts(folder: LocalFolder | RemoteFolder) -> Iterator[re.Match]:
    return filter(None, map(PART.fullmatch, sorted(folder.names())))


def _refuse(folder: LocalFolder | RemoteFolder, name: str) -> RunError:
    return RunError(
        f"{name} in {folder} has other films, another model, other options or another number of shards than this run. "
        "Name another folder for the parts, or remove those."
    )
