"""The figures of the comparison: ROC curves, learning curves and confusion matrices of many runs.

`runs` has the card and the record of each recipe, as `comparison.read_runs` read them.
"""

from typing import TYPE_CHECKING

import numpy as np

from pneumo.reports.figures import BLUE, GREY, VERMILLION, draw_confusion, start_figure, start_grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACROSS = 5  # panels
_LINES = ("-", "--", ":", "-.")


def draw_rocs(runs: dict[str, tuple[dict, dict]]) -> "Figure":
    """All ROC curves in one plot, of which the corner is shown where they lie."""
    from sklearn.metrics import RocCurveDisplay

    figure, axes = start_figure(7, 5)
    for number, (name, (card, run)) in enumerate(runs.items()):
        test, kept, colour = card["metrics"]["internal_test"], run["internal_test"], f"C{number % 10}"
        line = {"linestyle": _LINES[number % len(_LINES)], "color": colour, "linewidth": 1.3}
        line["label"] = f"{name}, AUC {test['auc']:.3f}"
        RocCurveDisplay.from_predictions(kept["target"], kept["probability"], ax=axes, curve_kwargs=line)
        axes.plot(1 - test["specificity"], test["sensitivity"], "o", color=colour, markersize=5)
    axes.set(xlim=(-0.01, 0.5), ylim=(0.75, 1.005), aspect="auto", xlabel="1 − specificity", ylabel="Sensitivity")
    axes.legend(fontsize=8, loc="lower right")
    return figure


def draw_curves(runs: dict[str, tuple[dict, dict]]) -> "Figure":
    """Loss by epoch of every run, the phases of VGG-16 behind each other."""
    figure, grid = start_grid(len(runs), ACROSS, 2.6)
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


def draw_confusions(runs: dict[str, tuple[dict, dict]]) -> "Figure":
    """The confusion matrix of every run."""
    figure, grid = start_grid(len(runs), ACROSS, 2.8)
    for axes, (name, (card, _)) in zip(grid, runs.items(), strict=True):
        draw_confusion(card["metrics"]["internal_test"], axes)
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=6)
    return figure
