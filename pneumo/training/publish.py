"""A training run -> the files in models/ and the card that describes them.

Calibration, operating points and the scale of the heat map are chosen on validation, with the served file. The internal
test is measured afterwards and changes nothing.
"""

import json
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

from pneumo import LABELS, __version__
from pneumo.data.changes import EVERYDAY
from pneumo.data.dataset import SPLIT_SEED, Example, content_hashes, fingerprint, load
from pneumo.evaluation.metrics import evaluate
from pneumo.evaluation.thresholds import DEFAULT, WANTED_SENSITIVITY, decide
from pneumo.films.images import decode
from pneumo.model import heatmap
from pneumo.model.card import POINTS, Card, describe_file, read_card, sigmoid
from pneumo.model.served import Served
from pneumo.training import attribution, networks
from pneumo.training.bases import base_receipt
from pneumo.training.batches import Batches
from pneumo.training.export import export
from pneumo.training.gate import read_pictures, teach
from pneumo.training.recipes import IMAGENET, TrainConfig
from pneumo.training.statements import INTENDED_USE, LIMITS, PATIENTS, SOURCE
from pneumo.training.train import Trained, make_receipt

CALIBRATION_FILMS = 200  # of the train part: on them the ranges that int8 must cover are measured
PRECISIONS = ("int8", "float32")  # the first that agrees with the float32 network is served
AUC_APART, SAME_LABEL = 0.002, 0.99  # it agrees if the AUCs differ by no more, and that share of the labels is the same


def publish(
    trained: Trained,
    config: TrainConfig,
    parts: dict[str, list[Example]],
    path: Path,
    base_name: str,
    others: Path | None = None,
    elsewhere: Path | None = None,
    recipe: str | None = None,
) -> Card:
    """Write `path` (the card) and beside it NAME.tflite, .gate.npz, .base.npz, .top.npz. Returns the card, read back.

    Only VGG-16 has a base. int8 is served if it agrees with float32 on validation, else float32. The gate is taught
    with pictures of anything else in `others` and frontal films of other hospitals in `elsewhere`, as far as there are
    such folders. `recipe` is a name in `recipes.RECIPES`. Files that were there are replaced once all is done.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=path.parent) as folder:
        _publish(trained, config, parts, Path(folder, path.name), base_name, others, elsewhere, recipe)
        for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):  # the card last
            file.replace(path.parent / file.name)
    return read_card(path)


def _publish(
    trained: Trained,
    config: TrainConfig,
    parts: dict[str, list[Example]],
    path: Path,
    base_name: str,
    others: Path | None,
    elsewhere: Path | None,
    recipe: str | None,
) -> None:
    roles = ("served", "gate", *(("base",) if config.network == "vgg16" else ()), "top")
    suffixes = {"served": ".tflite", "gate": ".gate.npz", "base": ".base.npz", "top": ".top.npz"}
    files = {role: path.with_suffix(suffixes[role]) for role in roles}
    origin = _write_base(config, files.get("base"))
    contents = _begin_card(config, path, base_name, recipe)
    shuffled = [parts["train"][i] for i in np.random.default_rng(config.seed).permutation(len(parts["train"]))]
    model = _write_top(trained, config, shuffled, files, contents)
    served = _write_served(model, config, shuffled, parts["validation"], path, files, contents)
    contents["gate"] = teach(
        lambda film: served.look(film)[1],
        {part: load(parts[part], config.film_size if config.steps else config.size) for part in parts},
        read_pictures(others),
        read_pictures(elsewhere),
        files["gate"],
    )
    contents["files"]["gate"] = describe_file(files["gate"])
    _measure(model, served, config, parts, contents)
    contents["data"] = SOURCE | {
        "patients": PATIENTS,
        "split": f"train folder by patient, 80/10/10, stratified by aetiology, seed {SPLIT_SEED}",
        "parts": {part: _describe(examples) for part, examples in parts.items()},
    }
    contents["receipt"] = make_receipt(config, trained, base_name, recipe) | {"base": origin}
    contents["intended_use"] = INTENDED_USE
    contents["limits"] = LIMITS
    _write_card(contents, path, tuple(files))


def _write_base(config: TrainConfig, path: Path | None) -> dict:
    """Write VGG-16's base weights to `path`, if it has one, and say how they were made."""
    if path is None:
        return {"command": f"keras.applications, {IMAGENET}" if config.base_weights else "none: from scratch"}
    if config.base_weights == IMAGENET:
        model = networks.vgg16(config.size)
        networks.load_imagenet(model)
        networks.save_layers(networks.take_layers(model, networks.CONV_NAMES), path, "float16")
        return {"command": "keras.applications.VGG16(weights='imagenet')"}
    shutil.copyfile(config.base_weights, path)
    return base_receipt(config.base_weights)


def _begin_card(config: TrainConfig, path: Path, base_name: str, recipe: str | None) -> dict:
    """Begin the card's contents: enough of it for the served file to be read."""
    return {
        "name": path.stem,
        "version": __version__,
        "labels": list(LABELS),
        "base": base_name,
        "recipe": recipe,
        "network": {"name": config.network} | config.options,
        "input": {
            "size": config.size,
            "channels": 3,
            "range": [0, 255],
            "resize": "bicubic to a square",
            "preprocessing": list(config.steps),
        },
        # the identity, until validation has been through the served model
        "calibration": {"slope": 1.0, "intercept": 0.0},
        "default_operating_point": DEFAULT,
        "operating_points": {name: {"threshold": 0.5} for name in POINTS},
        "heatmap": {"floor": 0.0, "scale": 1.0},
    }


