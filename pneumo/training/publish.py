"""A training run -> the files in models/ and the card that describes them.

Calibration, operating points and the scale of the heat map are chosen on validation, with the served file. The internal
test is measured afterwards and changes nothing.
"""

import json
import os
import shutil
import tempfile
from pathlib import Path

import keras
import numpy as np

from pneumo import LABELS, __version__
from pneumo.data.changes import EVERYDAY
from pneumo.data.dataset import Example, load
from pneumo.evaluation.thresholds import DEFAULT
from pneumo.model.card import POINTS, Card, describe_file, read_card
from pneumo.model.served import Served
from pneumo.training import networks
from pneumo.training.bases import describe_base
from pneumo.training.export import export
from pneumo.training.features import load_base
from pneumo.training.figures import agrees, measure
from pneumo.training.gate import teach
from pneumo.training.pictures import list_files, read_others, read_pictures
from pneumo.training.population import sort_by_population
from pneumo.training.recipes import TrainConfig
from pneumo.training.statements import CHILD, state
from pneumo.training.train import Trained, make_receipt

CALIBRATION_FILMS = 200  # of the train part: on them the ranges that int8 must cover are measured
PRECISIONS = ("int8", "float32")  # the first that agrees with the float32 network is served


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
    _write_base(trained, config, files.get("base"))
    contents = _begin_card(config, path, base_name, recipe)
    shuffled = [parts["train"][i] for i in np.random.default_rng(config.seed).permutation(len(parts["train"]))]
    model = _write_top(trained, config, files)
    served = _write_served(model, config, shuffled, parts["validation"], path, files, contents)
    populations = sort_by_population(parts)
    side = config.film_size if config.steps else config.size
    contents["gate"] = teach(
        lambda film: served.look(film)[1],
        {name: {part: load(films, side) for part, films in own.items()} for name, own in populations.items()},
        read_others(others),
        read_pictures(list_files(elsewhere)),
        files["gate"],
    )
    contents["files"]["gate"] = describe_file(files["gate"])
    figures = {name: measure(model, served, config, own, name) for name, own in populations.items()}
    if len(figures) == 1:
        contents |= figures[CHILD]
    else:
        for name in ("calibration", "operating_points", "heatmap"):  # every population has its own
            del contents[name]
        contents["populations"] = figures
    contents["receipt"] = make_receipt(config, trained, base_name, recipe)
    contents["receipt"]["base"] = describe_base(config.base_weights)
    contents |= state(populations)
    _write_card(contents, path, tuple(files))


def _write_base(trained: Trained, config: TrainConfig, path: Path | None) -> None:
    """Write those of the base's weights that training left as they were; a network without a base has none."""
    if path:
        model = networks.vgg16(config.size)
        load_base(model, config)
        frozen = [name for name in networks.CONV_NAMES if name not in trained.layers]
        networks.save_layers(networks.take_layers(model, frozen), path, "float16")


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


def _write_top(trained: Trained, config: TrainConfig, files: dict[str, Path]) -> keras.Model:
    """Write the trained layers, and return the whole float32 network."""
    model = networks.build(config.network, config.size, **config.options)
    for weights in filter(None, (files.get("base"), trained.weights)):
        networks.load_layers(model, weights)
    shutil.copyfile(trained.weights, files["top"])
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
        "meaning": "logits of positions; pooled with the sharpness of heatmap they are the film's logit",
        "features": halves,
    }
    # The quantizer's ranges are moving averages of what it sees: calibrated on films as they are, it clips the values
    # of brighter films, which then change their label.
    calibration = load(train[:CALIBRATION_FILMS], config.size, config.steps)
    if "level" not in config.steps:  # a brighter film arrives at the network as bright as any
        calibration = EVERYDAY["brighter by a fifth"](calibration)
    for precision in PRECISIONS:
        export(model, calibration, files["served"], layers, precision)
        contents["precision"] = precision
        contents["files"] = {role: describe_file(file) for role, file in files.items() if role != "gate"}
        served = Served(_write_card(contents, path, ("served",)), threads=1, at_once=os.cpu_count() or 1)
        if agrees(model, served, validation, config):
            break
    return served


def _write_card(contents: dict, path: Path, roles: tuple[str, ...]) -> Card:
    path.write_text(json.dumps(contents, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return read_card(path, roles=roles)
