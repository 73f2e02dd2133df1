"""A training run -> the files in models/ and the card that describes them.

Calibration, operating points and heat map scale are chosen on validation, of the served model. The internal test is
looked at afterwards and changes nothing.
"""

import json
import shutil
from pathlib import Path

import numpy as np

from pneumo import __version__, networks
from pneumo.card import POINTS, Card, base_receipt, describe_file, read_card
from pneumo.dataset import LABELS, SPLIT_SEED, Example, content_hashes, fingerprint, load
from pneumo.evaluation import evaluate
from pneumo.export import export
from pneumo.gate_training import pictures, teach
from pneumo.operating import DEFAULT, decide, sigmoid
from pneumo.served import Served
from pneumo.training import TrainConfig, Trained, receipt

CALIBRATION_FILMS = 200  # of the train part, to measure the ranges that int8 must cover
HEATMAP_PERCENTILE = 95
SOURCE = {
    "title": "Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for Classification",
    "authors": "Kermany, Zhang, Goldbaum",
    "doi": "10.17632/rscbjbr9sj",
    "licence": "CC BY 4.0",
    "films": "frontal chest films of children aged 1 to 5, Guangzhou Women and Children's Medical Center",
}
INTENDED_USE = (
    "An aid for a clinician who reads frontal chest films of children aged 1 to 5. It replaces no reader and gives no "
    "advice to patients."
)
LIMITS = [
    "Trained on children aged 1 to 5 of one hospital; on adults or films of other hospitals its answers are unproven.",
    "In this data set the two classes were acquired differently (sharpness, border); part of any score measured on it "
    "may come from that, not from the lungs.",
    "It knows two labels. Other diseases, devices, and lateral films are not recognised.",
    "The heat map shows regions that raised the probability, not where a pneumonia is.",
]


