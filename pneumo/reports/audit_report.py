"""One audit -> tables, and a folder with report.md, metrics.json and figures. Computes nothing: `audit` did."""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pneumo import LABELS
from pneumo.data.acquisition import GROUPS
from pneumo.evaluation.audit import NAMED, contradicted
from pneumo.reports.report import (
    ATTRIBUTION,
    BLUE,
    GREY,
    ON_A_SHEET,
    VERMILLION,
    blank,
    drawn,
    markdown,
    sheet,
    span,
    text,
    written,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pneumo.model.predictor import Prediction

Row = tuple[str, ...]
_CHANGES = {
    "auc": "AUC",
    "auc_change": "change",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "same_label": "same label",
}


def acquisition_table(result: dict) -> list[Row]:
    """Heads, then name, AUC and 95 % interval of acquisition alone, of all its numbers and of each group."""
    found = result["acquisition"]
    rows = [("all of it", found), *found["by_group"].items()]
    return [
        ("acquisition alone", "AUC", "95 % interval"),
        *((n, text(f["auc"]), span(f["interval"])) for n, f in rows),
    ]


def model_table(result: dict) -> list[Row]:
    """Heads, then name, value and 95 % interval of every figure in `audit.NAMED`."""
    spans = result["intervals"]
    rows = [(words, text(result[name]), span(spans[name])) for name, words in NAMED.items()]
    return [("model", "value", "95 % interval"), *rows]


def interventions_table(result: dict) -> list[Row]:
    """Heads, then the operating figures under each intervention; change is that of the AUC."""
    rows = [
        (name, *(text(found[key], "+.4f" if key == "auc_change" else ".4f") for key in _CHANGES))
        for name, found in result["interventions"].items()
    ]
    return [("intervention", *_CHANGES.values()), *rows]


def notes(result: dict) -> list[str]:
    """What a reader must know to read the tables, one sentence or two each."""
    films, effective = result["contradicted"], result["matched"]["effective_n"]
    both = [f"{films[label]} {label}" for label in LABELS], [f"{effective[label]:.0f} {label}" for label in LABELS]
    return [
        f"Contradicted: the {100 * films['share']:.0f} % of each class that acquisition would sooner call the other: "
        f"{' and '.join(both[0])}; acquisition alone has AUC {text(films['nuisance_auc'])} there.",
        f"Matched: weighted so that acquisition alone says nothing (AUC {text(result['matched']['nuisance_auc'])}), "
        f"worth {' and '.join(both[1])} films.",
        *deciding(result),
        "Logit explained: share of the variance of the model's logit within a class that a straight line in the "
        "nuisance score explains.",
    ]


def deciding(result: dict) -> list[str]:
    """A sentence for each figure that the absence of one patient changes: by how much the one does who decides most."""
    return [
        f"{NAMED[name]}: {text(one['without'])} instead of {text(result[name])} without the patient who decides most "
        f"({', '.join(one['files'])})."
        for name, one in result["decisive"].items()
        if one
    ]


def columns(rows: Sequence[Row]) -> list[str]:
    """Rows as lines of text, the first column to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in rows]


def write_audit(
    folder: Path,
    result: dict,
    target: np.ndarray,
    score: np.ndarray,
    logit: np.ndarray,
    names: Sequence[str],
    predict: Callable[[int], "Prediction"],
    kermany: bool,
) -> Path:
    """Write everything into `folder` and return the path of its report.md.

    `score` (n,) is the nuisance score and `logit` (n,) the model's, calibrated; `names` (n,) are captions; `predict(i)`
    reads film i again, for the few films that are shown; `kermany` says that films of that data set are among them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, score, logit = np.asarray(target), np.asarray(score), np.asarray(logit)
    captions = [f"{name}\nnuisance score {value:+.1f}" for name, value in zip(names, score, strict=True)]
    away = np.where(target == 1, -1, 1)  # what is high where acquisition, or the model, is on the other label's side
    figures = [("logit", scatter(target, score, logit, result["threshold"]), "The model's logit against acquisition.")]
    for name, against, words in (
        ("contradicted", away * score, "The films whose acquisition contradicts their label most"),
        ("contradicted_worst", away * logit, "Of the contradicted films, those furthest from their label"),
    ):
        ranked = [int(i) for i in np.argsort(-against, kind="stable") if contradicted(target, score)[i]]
        chosen = [[i for i in ranked if target[i] == number][:ON_A_SHEET] for number in range(len(LABELS))]
        caption = f"{words}; below each the regions that raised its probability."
        figures.append((name, sheet(chosen, captions, predict), caption))
    model = result["model"]
    lines = ["# What acquisition alone tells", "", result["acquisition"]["verdict"], ""]
    lines += [f"{result['n']} films of {result['patients']} patients, threshold {result['threshold']:.4f}."]
    lines += ["", f"Model {model['name']} {model['version']}, SHA-256 `{model['sha256']}`."]
    for rows in (acquisition_table(result), model_table(result), interventions_table(result)):
        lines += ["", *markdown(rows[0], rows[1:])]
    lines += [line for note in notes(result) for line in ("", note)]
    if result["unreadable"]:
        lines += ["", f"Not readable: {len(result['unreadable'])}; metrics.json names them."]
    lines += drawn(figures, folder)
    lines += ["", "What acquisition is taken to be, the nuisances of a film:", ""]
    for group, of in GROUPS.items():
        described = (
            f"{', '.join(f'`{name}`' for name, _ in same)} {words}"
            for words, same in itertools.groupby(of.items(), key=lambda item: item[1])
        )
        lines.append(f"- {group}: {'; '.join(described)}.")
    if kermany:
        lines += ["", ATTRIBUTION]
    return written(folder, lines, result)


def scatter(target: np.ndarray, score: np.ndarray, logit: np.ndarray, threshold: float) -> "Figure":
    """The model's logit against the nuisance score, films by label; the contradicted ones in full colour."""
    figure, axes = blank("Nuisance score (log-odds of PNEUMONIA)", "Model's logit (calibrated)", "")
    against = contradicted(target, score)
    for number, (label, colour) in enumerate(zip(LABELS, (BLUE, VERMILLION), strict=True)):
        for strong in (False, True):
            films = (target == number) & (against == strong)
            words = f"{label}, contradicted" if strong else label
            axes.plot(score[films], logit[films], ".", color=colour, alpha=0.9 if strong else 0.25, label=words)
    axes.axhline(math.log(threshold / (1 - threshold)), color=GREY, linestyle=":", label="threshold")
    axes.set(aspect="auto")
    axes.autoscale()
    axes.legend(fontsize=7)
    return figure
