"""One evaluation -> a folder with report.md, metrics.json and figures. Computes no metric: `evaluation` has done that.

Matplotlib is imported by the functions that draw. Colours are Okabe and Ito's, told apart by colour-blind readers too.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pneumo import LABELS
from pneumo.evaluation.faithfulness import MOVED, RANDOM, STRONGEST, sentence
from pneumo.evaluation.metrics import BINS, METRICS, reliability
from pneumo.model.heatmap import blend, describe_coverage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from pneumo.model.predictor import Prediction

BLUE, VERMILLION, GREY = "#0072B2", "#D55E00", "#999999"
ON_A_SHEET = 4  # films of each class
NAMES = {"auc": "AUC", "f1": "F1", "brier": "Brier score", "ece": f"ECE ({BINS} bins)"}
TRIAGE_NAMES = {
    "uncertain": "Uncertain",
    "settled_sensitivity": "Settled: sensitivity",
    "settled_specificity": "Settled: specificity",
    "settled_error": "Settled: error",
    "error": "All: error",
}
UNITS = {"image size": "pixels", "brightness": "grey levels"}
ATTRIBUTION = (
    "Films of *Chest X-Ray Images (Pneumonia)*: Kermany, Zhang, Goldbaum, Mendeley Data, doi 10.17632/rscbjbr9sj, "
    "CC BY 4.0."
)


def table(result: dict) -> list[tuple[str, str, str]]:
    """Name, value and 95 % interval of every metric, as text."""
    rows = [(NAMES.get(name, name.capitalize()), result[name], result["intervals"][name]) for name in METRICS]
    return [(name, text(value), span(interval)) for name, value, interval in rows]


def triage_table(triage: dict) -> list[tuple[str, str, str]]:
    """Name, value and 95 % interval of what `operating.triage` measured, as text."""
    return [(words, text(triage[name]), span(triage["intervals"][name])) for name, words in TRIAGE_NAMES.items()]


def points_table(points: dict[str, dict]) -> list[tuple[str, str, str, str]]:
    """Name, threshold, sensitivity and specificity of operating points, as text, each with its interval if it has one.

    `points` holds what `operating.worth` or `operating.suggest` measured.
    """

    def cell(value: float | None, interval: list[float] | None) -> str:
        return text(value) + (f" ({span(interval)})" if interval else "")

    return [
        (
            name,
            cell(point["threshold"], point.get("interval")),
            *(cell(point[key], point["intervals"][key]) for key in ("sensitivity", "specificity")),
        )
        for name, point in points.items()
    ]


def subgroups_table(groups: dict[str, dict[str, dict]]) -> list[tuple[str, str, str, str]]:
    """Name, films, sensitivity and specificity of what `subgroups` measured, as text, each with its interval."""
    rows = []
    for division, parts in groups.items():
        for name, found in parts.items():
            words = f"{division.capitalize()}: {name}"
            if "range" in found:
                low, high = (f"{value:.0f}" for value in found["range"])
                words += f", {low} {UNITS[division]}" if low == high else f", {low} to {high} {UNITS[division]}"
            cells = (
                f"{text(found[key])} ({span(interval)})" if (interval := found["intervals"][key]) else ""
                for key in ("sensitivity", "specificity")
            )
            rows.append((words, str(found["n"]), *cells))
    return rows


def text(value: float | None, form: str = ".4f") -> str:
    """A figure as tables have it."""
    return "undefined" if value is None else f"{value:{form}}"


def span(interval: list[float] | None) -> str:
    """An interval as tables have it, nothing without one."""
    return f"{interval[0]:.4f} to {interval[1]:.4f}" if interval else ""


def write_report(
    folder: Path,
    result: dict,
    target: np.ndarray,
    probability: np.ndarray,
    names: Sequence[str],
    predict: Callable[[int], "Prediction"],
) -> Path:
    """Write everything into `folder` and return the path of its report.md.

    `result` is what `evaluation.evaluate` made of `target` (n,) and `probability` (n,), with what else should be kept
    (its `triage`, `operating_points` and `suggested` are told too);
    `names` (n,) are captions, and `predict(i)` reads film i again, for the few films that are shown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, probability = np.asarray(target), np.asarray(probability, float)
    figures = []
    if result["auc"] is not None:
        figures += [
            ("roc", roc(target, probability, result), "Sensitivity against false alarms; the dot is the threshold."),
            ("precision_recall", precision_recall(target, probability, result), "Precision against sensitivity."),
        ]
    figures += [
        ("reliability", calibration(target, probability), "Mean probability against share of pneumonia in each bin."),
        ("confusion", confusion(result), "Films by what they are and what they are called."),
    ]
    error = np.abs(probability - target)
    for name, order, words in (("best", error, "closest to"), ("worst", -error, "furthest from")):
        ranked = np.argsort(order, kind="stable")
        chosen = [[int(i) for i in ranked if target[i] == label][:ON_A_SHEET] for label in range(len(LABELS))]
        caption = f"The films {words} their label; below each the regions that raised its probability."
        figures.append((name, sheet(chosen, names, predict), caption))
    lines = ["# How good the model is", "", f"{result['n']} films, threshold {result['threshold']:.4f}.", ""]
    if model := result.get("model"):
        lines += [f"Model {model['name']} {model['version']}, SHA-256 `{model['sha256']}`.", ""]
    lines += markdown(("", "value", "95 % interval"), table(result))
    counts = result["confusion"]
    called = [("is NORMAL", counts["tn"], counts["fp"]), ("is PNEUMONIA", counts["fn"], counts["tp"])]
    lines += ["", *markdown(("", "called NORMAL", "called PNEUMONIA"), called)]
    if triage := result.get("triage"):
        films = [(word, *(of[label] for label in LABELS)) for word, of in triage["films"].items()]
        lines += ["", "## What is left open", ""]
        lines += [
            f"Below the rule-out point {triage['rule_out']:.4f} and from the rule-in point {triage['rule_in']:.4f} on "
            "a film is settled; between them it is uncertain.",
            "",
            *markdown(("", "value", "95 % interval"), triage_table(triage)),
            "",
            *markdown(("", *LABELS), films),
        ]
    for title, points in (("Operating points", "operating_points"), ("Suggested for this site", "suggested")):
        if points in result:
            rows = points_table(result[points])
            lines += ["", f"## {title}", "", *markdown(("", "threshold", "sensitivity", "specificity"), rows)]
    if "doubts" in result:
        lines += ["", result["doubts"]]
    if "subgroups" in result:
        lines += ["", f"## By group, at threshold {result['threshold']:.4f}", ""]
        lines += markdown(("", "films", "sensitivity", "specificity"), subgroups_table(result["subgroups"]))
    if tested := result.get("faithfulness"):
        figures.append(("deletion", deletion(tested), sentence(tested)))
    if result.get("unreadable"):
        lines += ["", f"Not readable: {len(result['unreadable'])}; metrics.json names them."]
    lines += drawn(figures, folder)
    if coloured := result.get("coloured"):
        lines += ["", describe_coverage(coloured)]
    lines += ["", "The regions raised the probability; they are not where a pneumonia is."]
    if result.get("subgroups", {}).get("aetiology"):  # file names of that data set
        lines += ["", ATTRIBUTION]
    return written(folder, lines, result)