def publish(
    trained: Trained,
    config: TrainConfig,
    parts: dict[str, list[Example]],
    path: Path,
    base_name: str,
    others: Path | None = None,
    elsewhere: Path | None = None,
) -> Card:
    """Write `path` (the card) and beside it NAME.tflite, .gate.npz, .base.npz, .top.npz. Returns the card, read back.

    `others` is a folder of pictures of anything else and `elsewhere` one of frontal films of other hospitals, to teach
    the gate; without them it learns from what is made of films, and the card says so.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {
        "served": path.with_suffix(".tflite"),
        "gate": path.with_suffix(".gate.npz"),
        "base": path.with_suffix(".base.npz"),
        "top": path.with_suffix(".top.npz"),
    }
    if config.base_weights is None:
        model = networks.vgg16(config.size)
        networks.load_imagenet(model)
        networks.save_layers(networks.take_layers(model, networks.CONV_NAMES), files["base"], "float16")
        origin = {"command": "keras.applications.VGG16(weights='imagenet')"}
    else:
        origin = base_receipt(config.base_weights)
    if config.base_weights and config.base_weights.resolve() != files["base"].resolve():
        shutil.copyfile(config.base_weights, files["base"])
    shutil.copyfile(trained.weights, files["top"])
    contents = {
        "name": path.stem,
        "version": __version__,
        "labels": list(LABELS),
        "base": base_name,
        "head": {"units": config.units, "dropout": config.dropout},
        "input": {"size": config.size, "channels": 3, "range": [0, 255], "resize": "bicubic to a square"},
        # the identity, until validation has been through the served model
        "calibration": {"slope": 1.0, "intercept": 0.0},
        "default_operating_point": DEFAULT,
        "operating_points": {name: {"threshold": 0.5} for name in POINTS},
        "heatmap": {"scale": 1.0},
    }
    model = networks.add_head(networks.vgg16(config.size), config.units, config.dropout)
    for role in ("base", "top"):
        networks.load_layers(model, files[role])
    positions, *halves = ([1, *output.shape[1:]] for output in networks.served_model(model).outputs)
    contents["output"] = {
        "shape": positions,
        "meaning": "logits of positions; their mean is the film's logit",
        "features": halves,
    }
    some = np.random.default_rng(config.seed).permutation(len(parts["train"]))[:CALIBRATION_FILMS]
    export(model, load([parts["train"][i] for i in some], config.size), files["served"])
    contents["files"] = {role: describe_file(file) for role, file in files.items() if role != "gate"}
    # Under another name: a run that is killed here must not leave a card that says the identity beside a real model.
    unfinished = path.with_suffix(".unfinished.json")
    served = Served(_write(contents, unfinished, ("served",)))
    unfinished.unlink()

    contents["gate"] = teach(
        lambda film: served.look(film)[1],
        {part: load(parts[part], config.size) for part in parts},
        pictures(others),
        pictures(elsewhere),
        files["gate"],
    )
    contents["files"]["gate"] = describe_file(files["gate"])
    maps = {part: _maps(served, parts[part], config.size) for part in ("validation", "internal_test")}
    target = {part: np.array([e.target for e in parts[part]]) for part in maps}
    logit = {part: maps[part].mean(axis=(1, 2)) for part in maps}
    patients = {part: [e.patient for e in parts[part]] for part in maps}
    contents |= decide({part: (target[part], logit[part], patients[part]) for part in maps})
    slope, intercept = contents["calibration"]["slope"], contents["calibration"]["intercept"]
    threshold = contents["operating_points"][DEFAULT]["threshold"]
    probability = {part: sigmoid(slope * logit[part] + intercept) for part in maps}
    floor = (np.log(threshold / (1 - threshold)) - intercept) / slope
    above = maps["validation"][target["validation"] == 1] - floor
    contents["heatmap"] = {
        "scale": float(np.percentile(above[above > 0], HEATMAP_PERCENTILE)),
        "rule": f"percentile {HEATMAP_PERCENTILE} of how far positions of validation's pneumonias exceed the threshold",
    }
    contents["metrics"] = {
        part: evaluate(
            target[part],
            probability[part],
            threshold,
            patients[part],
            [e.aetiology for e in parts[part]],
        )
        for part in maps
    }
    contents["agreement"] = _agreement(model, parts["internal_test"], config, maps["internal_test"], contents)
    contents["data"] = SOURCE | {
        "split": f"train folder by patient, 80/10/10, stratified by aetiology, seed {SPLIT_SEED}",
        "parts": {part: _describe(examples) for part, examples in parts.items()},
    }
    contents["receipt"] = receipt(config, trained, base_name) | {"base": origin}
    contents["intended_use"] = INTENDED_USE
    contents["limits"] = LIMITS
    return _write(contents, path, tuple(files))


def _write(contents: dict, path: Path, roles: tuple[str, ...]) -> Card:
    path.write_text(json.dumps(contents, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return read_card(path, roles=roles)


def _maps(served: Served, examples: list[Example], size: int) -> np.ndarray:
    """Maps of logits of the served model: (n, h, w) float32."""
    return np.stack([served.look(film)[0] for film in load(examples, size)])


def _agreement(model: object, examples: list[Example], config: TrainConfig, served: np.ndarray, card: dict) -> dict:
    """The float32 Keras model against the served one on the internal test."""
    from sklearn.metrics import roc_auc_score

    from pneumo.batches import Batches

    target = np.array([e.target for e in examples])
    batches = Batches(load(examples, config.size), target, config.size, config.batch)
    maps = networks.map_model(model).predict(batches, verbose=0)[..., 0]
    slope, intercept = card["calibration"]["slope"], card["calibration"]["intercept"]
    threshold = card["operating_points"][DEFAULT]["threshold"]
    full, small = (sigmoid(slope * m.mean(axis=(1, 2)) + intercept) for m in (maps, served))
    return {
        "n": len(target),
        "auc_float": float(roc_auc_score(target, full)),
        "auc_served": float(roc_auc_score(target, small)),
        "same_label": float(np.mean((full >= threshold) == (small >= threshold))),
        "largest_probability_difference": float(np.abs(full - small).max()),
        "mean_probability_difference": float(np.abs(full - small).mean()),
    }


def _describe(examples: list[Example]) -> dict:
    counts = {label: sum(e.label == label for e in examples) for label in LABELS}
    patients = len({e.patient for e in examples})
    return {"n": len(examples), **counts, "patients": patients, "fingerprint": fingerprint(content_hashes(examples))}
