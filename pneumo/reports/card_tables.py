"""What a model card says -> rows of text for its pages, with what follows from it: predictive values, intervals."""

import statistics
from collections.abc import Mapping

import numpy as np

from pneumo.evaluation.metrics import bound_share
from pneumo.model.card import Card
from pneumo.reports.pages import write_figure, write_interval, write_percent
from pneumo.reports.tables import Row

# What the gate was measured on, and what of the same sort taught it; `{}` is how many
_GATED = {
    "validation": ("films of validation", "nothing; they set the limits"),
    "internal_test": ("films of the internal test", "nothing"),
    "frontal films elsewhere": (
        "frontal films of adults elsewhere",
        "all; measured by gates taught without them",
    ),
    "other pictures": ("photographs", "all; measured by gates taught without them"),
    "photograph": ("photographs", "all; measured by gates taught without them"),
    "lateral": ("lateral chest films", "all; measured by gates taught without them"),
    "ct": ("CT slices", "all; measured by gates taught without them"),
    "body_part": ("films of other parts of the body", "all; measured by gates taught without them"),
    "drawn pictures": ("one grey, noise, gradients, text", "others, drawn alike"),
    "upside_down": ("internal test, upside down", "{} films of train"),
    "sideways": ("internal test, on its side", "{} films of train"),
    "negative": ("internal test, negative", "{} films of train"),
}
PATIENTS = {"child": "children", "adult": "adults"}  # of a population
REACHED = {  # of a receipt
    "val_calibrated": "loss of calibrated logits",
    "val_AUC_child": "children: AUC",
    "val_AUC_adult": "adults: AUC, opacity against all others",
    "val_pointing": "map points into a box",
}
RARER = (0.3, 0.1, 0.05)  # shares of films with pneumonia


def compute_predictive_value(share: float, sensitivity: float, specificity: float) -> float:
    """Share of pneumonias among films called PNEUMONIA where `share` of all films show one: Bayes' rule."""
    right = share * sensitivity
    return right / (right + (1 - share) * (1 - specificity))


def compute_missed(share: float, sensitivity: float, specificity: float) -> float:
    """Share of pneumonias among films called NORMAL where `share` of all films show one: Bayes' rule."""
    wrong = share * (1 - sensitivity)
    return wrong / (wrong + (1 - share) * specificity)


def tabulate_prevalence(contents: Mapping) -> list[Row]:
    """What the labels are worth here and where pneumonia is rarer: films with one, then of 100 called so and not so.

    In brackets is what they are worth if sensitivity and specificity both lie at an end of their intervals.
    """
    test, part = contents["metrics"]["internal_test"], contents["data"]["parts"]["internal_test"]
    rates = [[test[key], *test["intervals"][key]] for key in ("sensitivity", "specificity")]
    here = part["PNEUMONIA"] / part["n"]
    rows = []
    for share in (here, *RARER):
        cells = []
        for digits, compute in ((0, compute_predictive_value), (1, compute_missed)):
            value, *ends = (100 * compute(share, *pair) for pair in zip(*rates, strict=True))
            cells.append(f"{value:.{digits}f} ({write_interval(sorted(ends), digits)})")
        rows.append((f"{100 * share:.0f} in 100{' (these films)' if share == here else ''}", *cells))
    return rows


def tabulate_refusals(gate: Mapping) -> list[Row]:
    """What share of which pictures the gate refuses and doubts, with what taught it."""
    from scipy.stats import binomtest

    taught = gate["taught"] | gate["of folders"]
    rows = []
    for name, found in gate["measured"].items():
        group, _, population = name.partition(", ")  # of a card of several populations
        words, source = _GATED.get(group, (group, "others" if group in taught else "nothing"))
        words += f" ({population})" if population else ""
        n, share = found["n"], found["refused"]
        span = binomtest(round(share * n), n).proportion_ci(method="wilson")
        doubtful = max(0, found["doubtful"] - share)  # whatever is refused is doubtful, too
        interval = f"{write_percent(span.low)} to {write_percent(span.high)}"
        rows.append(
            (words, n, write_percent(share), interval, write_percent(doubtful), source.format(taught.get(group)))
        )
    return rows


def tabulate_ages(gate: Mapping) -> list[Row]:
    """Heads, then how often the film tells whose it is, by change; nothing for a card of one population."""
    if "populations" not in gate:
        return []

    def tell(found: Mapping) -> str:
        low, high = bound_share(np.arange(found["n"]) < round(found["right"] * found["n"]), range(found["n"]))
        span = f"{write_percent(low)} to {write_percent(high)}"
        return f"{write_percent(found['right'])} of {found['n']}, {span} ({write_percent(found['unclear'])})"

    measured = gate["populations"]
    heads = [PATIENTS.get(name, name) for name in next(iter(measured.values()))]
    return [("", *heads), *((change, *map(tell, of.values())) for change, of in measured.items())]


def count_open_films(card: Card) -> dict | None:
    """The uncertain films of the internal test by what they are, their `count`, and the one `label` that all have.

    None where there are none, or where the default threshold lies between them.
    """
    films = card.contents["triage"]["internal_test"]["films"]["uncertain"]
    label = {card.rule_in: "NORMAL", card.rule_out: "PNEUMONIA"}.get(card.threshold)
    return {**films, "count": sum(films.values()), "label": label} if label and sum(films.values()) else None


def tabulate_reached(reached: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """What the networks of several seeds reached on validation, a row each, then their mean and standard deviation.

    The first row has the names of the columns. Nothing for a card whose receipt does not say.
    """
    if not reached:
        return []
    names = [name for name in REACHED if all(name in found for found in reached.values())]
    columns = [[found[name] for found in reached.values()] for name in names]
    rows = [(seed, *(write_figure(found[name]) for name in names)) for seed, found in reached.items()]
    if len(reached) > 1:
        spread = (f"{write_figure(statistics.mean(c))} ± {write_figure(statistics.stdev(c))}" for c in columns)
        rows.append(("mean ± standard deviation", *spread))
    return [("", *(REACHED[name] for name in names)), *rows]
