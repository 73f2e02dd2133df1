"""What the worklist shows: studies that wait for a reader, and what readers said of the answers, month by month."""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import NormalDist

from pneumo import LABELS
from pneumo.model.card import TRIAGE
from pneumo.node.store import STATES, VERDICTS, Row, Store, format_time

FIRST = TRIAGE[2]  # films of this triage come first; no other triage moves a film
DAYS = 3  # a weekend and the day before it
MOST_DAYS = 36500
_UNFINISHED = ", ".join(repr(state) for state in STATES if state != "sent")  # SQLite's index knows no "is not"
_WAITING = f"""verdict IS NULL AND (state IN ({_UNFINISHED}) OR state = 'sent' AND received >= ?)
ORDER BY json_extract(outcome, '$.triage') IS ? DESC, received"""
_OLDER = "SELECT count(*) FROM films WHERE verdict IS NULL AND state = 'sent' AND received < ?"
_JUDGED = """SELECT substr(received, 1, 7) AS month, json_extract(outcome, '$.answer.label') AS label, verdict, count(*)
FROM films WHERE verdict IS NOT NULL AND json_extract(outcome, '$.reason') IS NULL
GROUP BY month, label, verdict HAVING label IS NOT NULL ORDER BY month DESC"""


@dataclass(frozen=True)
class Entry:
    """A film on the worklist, and for how many minutes it has waited."""

    row: Row
    minutes: int


def list_waiting(store: Store, now: datetime, days: int) -> list[Entry]:
    """List the films without a verdict: rule-in first, then all others in the order in which they came.

    A film leaves the list `days` after it came, unless its results have not been sent. A low probability puts no film
    behind another: the model may be wrong, and the others wait no longer for it.
    """
    rows = store.find_where(_WAITING, (_begin(now, days), FIRST))
    return [Entry(row, int((now - datetime.fromisoformat(row.received)).total_seconds() // 60)) for row in rows]


def count_older(store: Store, now: datetime, days: int) -> int:
    """Count the films without a verdict that `list_waiting` leaves out."""
    return store.select(_OLDER, (_begin(now, days),))[0][0]


def _begin(now: datetime, days: int) -> str:
    return format_time(now - timedelta(days=days))


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


def tabulate(store: Store) -> list[Month]:
    """Count verdicts on films that were read, the last month first."""
    months: dict[str, Month] = {}
    for name, label, verdict, count in store.select(_JUDGED):
        month = months.setdefault(name, Month(name, dict.fromkeys(LABELS, 0), dict.fromkeys(LABELS, 0)))
        (month.agreed if verdict == VERDICTS[0] else month.disagreed)[label] = count
    return list(months.values())


def bound_share(found: int, of: int) -> tuple[float, float] | None:
    """Give the 95 % interval of a share, by Wilson (1927, doi 10.1080/01621459.1927.10502953); None of no film."""
    if not of:
        return None
    share, z = found / of, NormalDist().inv_cdf(0.975)
    centre = (share + z**2 / (2 * of)) / (1 + z**2 / of)
    half = z * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2)) / (1 + z**2 / of)
    return max(0.0, centre - half), min(1.0, centre + half)