def drawn(figures: Sequence[tuple[str, "Figure", str]], folder: Path) -> list[str]:
    """Save each figure as NAME.png in `folder`; the lines that show it in a report, with its caption."""
    lines = []
    for name, figure, caption in figures:
        figure.savefig(folder / f"{name}.png", dpi=120)
        lines += ["", f"![{caption}]({name}.png)", "", caption]
    return lines


def written(folder: Path, lines: Sequence[str], result: dict) -> Path:
    """Write metrics.json and report.md into `folder`; the path of the latter."""
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    report = folder / "report.md"
    report.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return report


def roc(target: np.ndarray, probability: np.ndarray, result: dict) -> "Figure":
    """ROC curve with the operating point of `result`."""
    from sklearn.metrics import roc_curve

    figure, axes = blank("1 − specificity", "Sensitivity", f"AUC {result['auc']:.4f}")
    alarms, found, _ = roc_curve(target, probability)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", label="chance")
    axes.plot(alarms, found, color=BLUE, label="model")
    axes.plot(1 - result["specificity"], result["sensitivity"], "o", color=VERMILLION, label="threshold")
    axes.legend(loc="lower right")
    return figure


def precision_recall(target: np.ndarray, probability: np.ndarray, result: dict) -> "Figure":
    """Precision-recall curve with the operating point of `result`."""
    from sklearn.metrics import precision_recall_curve

    figure, axes = blank("Sensitivity", "Precision", f"{target.mean():.0%} of the films are pneumonia")
    precision, found, _ = precision_recall_curve(target, probability)
    axes.axhline(target.mean(), color=GREY, linestyle=":", label="chance")
    axes.plot(found, precision, color=BLUE, label="model", drawstyle="steps-post")
    if result["precision"] is not None:
        axes.plot(result["sensitivity"], result["precision"], "o", color=VERMILLION, label="threshold")
    axes.legend(loc="lower left")
    return figure