def _write_top(
    trained: Trained, config: TrainConfig, train: list[Example], files: dict[str, Path], contents: dict
) -> keras.Model:
    """Write the trained layers, of VGG-16 with its heat map's kernels, and return the whole float32 network."""
    model = networks.build(config.network, config.size, **config.options)
    for weights in filter(None, (files.get("base"), trained.weights)):
        networks.load_layers(model, weights)
    if config.network != "vgg16":
        shutil.copyfile(trained.weights, files["top"])
        return model
    films = load(train[: attribution.FILMS], config.size, config.steps)
    kernels, contents["heatmap"]["attribution"] = attribution.fit(model, films, config.seed)
    networks.save_layers(networks.take_layers(model, trained.layers) | kernels, files["top"], "float16")
    contents["network"]["attribution"] = True
    model = networks.with_attribution(model)
    networks.load_layers(model, files["top"])
    return model


def _write_served(
    model: keras.Model,
    config: TrainConfig,
    train: list[Example],
    validation: list[Example],
    path: Path,
    files: dict[str, Path],
    contents: dict,
) -> Served:
    """Export `model` in the first of PRECISIONS that agrees with it on validation, or the last; describe it."""
    layers = networks.GATE_LAYERS[config.network]
    positions, *halves = ([1, *output.shape[1:]] for output in networks.served_model(model, layers).outputs)
    contents["parameters"] = model.count_params()
    contents["output"] = {
        "shape": positions,
        "meaning": "logits of positions; their mean is the film's logit",
        "features": halves,
    }
    # The quantizer's ranges are moving averages of what it sees: calibrated on films as they are, it clips the values
    # of brighter films, which then change their label.
    calibration = EVERYDAY["brighter by a fifth"](load(train[:CALIBRATION_FILMS], config.size, config.steps))
    for precision in PRECISIONS:
        export(model, calibration, files["served"], layers, precision)
        contents["precision"] = precision
        contents["files"] = {role: describe_file(file) for role, file in files.items() if role != "gate"}
        served = Served(_write_card(contents, path, ("served",)))
        if _agrees(model, validation, config, _maps(served, validation, config)):
            break
    return served


def _measure(
    model: keras.Model, served: Served, config: TrainConfig, parts: dict[str, list[Example]], contents: dict
) -> None:
    """Choose calibration, operating points and heat map scale on validation; measure both held-out parts."""
    held_out = ("validation", "internal_test")
    maps = {part: _maps(served, parts[part], config) for part in held_out}
    target = {part: np.array([e.target for e in parts[part]]) for part in held_out}
    logit = {part: maps[part].mean(axis=(1, 2)) for part in held_out}
    patients = {part: [e.patient for e in parts[part]] for part in held_out}
    contents |= decide({part: (target[part], logit[part], patients[part]) for part in held_out})
    slope, intercept = contents["calibration"]["slope"], contents["calibration"]["intercept"]
    threshold = contents["operating_points"][DEFAULT]["threshold"]
    contents["heatmap"] |= heatmap.choose_scale(maps["validation"], target["validation"])
    contents["metrics"] = {
        part: evaluate(target[part], sigmoid(slope * logit[part] + intercept), threshold, patients[part])
        for part in held_out
    }
    contents["agreement"] = _compare(model, parts["internal_test"], config, maps["internal_test"], contents)


def _write_card(contents: dict, path: Path, roles: tuple[str, ...]) -> Card:
    path.write_text(json.dumps(contents, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return read_card(path, roles=roles)


def _maps(served: Served, examples: list[Example], config: TrainConfig) -> np.ndarray:
    """Compute the served model's maps of logits: (n, h, w) float32."""
    return np.stack([served.look(decode(e.path.read_bytes(), config.size).pixels)[0] for e in examples])


def _float_logits(model: keras.Model, examples: list[Example], config: TrainConfig) -> np.ndarray:
    """Compute the logits of the float32 Keras model: (n,)."""
    films = load(examples, config.size, config.steps)
    batches = Batches(films, np.zeros(len(films)), config.size, config.batch)
    return networks.map_model(model).predict(batches, verbose=0).mean(axis=(1, 2, 3))


def _agrees(model: keras.Model, examples: list[Example], config: TrainConfig, served: np.ndarray) -> bool:
    """Tell whether the served maps agree with the float32 model: in AUC, and in the label of most films."""
    target = np.array([e.target for e in examples])
    full, small = _float_logits(model, examples, config), served.mean(axis=(1, 2))
    apart = abs(roc_auc_score(target, full) - roc_auc_score(target, small))
    # at what becomes the threshold: a quantile of validation's pneumonias
    floors = (np.quantile(logit[target == 1], 1 - WANTED_SENSITIVITY) for logit in (full, small))
    above = [logit >= floor for logit, floor in zip((full, small), floors, strict=True)]
    return bool(apart <= AUC_APART and np.mean(above[0] == above[1]) >= SAME_LABEL)


def _compare(model: keras.Model, examples: list[Example], config: TrainConfig, served: np.ndarray, card: dict) -> dict:
    """Compare the float32 Keras model with the served one on the internal test."""
    target = np.array([e.target for e in examples])
    slope, intercept = card["calibration"]["slope"], card["calibration"]["intercept"]
    threshold = card["operating_points"][DEFAULT]["threshold"]
    logits = _float_logits(model, examples, config), served.mean(axis=(1, 2))
    full, small = (sigmoid(slope * logit + intercept) for logit in logits)
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
