"""What an archive's rows say together: labels, refusals by reason, a histogram, and how far that is from the card."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pneumo import LABELS
from pneumo.model.card import TRIAGE, UNFAMILIAR, Card

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BINS = 20  # of the histogram of probabilities, equally wide
REASONS = 30  # that are counted one by one, so that memory stays bounded; the rest together
OTHER = "other reasons"
NUMBER = re.compile(r"\d[\d,.]*")  # "received 3 frames" and "received 4 frames" are one reason


@dataclass
class Summary:
    """Counts of rows. `histogram` (BINS,) int64: films of each population by probability."""

    films: int = 0
    warned: int = 0
    labels: Counter = field(default_factory=Counter)  # (population, label)
    triage: Counter = field(default_factory=Counter)  # (population, triage)
    reasons: Counter = field(default_factory=Counter)
    histogram: dict[str, np.ndarray] = field(default_factory=dict)

    def add(self, row: Mapping[str, str]) -> None:
        """Count a row of texts by its columns."""
        self.films += 1
        if row["error"]:
            reason = NUMBER.sub("…", row["error"].removeprefix("'"))
            self.reasons[reason if reason in self.reasons or len(self.reasons) < REASONS else OTHER] += 1
            return
        whose = row["population"]
        self.warned += bool(row["warnings"])
        self.labels[whose, row["label"]] += 1
        self.triage[whose, row["triage"]] += 1
        place = min(int(float(row["probability"]) * BINS), BINS - 1)
        self.histogram.setdefault(whose, np.zeros(BINS, np.int64))[place] += 1

    @property
    def read(self) -> int:
        """How many films were read."""
        return sum(self.labels.values())

    @property
    def populations(self) -> list[str]:
        """Whose films were read."""
        return sorted(self.histogram)


def summarise(rows: Iterable[Mapping[str, str]]) -> Summary:
    """Count all rows."""
    summary = Summary()
    for row in rows:
        summary.add(row)
    return summary


def tabulate(summary: Summary, card: Card) -> Iterator[str]:
    """Put a summary into lines: films, labels and triage of each population beside the card's internal test, reasons.

    `card` is that of the model which read them.
    """
    yield f"{summary.films} films: {summary.read} read, {summary.films - summary.read} not."
    yield f"{summary.warned} were read with a warning."
    for whose in summary.populations:
        films = int(summary.histogram[whose].sum())
        yield f"\n{whose}: {films} films{'share':>22}  {'internal test':>13}"
        expected = expect_shares(card, whose)
        for name in (*LABELS, *TRIAGE, UNFAMILIAR):
            count = summary.labels[whose, name] + summary.triage[whose, name]
            told = f"{expected[name]:>13.3f}" if name in expected else f"{'-':>13}"
            yield f"  {name:<12} {count:>10} {count / films:>14.3f}  {told}"
    if summary.populations:
        yield "\nOther shares than in the internal test: other films, or other patients. Look before you trust."
    if summary.reasons:
        refused = f"{(summary.films - summary.read) / summary.films:.3f}"
        gate = card.contents.get("gate", {}).get("measured", {}).get("internal_test", {}).get("refused")
        yield f"\nnot read: {refused} of all films" + ("" if gate is None else f"; of the internal test {gate:.3f}")
        for reason, count in summary.reasons.most_common():
            yield f"  {count:>10}  {reason}"


def expect_shares(card: Card, population: str) -> dict[str, float]:
    """Return the shares of labels and triage among the films of the card's internal test; empty where it names none."""
    if population not in card.populations:
        return {}
    contents = card.for_population(population).contents
    films = contents.get("triage", {}).get("internal_test", {}).get("films", {})
    points = contents.get("operating_points", {}).get(card.default_operating_point, {})
    confusion = points.get("internal_test", {}).get("confusion")
    counts = {name: sum(by_label.values()) for name, by_label in films.items()}
    shares = {name: count / sum(counts.values()) for name, count in counts.items()}
    if confusion:
        called = (confusion["tn"] + confusion["fn"], confusion["tp"] + confusion["fp"])
        shares |= {label: count / sum(called) for label, count in zip(LABELS, called, strict=True)}
    return shares


def draw(summary: Summary, card: Card) -> "Figure":
    """Draw how many films have which probability, by population, and why films were not read."""
    from pneumo.reports.figures import BLUE, GREY, VERMILLION, start_grid

    figure, (left, right) = start_grid(2, 2, 4)
    edges, below = np.linspace(0, 1, BINS + 1), np.zeros(BINS, np.int64)
    for number, whose in enumerate(summary.populations):
        colour = (BLUE, VERMILLION, GREY)[number % 3]
        counts = summary.histogram[whose]
        left.bar(edges[:-1], counts, 1 / BINS, below, align="edge", color=colour, edgecolor="white", label=whose)
        left.axvline(card.for_population(whose).threshold, color=colour, linestyle=":", label=f"threshold, {whose}")
        below = below + counts
    left.set(xlabel="Probability of pneumonia", ylabel="Films", title=f"{summary.read} films read", xlim=(0, 1))
    if summary.populations:
        left.legend(fontsize=8)
    reasons = summary.reasons.most_common(8)[::-1]
    right.barh([_shorten(reason) for reason, _ in reasons], [count for _, count in reasons], color=GREY)
    right.set(xlabel="Films", title=f"{summary.films - summary.read} films not read")
    right.tick_params(axis="y", labelsize=7)
    return figure


def _shorten(reason: str) -> str:
    """Cut a reason for an axis; "$" would begin mathematics there."""
    return (reason if len(reason) <= 60 else reason[:59] + "…").replace("$", r"\$")
