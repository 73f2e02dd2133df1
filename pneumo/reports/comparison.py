"""What trained recipes left behind -> reports/comparison.md, which compares them, its JSON and figures.

`record` keeps what a card does not hold; `write_comparison` reads cards and records, and computes loss and intervals.
"""

import json
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pneumo.data.dataset import Example, content_hashes, number_patients, scan
from pneumo.errors import RunError
from pneumo.evaluation.metrics import estimate_intervals, measure_point
from pneumo.evaluation.thresholds import RULES
from pneumo.model.card import CHILD, POINTS, Card, merge_population, read_json
from pneumo.reports.comparison_figures import draw_confusions, draw_curves, draw_rocs
from pneumo.reports.figures import save_figures
from pneumo.reports.pages import render
from pneumo.training.recipes import RECIPES, Recipe, kept_block

if TYPE_CHECKING:
    from pneumo.model.predictor import Predictor
    from pneumo.training.train import Trained

RECORD = ".run.json"
TIMED = 40  # films whose predictions are timed
SHOWN = 4  # films of the figure of preprocessing steps
FIRST = POINTS[0]  # the operating point that favours sensitivity
MISLED = ("auc_contradicted", "auc_matched", "explained_normal", "explained_pneumonia")  # of `audit.audit`
MEASURES = ("auc", "accuracy", "precision", "sensitivity", "specificity", "f1")
CAPTIONS = {
    "roc": "ROC curves on the internal test; the dots are the thresholds.",
    "curves": "Loss by epoch: training dashed, weighed so that both classes count the same; validation solid, as it "
    "is.",
    "confusion": "Films of the internal test by what they are and what they are called.",
}


def record(card: Card, trained: "Trained", parts: dict[str, list[Example]]) -> Path:
    """Write beside the card what only the run knows.

    Learning curves, the time of one film, each film's probability and patient on the internal test, and on validation
    how the model does where acquisition misleads. Only films of children count, of whichever sources: so recipes stay
    comparable.
    """
    from pneumo.model.predictor import Predictor
    from pneumo.training.population import sort_by_population

    parts = sort_by_population(parts)[CHILD]
    predictor, examples = Predictor(card.only(CHILD), threads=1), parts["internal_test"]
    probability, milliseconds = [], []
    for example in examples:
        data = example.path.read_bytes()
        started = time.perf_counter()
        probability.append(predictor.predict(data, force=True).probability)
        milliseconds.append(1000 * (time.perf_counter() - started))
    contents = {
        "served": card.sha256,
        "histories": trained.histories,
        "seconds": trained.seconds,
        "milliseconds": statistics.median(milliseconds[:TIMED]),
        "internal_test": {
            "file": [example.path.name for example in examples],
            "target": [example.target for example in examples],
            "patients": number_patients(examples, content_hashes(examples)).tolist(),
            "probability": probability,
        },
        "audit": measure_misled(predictor, parts),
    }
    path = card.path.with_suffix(RECORD)
    path.write_text(json.dumps(contents, allow_nan=False) + "\n", encoding="utf-8")
    return path


def measure_misled(predictor: "Predictor", parts: dict[str, list[Example]]) -> dict:
    """Measure MISLED of the model on validation, with `intervals`; films of all parts fit the acquisition score."""
    from pneumo.evaluation.audit import audit
    from pneumo.evaluation.matching import score_films
    from pneumo.films.images import decode

    every, card = [example for part in parts.values() for example in part], predictor.card
    watched = set(parts["validation"])
    inside = np.array([example in watched for example in every])
    films = [example for example in every if example in watched]
    raw = np.array([predictor.logit(decode(e.path.read_bytes(), card.size).pixels) for e in films])
    result = audit(
        np.array([film.target for film in films]),
        score_films(every)[inside],
        number_patients(films, content_hashes(films)),
        card.slope * raw + card.intercept,
        np.vectorize(predictor.probability)(raw),
        card.threshold,
        changed={},
    )
    return {name: result[name] for name in MISLED} | {"intervals": {name: result["intervals"][name] for name in MISLED}}


def write_comparison(folder: Path, out: Path, films: Path | None = None) -> Path:
    """Compare every recipe whose card and record lie in `folder`; returns the path of `out`/comparison.md.

    `films` is Kaggle's train folder: from its internal test come the pictures of what preprocessing makes of films.

    Raises:
        RunError: there is no card with a record, or a record is of another model than its card.
    """
    runs = read_runs(folder)
    rows = {name: compare(RECIPES[name], card, run) for name, (card, run) in runs.items()}
    figures = {"roc": draw_rocs(runs), "curves": draw_curves(runs), "confusion": draw_confusions(runs)}
    save_figures(out / "comparison", figures, dpi=110)
    (out / "comparison.json").write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    shown = {f"{name}.png": CAPTIONS[name] for name in figures}
    if films:
        shown |= _draw_preprocessing(films, out / "comparison")
    path = out / "comparison.md"
    page = render(
        "comparison", rows=rows, figures=shown, measures=MEASURES, misled=MISLED, first=FIRST, rule=RULES[FIRST]
    )
    path.write_text(page, encoding="utf-8")
    return path


