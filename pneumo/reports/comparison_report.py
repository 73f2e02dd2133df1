"""The page that compares recipes: tables and figures. Measures nothing: `comparison` and the runs have done that."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pneumo.evaluation.thresholds import RULES
from pneumo.model.card import POINTS
from pneumo.reports.report import ATTRIBUTION, BLUE, GREY, VERMILLION, blank, draw_confusion, markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIRST = POINTS[0]  # the operating point that favours sensitivity
MISLED = ("auc_contradicted", "auc_matched", "explained_normal", "explained_pneumonia")  # of `audit.audit`
MEASURES = ("auc", "accuracy", "precision", "sensitivity", "specificity", "f1")
COLUMNS = 5  # of figures with a panel a recipe
_LINES = ("-", "--", ":", "-.")


def roc(runs: dict[str, tuple[dict, dict]]) -> "Figure":
    """All ROC curves in one plot, of which the corner is shown where they lie."""
    from sklearn.metrics import roc_curve

    figure, axes = blank("1 − specificity", "Sensitivity", "")
    figure.set_size_inches(7, 5)
    for number, (name, (card, run)) in enumerate(runs.items()):
        test = card["metrics"]["internal_test"]
        alarms, found, _ = roc_curve(run["internal_test"]["target"], run["internal_test"]["probability"])
        words, colour = f"{name}: AUC {test['auc']:.3f}", f"C{number % 10}"
        axes.plot(alarms, found, _LINES[number % len(_LINES)], color=colour, linewidth=1.3, label=words)
        axes.plot(1 - test["specificity"], test["sensitivity"], "o", color=colour, markersize=5)
    axes.set(xlim=(-0.01, 0.5), ylim=(0.75, 1.005), aspect="auto")
    axes.legend(fontsize=8, loc="lower right")
    return figure


def curves(runs: dict[str, tuple[dict, dict]]) -> "Figure":
    """Loss by epoch of every run, the phases of VGG-16 behind each other."""
    figure, grid = _grid(len(runs), 2.6)
    for axes, (name, (_, run)) in zip(grid, runs.items(), strict=True):
        start = 0
        for history in run["histories"].values():
            x = start + 1 + np.arange(len(history["loss"]))
            axes.plot(x, history["loss"], "o--", color=BLUE, markersize=3)
            axes.plot(x, history["val_loss"], "o-", color=VERMILLION, markersize=3)
            if start:
                axes.axvline(start + 0.5, color=GREY, linewidth=0.8, linestyle=":")
            start = x[-1]
        axes.set_ylim(0, min(1.5, axes.get_ylim()[1]))  # an early epoch with batch normalisation may be far above
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
    return figure


def confusions(runs: dict[str, tuple[dict, dict]]) -> "Figure":
    """The confusion matrix of every run."""
    figure, grid = _grid(len(runs), 2.8)
    for axes, (name, (card, _)) in zip(grid, runs.items(), strict=True):
        draw_confusion(axes, card["metrics"]["internal_test"])
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=6)
    return figure


def _grid(count: int, height: float) -> tuple["Figure", list]:
    from matplotlib.figure import Figure

    lines = -(-count // COLUMNS)
    figure = Figure(figsize=(12, height * lines), layout="constrained")
    grid = list(figure.subplots(lines, COLUMNS, squeeze=False).flat)
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, grid[:count]


def page(rows: dict[str, dict], figures: Sequence[tuple[str, str]]) -> list[str]:
    """The lines of comparison.md."""
    n = next(iter(rows.values()))["internal_test"]["n"]

    lines = [
        "# Approaches of student projects, trained on the same films",
        "",
        "Written by `pneumo compare`. All were trained on the train part of the split by patient, their thresholds and "
        f"calibration chosen on validation by the same rules, and measured on the internal test of {n} films with the "
        "model that is served. Intervals are 95 %: Wilson's for shares of films, as if all films of one child were "
        "alike, else bootstraps by child. Those of the internal test are computed anew for this page; those of "
        "validation are bootstraps that the runs kept. The approaches are known from descriptions, without names or "
        "addresses of who made them. The figures that they report are of other films, often those that stopped their "
        "training, and cannot be compared with these.",
        "",
        "## On the internal test, at the shipped threshold",
        "",
        *markdown(
            ("Recipe", "AUC", "Accuracy", "Precision", "Sensitivity", "Specificity", "F1", "Loss"),
            [
                (
                    f"`{name}`",
                    *(_spanned(row["internal_test"], key) for key in MEASURES),
                    f"{row['internal_test']['loss']:.3f}",
                )
                for name, row in rows.items()
            ],
        ),
        "",
        "Loss is the binary cross-entropy of the calibrated probability.",
        "",
        "## Sensitivity first",
        "",
        f"At the operating point `{FIRST}`: {RULES[FIRST]} on validation.",
        "",
        *markdown(
            ("Recipe", "Threshold", "Sensitivity", "Specificity", "Missed", "False alarms"),
            [
                (
                    f"`{name}`",
                    f"{first['threshold']:.4f}",
                    f"{first['sensitivity']:.3f}",
                    f"{first['specificity']:.3f}",
                    f"{first['confusion']['fn']}",
                    f"{first['confusion']['fp']}",
                )
                for name, row in rows.items()
                for first in [row["sensitivity_first"]]
            ],
        ),
        "",
        "## Where acquisition misleads",
        "",
        "On validation. Sharpness, tone and border alone tell the labels of these films apart, and a network that "
        "learns them scores beautifully and reads nothing ([audit](audit/report.md)). Contradicted are the films whose "
        "acquisition looks most like the other label's; matched are films weighted so that acquisition says nothing; "
        "explained is the share of the variance of the logit within a class that acquisition explains. A high AUC "
        "above with a low one here is no skill. Films whose lungs were segmented tell something by the outline, too.",
        "",
        *markdown(
            ("Recipe", "AUC, contradicted", "AUC, matched", "Explained, NORMAL", "Explained, PNEUMONIA"),
            [(f"`{name}`", *(_spanned(row["misled"], key) for key in MISLED)) for name, row in rows.items()],
        ),
        "",
        "## How they were trained, and what they cost",
        "",
        *markdown(
            (
                *("Recipe", "Version", "Network", "Parameters", "Preprocessing", "Augmentation", "Size", "Weights"),
                *("Epochs", "Last block"),
                *("Seconds an epoch", "Waiting for films", "Milliseconds a film", "Served", "Short of the recipe"),
            ),
            [
                (
                    f"`{name}`",
                    row["version"],
                    row["about"],
                    f"{row['parameters'] / 1e6:.1f} million",
                    ", ".join(row["preprocessing"]) or "none",
                    row["augmentation"],
                    str(row["size"]),
                    row["weights"],
                    " + ".join(f"{count} ({phase})" for phase, count in row["epochs"].items()),
                    row["last_block"],
                    " + ".join(f"{seconds:.0f} ({phase})" for phase, seconds in row["seconds_an_epoch"].items()),
                    "" if row["waiting"] is None else f"{row['waiting']:.1%}",
                    f"{row['milliseconds']:.1f}",
                    row["served"],
                    row["differs"] or "nothing",
                )
                for name, row in rows.items()
            ],
        ),
        "",
        "Version is that of this program when the recipe was trained. Of the chest-xray base there were several: "
        "behind it stands how the SHA-256 of its file begins. A millisecond figure holds decoding, preprocessing and "
        "one thread of the network. Epochs are those that were "
        "run; of each phase the one with the lowest validation loss was kept, and of VGG-16 the better of both phases: "
        "where that was the top, its last block is the base's. Seconds were measured on a machine that did "
        "other work as well: read them against each other, and coarsely.",
        "",
        "## What the authors report, and what they leave open",
        "",
        *markdown(
            ("Recipe", "Reported", "Left open, and chosen here"),
            [(f"`{name}`", row["reported"], row["unsaid"]) for name, row in rows.items()],
        ),
        "",
        "What they call recall is the sensitivity.",
        "",
        "## Served against Keras",
        "",
        *markdown(
            ("Recipe", "AUC in Keras", "AUC served", "Same label", "Trained again by"),
            [
                (
                    f"`{name}`",
                    f"{row['agreement']['auc_float']:.4f}",
                    f"{row['agreement']['auc_served']:.4f}",
                    f"{row['agreement']['same_label']:.1%}",
                    f"`{row['receipt']}`",
                )
                for name, row in rows.items()
            ],
        ),
    ]
    for name, caption in figures:
        lines += ["", f"![{caption}](comparison/{name})", "", caption]
    return [*lines, "", ATTRIBUTION]


def _spanned(found: dict, name: str) -> str:
    """Value and interval as text."""
    if found[name] is None:
        return "undefined"
    low, high = found["intervals"][name]
    return f"{found[name]:.3f} ({low:.3f} to {high:.3f})"
