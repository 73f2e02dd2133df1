"""One evaluation or audit -> a folder with report.md, metrics.json and figures. Computes no figure of its own."""

import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pneumo import LABELS
from pneumo.data.acquisition import GROUPS
from pneumo.evaluation.faithfulness import describe_drops
from pneumo.evaluation.matching import TOLD, find_contradicted
from pneumo.model.heatmap import describe_coverage
from pneumo.reports import figures, tables
from pneumo.reports.pages import render

if TYPE_CHECKING:
    from pneumo.model.predictor import Prediction

CAPTIONS = {  # of the figures, in order
    "roc": "Sensitivity against false alarms; the dot is the threshold.",
    "precision_recall": "Precision against sensitivity; the dot is the threshold.",
    "reliability": "Mean probability against share of pneumonia in each bin.",
    "confusion": "Films by what they are and what they are called.",
    "best": "The films closest to their label; below each the regions that raised its probability.",
    "worst": "The films furthest from their label; below each the regions that raised its probability.",
    "logit": "The model's logit against acquisition.",
    "contradicted": "The films whose acquisition contradicts their label most; below each the regions that raised its "
    "probability.",
    "contradicted_worst": "Of the contradicted films, those furthest from their label; below each the regions that "
    "raised its probability.",
}


def write_report(
    folder: Path,
    result: dict,
    target: np.ndarray,
    probability: np.ndarray,
    names: Sequence[str],
    predict: Callable[[int], "Prediction"],
) -> Path:
    """Write an evaluation into `folder`; returns the path of its report.md.

    `result` is what `metrics.evaluate` made of `target` (n,) and `probability` (n,), with what else is to be kept: its
    `triage`, `operating_points`, `suggested`, `subgroups` and `faithfulness` are told where it has them. `names` (n,)
    are captions, and `predict(i)` reads film i again, for the few films that are shown.
    """
    target, probability = np.asarray(target), np.asarray(probability, float)
    drawn = {}
    if result["auc"] is not None:
        drawn["roc"] = figures.draw_roc(target, probability, result)
        drawn["precision_recall"] = figures.draw_precision_recall(target, probability, result)
    drawn |= {"reliability": figures.draw_calibration(target, probability), "confusion": figures.draw_confusion(result)}
    error = np.abs(probability - target)
    for name, order in (("best", error), ("worst", -error)):
        drawn[name] = figures.draw_sheet(np.argsort(order, kind="stable"), target, names, predict)
    captions = dict(CAPTIONS)
    if tested := result.get("faithfulness"):
        drawn["deletion"], captions["deletion"] = figures.draw_deletion(tested), describe_drops(tested)
    figures.save_figures(folder, drawn)
    page = render(
        "report",
        result=result,
        labels=LABELS,
        tables=tables,
        figures={name: captions[name] for name in drawn},
        coverage=describe_coverage(result["coloured"]) if result.get("coloured") else "",
        kermany=bool(result.get("subgroups", {}).get("aetiology")),  # file names of that data set
    )
    return _write(folder, page, result)


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
    """Write an audit into `folder`; returns the path of its report.md.

    `score` (n,) is the acquisition score and `logit` (n,) the model's, calibrated; `names` (n,) are captions;
    `predict(i)` reads film i again, for the few films that are shown; `kermany`: films of that data set are among them.
    """
    target, score, logit = np.asarray(target), np.asarray(score), np.asarray(logit)
    captions = [f"{name}\nacquisition score {value:+.1f}" for name, value in zip(names, score, strict=True)]
    away = np.where(target == 1, -1, 1)  # high where acquisition, or the model, is on the other label's side
    against = find_contradicted(target, score)
    drawn = {"logit": figures.draw_scatter(target, score, logit, result["threshold"])}
    for name, value in (("contradicted", away * score), ("contradicted_worst", away * logit)):
        order = [i for i in np.argsort(-value, kind="stable") if against[i]]
        drawn[name] = figures.draw_sheet(order, target, captions, predict)
    figures.save_figures(folder, drawn)
    meanings = {  # group -> (names, meaning) of its numbers
        group: [
            (", ".join(f"`{name}`" for name, _ in same), words)
            for words, same in itertools.groupby(of.items(), key=lambda item: item[1])
        ]
        for group, of in (GROUPS | TOLD).items()
        if group in result["acquisition"]["by_group"]
    }
    page = render(
        "audit",
        result=result,
        tables=tables,
        figures={name: CAPTIONS[name] for name in drawn},
        meanings=meanings,
        kermany=kermany,
    )
    return _write(folder, page, result)


def _write(folder: Path, page: str, result: dict) -> Path:
    """Write metrics.json and report.md into `folder`; the path of the latter."""
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False)
    (folder / "metrics.json").write_text(text + "\n", encoding="utf-8")
    report = folder / "report.md"
    report.write_text(page, encoding="utf-8")
    return report