def read_runs(folder: Path) -> dict[str, tuple[dict, dict]]:
    """Read the card and the record of every recipe that has both in `folder`.

    Raises:
        RunError: there is none, or a record is of another model than its card.
    """
    runs = {}
    for name in RECIPES:
        path = folder / f"{name}.json"
        if (kept := path.with_suffix(RECORD)).is_file():
            card = merge_population(read_json(path, "model card"), CHILD)
            run = json.loads(kept.read_text(encoding="utf-8"))
            if run.get("served") != card["files"]["served"]["sha256"] or "patients" not in run["internal_test"]:
                raise RunError(f"{kept} is not of the model in {path}: run `pneumo train --recipe {name}`.")
            runs[name] = card, run
    if not runs:
        raise RunError(f"Expected cards with a record in {folder}, found none: run `pneumo train --recipe NAME` first.")
    return runs


def compare(recipe: Recipe, card: dict, run: dict) -> dict:
    """Everything that the page tells of one recipe, as numbers and words."""
    from sklearn.metrics import log_loss

    test, config = card["metrics"]["internal_test"], card["receipt"]["config"]
    first, kept = card["operating_points"][FIRST]["threshold"], run["internal_test"]
    target, probability, patients = (np.array(kept[name]) for name in ("target", "probability", "patients"))
    return {
        "about": recipe.about,
        "network": config["network"],
        "parameters": card["parameters"],
        "preprocessing": card["input"]["preprocessing"],
        "augmentation": config["augmentation"],
        "size": card["input"]["size"],
        "version": card["version"],
        "weights": card["base"] + (f" {card['files']['base']['sha256'][:8]}" if "base" in card["files"] else ""),
        "epochs": {phase: len(history["loss"]) for phase, history in run["histories"].items()},
        "seconds_an_epoch": {
            phase: statistics.median(history["seconds"]) for phase, history in run["histories"].items()
        },
        "last_block": describe_last_block(card["receipt"]),
        "seconds": run["seconds"],
        "milliseconds": run["milliseconds"],
        "served": card["precision"],
        "differs": describe_differences(recipe, card),
        "unsaid": recipe.unsaid,
        "reported": recipe.reported,
        "internal_test": {name: test[name] for name in ("n", *MEASURES)}
        | {
            "loss": log_loss(target, probability),
            "intervals": estimate_intervals(target, probability, test["threshold"], patients),
        },
        "sensitivity_first": {"threshold": first, **measure_point(target, probability, first, patients)},
        "misled": run["audit"],
        "agreement": card["agreement"],
        "receipt": card["receipt"]["command"],
    }


def describe_last_block(receipt: dict) -> str:
    """What became of VGG-16's last block, in words; empty of another network."""
    if receipt["config"]["network"] != "vgg16":
        return ""
    loss = receipt["validation_loss"]
    if "tune" not in loss:
        return "not tuned"
    kept = "kept" if kept_block(receipt["trained_layers"]) else "not kept"
    return f"tuned, {kept}: validation loss {loss['tune']:.4f}, top alone {loss['top']:.4f}"


def describe_differences(recipe: Recipe, card: dict) -> str:
    """In what the run fell short of the recipe, in words; empty if in nothing."""
    config, wanted = card["receipt"]["config"], recipe.config
    words = []
    size = recipe.size or wanted.size
    if config["size"] != size:
        words.append(f"{config['size']} pixels instead of {size}")
    if config["epochs"] != wanted.epochs:
        words.append(f"at most {config['epochs']} epochs instead of {wanted.epochs}")
    if wanted.network == "vgg16" and config["tune_epochs"] != wanted.tune_epochs:
        words.append(f"the last block tuned for {config['tune_epochs']} epochs instead of {wanted.tune_epochs}")
    if card["base"] != recipe.base:
        words.append(f"{'random' if card['base'] == 'none' else card['base']} weights instead of {recipe.base}")
    return "; ".join(words)


def _draw_preprocessing(films: Path, folder: Path) -> dict[str, str]:
    """Draw every preprocessing step and the lungs that were found, on films of the internal test: file -> caption."""
    from pneumo.data.dataset import load, split
    from pneumo.reports.preprocessing_figures import ON_A_SHEET, SIDE, draw_lungs, draw_steps

    examples = scan(films)
    test = split(examples, content_hashes(examples))["internal_test"]
    order = np.random.default_rng(0).permutation(len(test))
    by_label = [[test[i] for i in order if test[i].target == target] for target in (0, 1)]
    some = [film for of in by_label for film in of[: SHOWN // 2]]
    draw_steps(list(load(some, SIDE)), folder / "steps.png")
    sheet = [film for of in by_label for film in of[: ON_A_SHEET // 2]]
    share = draw_lungs(list(load(sheet, SIDE)), folder / "lungs.jpg")
    half = len(sheet) // 2
    return {
        "steps.png": "What each preprocessing step makes of a film.",
        "lungs.jpg": f"The lung fields that were found: both on {share:.0%} of {half} normals and {half} pneumonias.",
    }
