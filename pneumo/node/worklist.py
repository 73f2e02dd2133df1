"""What the worklist shows: studies that wait for a reader, and what readers said of the answers, month by month."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from statistics import NormalDist

from pneumo import LABELS
from pneumo.model.card import TRIAGE
from pneumo.node.store import Row

FIRST = TRIAGE[2]  # films of this triage come first; no other triage moves a film


@dataclass(frozen=True)
class Entry:
    """A film on the worklist, and for how many minutes it has waited."""

    row: Row
    minutes: int


def list_waiting(rows: Iterable[Row], now: datetime) -> list[Entry]:
    """List the films without a verdict: rule-in first, then all others in the order in which they came.

    A low probability puts no film behind another: the model may be wrong, and the others wait no longer for it.
    """
    waiting = [row for row in rows if row.verdict is None]
    waiting.sort(key=lambda row: (row.outcome is None or row.outcome.triage != FIRST, row.received))
    return [Entry(row, int((now - datetime.fromisoformat(row.received)).total_seconds() // 60)) for row in waiting]


@dataclass(frozen=True)
class Month:
    """What readers said in one month (YYYY-MM, of receipt) of `called` films by label, and how many they `agreed` to.

    With the reader as the truth a PNEUMONIA that they disagree with is a false alarm, such a NORMAL a missed pneumonia.
    """

    name: str
    agreed: dict[str, int]
    disagreed: dict[str, int]

    @property
    def sensitivity(self) -> tuple[int, int]:
        """How many of the reader's pneumonias the model called PNEUMONIA, and how many there are."""
        found = self.agreed[LABELS[1]]
        return found, found + self.disagreed[LABELS[0]]

    @property
    def specificity(self) -> tuple[int, int]:
        """How many of the reader's other films the model called NORMAL, and how many there are."""
        found = self.agreed[LABELS[0]]
        return found, found + self.disagreed[LABELS[1]]


def tabulate(rows: Iterable[Row]) -> list[Month]:
    """Count verdicts on films that were read, the last month first."""
    months: dict[str, Month] = {}
    for row in rows:
        if row.verdict and row.outcome and row.outcome.was_read:
            name = row.received[:7]
            month = months.setdefault(name, Month(name, dict.fromkeys(LABELS, 0), dict.fromkeys(LABELS, 0)))
            said = month.agreed if row.verdict == "agree" else month.disagreed
            said[row.outcome.answer["label"]] += 1
    return [months[name] for name in sorted(months, reverse=True)]


def bound_share(found: int, of: int) -> tuple[float, float] | None:
    """Give the 95 % interval of a share, by Wilson (1927, doi 10.1080/01621459.1927.10502953); None of no film."""
    if not of:
        return None
    share, z = found / of, NormalDist().inv_cdf(0.975)
    centre = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2)) / (1 + z**2 / of)
    return max(0.0, centre - half), min(1.0, centre + half)
