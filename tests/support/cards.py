"""A card of a model that knows children and adults: the shipped one, and adults whom a person can count."""

import json
from pathlib import Path

import numpy as np

from pneumo.data.dataset import Example
from pneumo.evaluation.metrics import evaluate
from pneumo.evaluation.pointing import measure_pointing
from pneumo.evaluation.robustness import measure_changes
from pneumo.evaluation.subgroups import measure_strata
from pneumo.evaluation.thresholds import decide
from pneumo.model.card import find_card
from pneumo.training.statements import ADULT_PATIENTS, ADULTS, state

HELD_OUT = ("validation", "internal_test")
OWN = ("calibration", "operating_points", "triage", "metrics", "agreement", "data", "strata", "pointing", "changes")


def make_adults():
    """Films of 40 adults with their logits: 20 pneumonias, 12 normals and 8 others, AP and PA, read or by text.

    Of the 20 without pneumonia 2 have a logit above those of 2 of the 20 pneumonias: an AUC of 1 - 4 / 400.
    """
    labels = ["PNEUMONIA"] * 20 + ["NORMAL"] * 12 + ["OTHER"] * 8
    views, readers = ("AP", "PA"), ("text", "reader")
    films = [
        Example(Path(f"{i}.jpg"), label, None, str(i), 40 + i, views[i % 2], "nih", readers[i % 4 // 2])
        for i, label in enumerate(labels)
    ]
    return films, np.array([2.0] * 18 + [-1.0] * 2 + [-2.0] * 12 + [-1.5] * 6 + [0.5] * 2)


def describe_adults():
    """What `figures.measure` puts into a card of these films; three of four maps point into the box, chance is 1/4."""
    films, logit = make_adults()
    target, patients = np.array([film.target for film in films]), [film.patient for film in films]
    own = {"ages": [18, None]} | decide(dict.fromkeys(HELD_OUT, (target, logit, patients)))
    threshold = own["operating_points"][own.pop("default_operating_point")]["threshold"]
    probability = 1 / (1 + np.exp(-(own["calibration"]["slope"] * logit + own["calibration"]["intercept"])))
    counts = {"n": 40, "NORMAL": 12, "PNEUMONIA": 20, "OTHER": 8, "patients": 39, "fingerprint": ""}
    parts = dict.fromkeys(("train", *HELD_OUT), counts)
    grey = np.arange(0, 250, 50, dtype=np.uint8)[:, None, None] + np.zeros((1, 224, 224), np.uint8)
    maps, covered = np.zeros((4, 2, 2), np.float32), np.zeros((4, 2, 2), np.float32)
    maps[:, 0, 0] = 3
    covered[:3, 0, 0] = covered[3, 1, 1] = 1
    pointing = measure_pointing(maps, maps / 3, covered, list("abcd"), ["AP", "AP", "PA", "PA"])
    return own | {
        "data": ADULTS | {"patients": ADULT_PATIENTS, "split": "by patient", "parts": parts},
        "metrics": dict.fromkeys(HELD_OUT, evaluate(target, probability, threshold, patients)),
        "strata": dict.fromkeys(HELD_OUT, measure_strata(films, probability, threshold, patients)),
        "pointing": dict.fromkeys(HELD_OUT, pointing),
        "changes": measure_changes(lambda films: np.mean(films, (1, 2)), grey, 110.0, range(5)),
        "agreement": {"n": 40, "auc_float": 0.9, "auc_served": 0.875, "same_label": 0.975},
        "heatmap": {"floor": 1.0, "scale": 2.0, "rule": "by hand"},
    }


def write_card_of_two(folder):
    """Write the card into `folder`, with links to the shipped model's files beside it; its path."""
    shipped = find_card("vgg16-chest-xray")
    contents = json.loads(shipped.read_text())
    if "populations" in contents:
        child = contents["populations"]["child"]
    else:
        child = {name: contents.pop(name) for name in OWN if name in contents}
        child |= {"ages": [1, 5], "heatmap": contents["heatmap"], "pointing": dict.fromkeys(HELD_OUT)}
    contents |= state(["child", "adult"]) | {"populations": {"child": child, "adult": describe_adults()}}
    right = {"n": 150, "right": 0.98, "unclear": 0.04}
    contents["gate"]["populations"] = {"as they are": {"child": right, "adult": right | {"right": 0.9}}}
    unlike = {"n": 40, "unfamiliar": 0.25, "auroc": 0.75}
    contents["gate"]["unlike"] = {alone: {"child": unlike, "adult": unlike} for alone in ("child", "adult")}
    for file in contents["files"].values():
        (folder / file["file"]).symlink_to(shipped.parent / file["file"])
    path = folder / "both.json"
    path.write_text(json.dumps(contents))
    return path
