"""The figures of reports: curves by scikit-learn's displays, sheets of films with their heat maps.

Matplotlib is imported by the functions that draw. Colours are Okabe and Ito's, which colour-blind readers tell apart.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pneumo import LABELS
from pneumo.evaluation.faithfulness import MOVED, RANDOM, STRONGEST
from pneumo.evaluation.matching import find_contradicted
from pneumo.evaluation.metrics import BINS
from pneumo.model.heatmap import blend

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pneumo.model.predictor import Prediction

BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#999999"
ON_A_SHEET = 4  # films of each class


def save_figures(folder: Path, figures: Mapping[str, "Figure"], dpi: int = 120) -> None:
    """Save each figure as NAME.png in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, figure in figures.items():
        figure.savefig(folder / f"{name}.png", dpi=dpi)


def draw_roc(target: np.ndarray, probability: np.ndarray, result: dict) -> "Figure":
    """ROC curve with the threshold of `result`."""
    from sklearn.metrics import RocCurveDisplay

    figure, axes = start_figure()
    line = {"color": BLUE, "label": f"model, AUC {result['auc']:.4f}"}  # the display's own label rounds 0.997 to 1.00
    RocCurveDisplay.from_predictions(target, probability, ax=axes, plot_chance_level=True, curve_kwargs=line)
    axes.plot(1 - result["specificity"], result["sensitivity"], "o", color=VERMILLION, label="threshold")
    axes.set(xlabel="1 − specificity", ylabel="Sensitivity")
    axes.legend(loc="lower right")
    return figure


def draw_precision_recall(target: np.ndarray, probability: np.ndarray, result: dict) -> "Figure":
    """Precision-recall curve with the threshold of `result`."""
    from sklearn.metrics import PrecisionRecallDisplay

    figure, axes = start_figure()
    line = {"color": BLUE, "label": "model"}
    PrecisionRecallDisplay.from_predictions(target, probability, ax=axes, plot_chance_level=True, curve_kwargs=line)
    if result["precision"] is not None:
        axes.plot(result["sensitivity"], result["precision"], "o", color=VERMILLION, label="threshold")
    axes.set(xlabel="Sensitivity", ylabel="Precision", title=f"{np.mean(target):.0%} of the films are pneumonia")
    axes.legend(loc="lower left")
    return figure


def draw_calibration(target: np.ndarray, probability: np.ndarray) -> "Figure":
    """Reliability diagram of BINS equal bins."""
    from sklearn.calibration import CalibrationDisplay

    figure, axes = start_figure()
    CalibrationDisplay.from_predictions(target, probability, n_bins=BINS, ax=axes, name="model", color=BLUE)
    axes.set(xlabel="Mean probability", ylabel="Share of pneumonia", title="Reliability")
    return figure


def draw_confusion(result: dict, axes: "Axes | None" = None) -> "Figure":
    """Confusion matrix with counts, in a figure of its own or on `axes`."""
    from sklearn.metrics import ConfusionMatrixDisplay

    figure, axes = start_figure() if axes is None else (axes.figure, axes)
    counts = result["confusion"]
    cells = np.array([[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]])
    ConfusionMatrixDisplay(cells, display_labels=LABELS).plot(ax=axes, cmap="Blues", colorbar=False)
    axes.set(xlabel="Called", ylabel="Is", title=f"Threshold {result['threshold']:.4f}")
    axes.set_yticklabels(LABELS, rotation=90, va="center")
    axes.grid(False)
    return figure


def draw_deletion(tested: dict) -> "Figure":
    """By how much the logit falls when regions of the map are blurred: the strongest, random ones, the same elsewhere.

    `tested` is what `faithfulness.summarise_drops` found; the bands are its 95 % intervals.
    """
    figure, axes = start_figure()
    axes.set(xlabel="Share of the map that is blurred", ylabel="Mean drop of the logit")
    axes.set_title(f"{tested['films']} pneumonias")
    share = [0, *(point["share"] for point in tested["curve"])]
    for way, colour, words in (
        (STRONGEST, VERMILLION, "the strongest"),
        (RANDOM, BLUE, "random ones"),
        (MOVED, GREY, "the strongest's shape elsewhere"),
    ):
        drop = [0, *(point[way]["logit"] for point in tested["curve"])]
        low, high = zip((0, 0), *(point[way]["intervals"]["logit"] for point in tested["curve"]), strict=True)
        axes.plot(share, drop, "o-", color=colour, label=words)
        axes.fill_between(share, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.legend(loc="upper left", fontsize=8)
    return figure


def draw_scatter(target: np.ndarray, score: np.ndarray, logit: np.ndarray, threshold: float) -> "Figure":
    """The model's logit against the acquisition score, films by label; the contradicted ones in full colour."""
    figure, axes = start_figure()
    axes.set(xlabel="Acquisition score (log-odds of PNEUMONIA)", ylabel="Model's logit (calibrated)")
    against = find_contradicted(target, score)
    for number, (label, colour) in enumerate(zip(LABELS, (BLUE, VERMILLION), strict=True)):
        for strong in (False, True):
            films = (target == number) & (against == strong)
            words = f"{label}, contradicted" if strong else label
            axes.plot(score[films], logit[films], ".", color=colour, alpha=0.9 if strong else 0.25, label=words)
    axes.axhline(math.log(threshold / (1 - threshold)), color=GREY, linestyle=":", label="threshold")
    axes.legend(fontsize=7)
    return figure


def draw_sheet(
    order: Sequence[int], target: np.ndarray, names: Sequence[str], predict: Callable[[int], "Prediction"]
) -> "Figure":
    """The first ON_A_SHEET films of each class in this `order`: label, probability and name, below each its heat map.

    `target` and `names` are of all films (n,); `predict(i)` reads film i.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2 * ON_A_SHEET, 8), layout="constrained")
    grid = figure.subplots(2 * len(LABELS), ON_A_SHEET)
    for axes in grid.flat:
        axes.set_axis_off()
    for number, label in enumerate(LABELS):
        for column, index in enumerate([int(i) for i in order if target[i] == number][:ON_A_SHEET]):
            above, below = grid[2 * number, column], grid[2 * number + 1, column]
            prediction = predict(index)
            blended = blend(prediction.film.pixels, prediction.overlay())
            film = Image.fromarray(prediction.film.pixels).resize(blended.size, Image.Resampling.BICUBIC)
            above.imshow(np.asarray(film), cmap="gray", vmin=0, vmax=255)
            caption = names[index].replace("$", r"\$")  # matplotlib takes $…$ for mathematics
            above.set_title(f"{label}, probability {prediction.probability:.3f}\n{caption}", fontsize=7)
            above.set_anchor("S")
            below.imshow(np.asarray(blended))
            below.set_anchor("N")
    return figure


def start_figure(width: float = 4.5, height: float = 4.5) -> tuple["Figure", "Axes"]:
    """A figure with one grid of axes; without pyplot, so nothing stays open and no screen is needed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots()
    axes.grid(color="#dddddd", linewidth=0.5)
    return figure, axes


def start_grid(count: int, across: int, height: float) -> tuple["Figure", list["Axes"]]:
    """A figure with `count` axes, so many `across`."""
    from matplotlib.figure import Figure

    lines = -(-count // across)
    figure = Figure(figsize=(12, height * lines), layout="constrained")
    grid = list(figure.subplots(lines, across, squeeze=False).flat)
    for axes in grid[count:]:
        axes.set_axis_off()
    return figure, grid[:count]