def calibration(target: np.ndarray, probability: np.ndarray) -> "Figure":
    """Reliability diagram; the numbers beside the dots are films."""
    figure, axes = blank("Mean probability", "Share of pneumonia", "Reliability")
    films, mean, share = reliability(target, probability)
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":")
    axes.plot(mean[films > 0], share[films > 0], "o-", color=BLUE)
    for n, x, y in zip(films, mean, share, strict=True):
        if n:
            axes.annotate(str(n), (x, y), textcoords="offset points", xytext=(5, -11), fontsize=8)
    return figure


def deletion(tested: dict) -> "Figure":
    """How far the logit falls when regions of the map are blurred: the strongest, as many random ones, the same moved.

    `tested` is what `faithfulness.faithfulness` measured; the bands are its 95 % intervals.
    """
    figure, axes = blank("Share of the map that is blurred", "Mean drop of the logit", f"{tested['films']} pneumonias")
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
    axes.set(aspect="auto")
    axes.autoscale()
    axes.legend(loc="upper left", fontsize=8)
    return figure


def confusion(result: dict) -> "Figure":
    """Confusion matrix with counts."""
    figure, axes = blank("Called", "Is", f"Threshold {result['threshold']:.4f}")
    draw_confusion(axes, result)
    return figure


def draw_confusion(axes: "Axes", result: dict) -> None:
    """Draw the confusion matrix with counts on `axes`."""
    counts = result["confusion"]
    cells = np.array([[counts["tn"], counts["fp"]], [counts["fn"], counts["tp"]]])
    axes.imshow(cells, cmap="Blues", vmin=0, vmax=2 * max(1, cells.max()))  # half the scale: black text stays legible
    axes.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5), xticks=(0, 1), yticks=(0, 1), xticklabels=LABELS)
    axes.set_yticklabels(LABELS, rotation=90, va="center")
    axes.grid(False)
    for (row, column), count in np.ndenumerate(cells):
        axes.text(column, row, str(count), ha="center", va="center", fontsize=16)


def sheet(chosen: Sequence[Sequence[int]], names: Sequence[str], predict: Callable[[int], "Prediction"]) -> "Figure":
    """Contact sheet: films of each class, label and probability above, and each again with its overlay below it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(2.2 * ON_A_SHEET, 8), layout="constrained")
    grid = figure.subplots(2 * len(LABELS), ON_A_SHEET)
    for axes in grid.flat:
        axes.set_axis_off()
    for row, (label, indices) in enumerate(zip(LABELS, chosen, strict=True)):
        for column, index in enumerate(indices):
            above, below = grid[2 * row, column], grid[2 * row + 1, column]
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


def markdown(head: Sequence[str], rows: Sequence[Sequence]) -> list[str]:
    """The lines of a table."""
    return [f"| {' | '.join(map(str, cells))} |" for cells in (head, ("---",) * len(head), *rows)]


def blank(x: str, y: str, title: str) -> tuple["Figure", object]:
    """A square figure with axes from 0 to 1; without pyplot, so nothing stays open and no screen is needed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x, ylabel=y, title=title, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    axes.grid(color="#dddddd", linewidth=0.5)
    return figure, axes
