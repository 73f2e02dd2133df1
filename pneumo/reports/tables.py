"""What `evaluate` and `audit` measured -> rows of text, for the terminal and for pages alike. Computes nothing."""

from collections.abc import Sequence

from pneumo import LABELS
from pneumo.evaluation.audit import NAMED
from pneumo.evaluation.metrics import BINS, METRICS
from pneumo.reports.pages import write_figure, write_interval, write_spanned

Row = tuple[str, ...]
NAMES = {"auc": "AUC", "f1": "F1", "brier": "Brier score", "ece": f"ECE ({BINS} bins)"}
TRIAGE_NAMES = {
    "uncertain": "Uncertain",
    "settled_sensitivity": "Settled: sensitivity",
    "settled_specificity": "Settled: specificity",
    "settled_error": "Settled: error",
    "error": "All: error",
}
UNITS = {"image size": "pixels", "brightness": "grey levels"}
CHANGES = {
    "auc": "AUC",
    "auc_change": "change",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "same_label": "same label",
}


def tabulate_metrics(result: dict) -> list[Row]:
    """Name, value and 95 % interval of every metric."""
    return _tabulate(result, {name: NAMES.get(name, name.capitalize()) for name in METRICS})


def tabulate_triage(triage: dict) -> list[Row]:
    """Name, value and 95 % interval of what `measure_triage` measured."""
    return _tabulate(triage, TRIAGE_NAMES)


def tabulate_points(points: dict[str, dict]) -> list[Row]:
    """Name, threshold, sensitivity and specificity of operating points, each with its interval if it has one.

    `points` has what `measure_point` or `suggest_points` measured.
    """
    rows = []
    for name, point in points.items():
        interval = point.get("interval")
        threshold = write_figure(point["threshold"]) + (f" ({write_interval(interval)})" if interval else "")
        rows.append((name, threshold, *(write_spanned(point, key, 4) for key in ("sensitivity", "specificity"))))
    return rows


def tabulate_subgroups(groups: dict[str, dict[str, dict]]) -> list[Row]:
    """Name, films, sensitivity and specificity of what `measure_subgroups` measured, each with its interval."""
    rows = []
    for division, parts in groups.items():
        for name, found in parts.items():
            words = f"{division.capitalize()}: {name}"
            if "range" in found:
                low, high = (f"{value:.0f}" for value in found["range"])
                words += f", {low if low == high else f'{low} to {high}'} {UNITS[division]}"
            cells = (_write_known(found, key, 4) for key in ("sensitivity", "specificity"))
            rows.append((words, str(found["n"]), *cells))
    return rows


def tabulate_strata(strata: dict[str, dict]) -> list[Row]:
    """Name, films, pneumonias, both AUCs, sensitivity and specificity of what `measure_strata` measured."""
    keys = ("auc", "auc_normal", "sensitivity", "specificity")
    return [
        (name, str(one["n"]), str(one["labels"][LABELS[1]]), *(_write_known(one, key) for key in keys))
        for name, one in strata.items()
    ]


def tabulate_pointing(pointing: dict[str, dict]) -> list[Row]:
    """Name, films, and the shares that `measure_pointing` measured, each followed by that of chance."""
    return [
        (name, str(one["n"]), *(_write_known(one, key) for key in ("pointing", "chance", "inside", "area")))
        for name, one in pointing.items()
    ]


def tabulate_acquisition(result: dict) -> list[Row]:
    """Heads, then name, AUC and 95 % interval of acquisition alone: of all its numbers and of each group."""
    found = {"all of it": result["acquisition"], **result["acquisition"]["by_group"]}
    rows = [(name, write_figure(one["auc"]), write_interval(one["interval"])) for name, one in found.items()]
    return [("acquisition alone", "AUC", "95 % interval"), *rows]


def tabulate_model(result: dict) -> list[Row]:
    """Heads, then name, value and 95 % interval of every figure in `audit.NAMED`."""
    return [("model", "value", "95 % interval"), *_tabulate(result, NAMED)]


def tabulate_interventions(result: dict) -> list[Row]:
    """Heads, then the figures under each intervention; "change" is that of the AUC."""
    rows = [
        (name, *(write_figure(found[key], 4, sign=key == "auc_change") for key in CHANGES))
        for name, found in result["interventions"].items()
    ]
    return [("intervention", *CHANGES.values()), *rows]


def explain_audit(result: dict) -> list[str]:
    """What a reader must know to read the audit's tables, a sentence or two each."""
    films, matched = result["contradicted"], result["matched"]
    counts = " and ".join(f"{films[label]} {label}" for label in LABELS)
    worth = " and ".join(f"{matched['effective_n'][label]:.0f} {label}" for label in LABELS)
    return [
        f"Contradicted: the {100 * films['share']:.0f} % of each class whose acquisition looks most like the other's: "
        f"{counts}; acquisition alone has AUC {write_figure(films['acquisition_auc'])} there.",
        f"Matched: weighted so that acquisition alone says nothing (AUC {write_figure(matched['acquisition_auc'])}); "
        f"as certain as {worth} films.",
        *name_decisive(result),
        "Logit explained: share of the variance of the model's logit within a class that a straight line in the "
        "acquisition score explains.",
    ]


def name_decisive(result: dict) -> list[str]:
    """For each figure that hangs on one patient, a sentence: what it is without that patient, and whose films."""
    return [
        f"{NAMED[name]}: {write_figure(one['without'])} instead of {write_figure(result[name])} without the patient "
        f"who decides most ({', '.join(one['files'])})."
        for name, one in result["decisive"].items()
        if one
    ]


def align(rows: Sequence[Row]) -> list[str]:
    """Rows as lines of text in columns, the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]


def _write_known(found: dict, name: str, digits: int = 3) -> str:
    """Write a figure with its interval, if it has one; nothing where it is None."""
    if found[name] is None:
        return ""
    return write_spanned(found, name, digits) if name in found["intervals"] else write_figure(found[name], digits)


def _tabulate(found: dict, names: dict[str, str]) -> list[Row]:
    return [(w, write_figure(found[name]), write_interval(found["intervals"][name])) for name, w in names.items()]
