"""What a worker starts from: the model, the site's profile and the keys, checked, in memory.

gunicorn's first process reads them once and forks its workers with them. So a worker that starts later, because another
one was killed, does not depend on what the disk holds by then; and a reload that finds a model that cannot be served
keeps the one there is.

`python -m pneumo.web.startup` checks what the next reload would read.
"""

import os
import sys
from dataclasses import dataclass, field, fields
from typing import Self

from pneumo.errors import PneumoError
from pneumo.model.card import Card, read_card
from pneumo.model.profile import apply_settings
from pneumo.web import logs
from pneumo.web.access import read_keys, read_origins
from pneumo.web.settings import read_numbers


@dataclass(frozen=True)
class CardInMemory(Card):
    """A card with what is in its files; `data` has the bytes of each role."""

    data: dict[str, bytes] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, card: Card, roles: tuple[str, ...] = ("served", "gate")) -> Self:
        """Read the files of a card.

        Raises:
            ModelError: see `Card.read`.
        """
        known = {one.name: getattr(card, one.name) for one in fields(card)}
        return cls(**known, data={role: card.read(role) for role in roles})

    def read(self, role: str) -> bytes:
        """Return what was in the file of that role."""
        return self.data[role]


@dataclass(frozen=True)
class Startup:
    """A card with its site's operating points, and the hashes of the keys."""

    card: Card
    keys: frozenset[bytes]


_held: Startup | None = None  # of this process and those that it forks


def hold() -> None:
    """Read from the disk what the workers start from, from now on.

    Raises:
        ModelError, OperatingPointError, SettingError: the model's files are not those of its card, the site's profile
            is not the model's, or a setting means nothing. Then what was held before is kept.
    """
    global _held
    _held = read_startup()


def read_startup() -> Startup:
    """Read the model, the profile that PNEUMO_PROFILE names, and the keys of PNEUMO_KEYS from the disk.

    Raises:
        ModelError, OperatingPointError, SettingError: see `hold`.
    """
    return Startup(apply_settings(CardInMemory.of(read_card(roles=()))), read_keys(os.environ.get("PNEUMO_KEYS")))


def get_startup() -> Startup:
    """Return what is held; where nothing is, what the disk has.

    Raises:
        ModelError, OperatingPointError, SettingError: see `hold`.
    """
    return _held or read_startup()


def check() -> Card:
    """Read everything that a worker reads, put a film through the model, and return the card.

    Raises:
        ModelError, OperatingPointError, SettingError: no worker could start.
    """
    from pneumo.model.predictor import Predictor

    read_numbers()
    read_origins(os.environ.get("PNEUMO_ORIGINS"))
    logs.make_formatter(os.environ.get("PNEUMO_LOG"))
    return Predictor(read_startup().card).card


if __name__ == "__main__":
    try:
        check()
    except PneumoError as error:
        sys.exit(str(error))
