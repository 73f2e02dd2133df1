"""Recipes train, resume, export, serve, and answer the same from Keras, the commands and the server."""

import csv
import io
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from app import create_app
from pneumo.cli.main import main
from pneumo.data import dataset
from pneumo.data.augment import AUGMENTATIONS
from pneumo.films.film import to_input
from pneumo.films.images import decode
from pneumo.films.preprocessing import STEPS, prepare
from pneumo.model.card import read_card
from pneumo.model.predictor import Predictor
from pneumo.reports.comparison import MISLED
from pneumo.training import gate, networks, publish, recipes
from pneumo.training import train as training
from pneumo.training.recipes import RECIPES
from tests.support.films import SAMPLES

PUBLISHED = ("resnet50v2", "cnn5")  # VGG-16 by the notebook, see test_train


def test_recipes_name_what_there_is():
    for name, recipe in RECIPES.items():
        config = recipe.config
        assert config.network in networks.GATE_LAYERS, name
        assert set(config.steps) <= set(STEPS), name
        assert config.augmentation in AUGMENTATIONS, name
        assert recipe.base in (recipes.IMAGENET, "none"), name
        assert (config.film_size == config.size) or not config.steps or config.network == "vgg16", name
    listed = CliRunner().invoke(main, ["recipes"], catch_exceptions=False).output.splitlines()
    assert [line.split()[0] for line in listed] == list(RECIPES)


def test_networks_are_as_published():
    five = networks.build("cnn", 96, **RECIPES["cnn5"].config.options)
    assert five.get_layer(networks.MAP_NAME).output.shape[1:] == (1, 1, 1)
    layers = [layer.name for layer in five.layers]
    assert sum(name.endswith("_conv") for name in layers) == 5
    assert sum(name.endswith("_pool") for name in layers) == 5
    assert sum(name.startswith("top_dense") for name in layers) + 1 == 4  # the fourth is the map of one position
    resnet = networks.build("resnet50v2", 96, **RECIPES["resnet50v2"].config.options)
    published = keras.applications.ResNet50V2(include_top=False, weights=None)
    assert {layer.name for layer in published.layers if layer.weights} <= {layer.name for layer in resnet.layers}
    assert resnet.get_layer(networks.MAP_NAME).output.shape[1:] == (3, 3, 1)


@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES[name].config.network == "cnn"])
def test_variants_of_the_plain_network_are_as_their_recipes_say(name):
    options = RECIPES[name].config.options
    model = networks.build("cnn", 96, **options)
    dense = [model.get_layer(f"top_dense{number}").units for number in range(1, len(options["dense"]) + 1)]
    assert dense == list(options["dense"])
    assert model.get_layer("top_dropout1").rate == options["dropout"]


def test_a_recipe_that_trains_as_a_whole_resumes_after_its_last_whole_epoch(tiny_chest_xray, tmp_path, monkeypatch):
    config = replace(RECIPES["cnn-rmsprop"].config, size=64, film_size=64, epochs=2, batch=8)
    examples = dataset.scan(tiny_chest_xray / "train")
    parts = dataset.split(examples, dataset.content_hashes(examples))
    some = parts["train"][:4] + parts["train"][-4:]
    done = keras.callbacks.BackupAndRestore.on_epoch_end

    def killed(self, epoch, logs=None):
        done(self, epoch, logs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(keras.callbacks.BackupAndRestore, "on_epoch_end", killed)
        with pytest.raises(KeyboardInterrupt):
            training.train(some, parts["validation"], tmp_path, config)
    trained = training.train(some, parts["validation"], tmp_path, config)
    rows = list(csv.DictReader((tmp_path / "history-whole.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert np.isfinite(trained.histories["whole"]["loss"]).all()
    before, after = (networks.build("cnn", 64, **config.options) for _ in range(2))
    networks.load_layers(after, trained.weights)
    assert set(trained.layers) == {layer.name for layer in after.layers if layer.weights}
    kernels = [model.get_layer(networks.MAP_NAME).get_weights()[0] for model in (before, after)]
    assert not np.array_equal(*kernels)


@pytest.mark.parametrize(
    ("watched", "losses", "expected"),
    [
        ({"enough": 0.9}, [(0.5, 0.5, 0.8), (0.4, 0.4, 0.91), (0.3, 0.3, 0.95)], 2),
        ({"gap": 0.2}, [(0.5, 0.8, 0.5), (0.5, 0.6, 0.5), (0.5, 0.8, 0.5), (0.4, 0.7, 0.5), (0.4, 0.4, 0.5)], 4),
        ({}, [(0.5, 0.9, 1.0)] * 3, 3),
    ],
)
def test_training_ends_when_the_recipe_says_so(watched, losses, expected):
    class Told:
        """A model that only remembers whether it was told to stop."""

        stop_training = False

    model, epochs = Told(), 0
    watchers = training._make_watchers(replace(RECIPES["cnn"].config, **watched))
    for watcher in watchers:
        watcher.set_model(model)
    for loss, validation, accuracy in losses:
        epochs += 1
        for watcher in watchers:
            watcher.on_epoch_end(epochs, {"loss": loss, "val_loss": validation, "accuracy": accuracy})
        if model.stop_training:
            break
    assert epochs == expected


@pytest.fixture(scope="module", params=PUBLISHED)
def published(request, tiny_chest_xray, tmp_path_factory):
    """Card of a recipe's model, trained and published by the command on a few dozen films, its gate on few drawings."""
    name, folder = request.param, tmp_path_factory.mktemp("recipe")
    recipe = RECIPES[name]
    arguments = ["train", "--recipe", name, "--data", str(tiny_chest_xray), "--run", str(folder / "run")]
    # after fewer the rounding of a processor decides whether the logits rise with pneumonia at all
    arguments += ["--epochs", {"resnet50v2": "4", "cnn5": "10"}[name], "--image-size", "64", "--base", "none"]
    arguments += ["--card", str(folder / f"{name}.json")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(RECIPES, name, replace(recipe, config=replace(recipe.config, batch=4, rate=1e-3, views=1)))
        patched.setattr(gate, "DRAWN", 3)
        patched.setattr(publish, "CALIBRATION_FILMS", 4)
        result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder / f"{name}.json"


def test_published_recipe_answers_the_same_everywhere(published, tiny_chest_xray, tmp_path):
    card = read_card(published, roles=("served", "gate", "top"))
    predictor = Predictor(card)
    path = next((tiny_chest_xray / "train" / "PNEUMONIA").iterdir())
    client = create_app({"PREDICTOR": predictor}).test_client()
    body = {"file": (io.BytesIO(path.read_bytes()), "film.jpeg")}
    answer = client.post("/predict?force=1&heatmap=1", data=body).json
    assert answer["model"]["name"] == published.stem

    out = tmp_path / "out.csv"
    arguments = ["predict", str(path), "--force", "--model", str(published), "--csv", str(out)]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    (row,) = csv.DictReader(out.open())
    assert float(row["probability"]) == pytest.approx(answer["probability"], abs=1e-6)
    assert row["label"] == answer["label"]

    film, warnings = prepare(decode(path.read_bytes()).pixels, card.size, RECIPES[published.stem].config.steps)
    assert set(warnings) <= set(answer["warnings"])
    logit = float(np.mean(networks.map_model(networks.from_card(card))(to_input(film, card.size))))
    # after a few steps the logits lie so close together that calibration stretches what int8 rounds
    spread = 0.05 if card.contents["precision"] == "int8" else 1e-3
    served = (math.log(answer["probability"] / (1 - answer["probability"])) - card.intercept) / card.slope
    assert served == pytest.approx(logit, abs=spread, rel=spread)
    assert card.steps == RECIPES[published.stem].config.steps
    assert (answer["heatmap"] is None) == (published.stem == "cnn5"), "a flattened film has no map"
    body = {"file": (io.BytesIO(path.read_bytes()), "film.jpeg")}
    page = client.post("/", data=body | {"force": "1"}, headers={"Accept": "text/html"}).text
    assert ("No heat map:" in page) == (published.stem == "cnn5")


def test_record_holds_what_the_card_does_not(published):
    card, kept = json.loads(published.read_text()), json.loads(published.with_suffix(".run.json").read_text())
    assert len(kept["internal_test"]["probability"]) == card["metrics"]["internal_test"]["n"]
    assert len(kept["histories"][next(iter(kept["histories"]))]["val_loss"]) >= 1
    assert kept["milliseconds"] > 0
    assert set(kept["audit"]) == {*MISLED, "intervals"}
    assert card["recipe"] == published.stem
    assert f"--recipe {published.stem} --image-size 64" in card["receipt"]["command"]


def test_comparison_is_written_from_the_records(published, tmp_path):
    arguments = ["compare", str(published.parent), "--out", str(tmp_path), "--data", str(tmp_path)]
    assert CliRunner().invoke(main, arguments, catch_exceptions=False).exit_code == 0
    text, rows = (tmp_path / "comparison.md").read_text(), json.loads((tmp_path / "comparison.json").read_text())
    row, card = rows[published.stem], json.loads(published.read_text())
    assert row["parameters"] == card["parameters"] == networks.from_card(read_card(published)).count_params()
    assert f"| `{published.stem}` | {card['metrics']['internal_test']['auc']:.3f} (" in text
    assert "64 pixels instead of" in row["differs"]
    for figure in ("roc", "curves", "confusion"):
        assert f"comparison/{figure}.png" in text
        assert (tmp_path / "comparison" / f"{figure}.png").stat().st_size > 5000


def test_the_record_of_another_model_is_refused(published, tmp_path):
    card = Path(shutil.copy(published, tmp_path))
    kept = json.loads(published.with_suffix(".run.json").read_text())
    card.with_suffix(".run.json").write_text(json.dumps(kept | {"served": "0" * 64}))
    result = CliRunner().invoke(main, ["compare", str(tmp_path), "--out", str(tmp_path), "--data", str(tmp_path)])
    assert result.exit_code != 0
    assert "is not of the model in" in result.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("train", "--recipe", "cnn", "--tune-epochs", "7"), "--tune-epochs"),
        (("train", "--recipe", "vgg16", "--seeds", "2"), "--seeds: it is of the shipped model's training"),
        (("train", "--seed", "-1"), "0<=x<=4294967295"),
        (("notebook", "--set", "epochs"), "expected NAME=VALUE"),
        (("notebook", "--set", "data=/films"), "expected NAME=VALUE"),
        (("notebook", "--set", "epoch=1"), "the name one of data, sources, run, base_weights"),
    ],
)
def test_what_cannot_be_meant_is_said_at_once(options, said):
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("│", " ").split())


def test_unknown_recipes_and_bases_are_refused(tiny_chest_xray):
    for arguments, words in (
        (["--recipe", "resnet"], "expected one of vgg16,"),
        (["--recipe", "vgg16", "--base", "none"], "needs a base"),
        (["--recipe", "resnet50v2", "--base", str(SAMPLES[0])], "expected imagenet or none"),
        (["--base", "chest-xray"], "Expected base weights at chest-xray, found none"),
        (["--recipe", "cnn", "--base", "imagenet"], "expected none for cnn"),
        (["--image-size", "100"], "expected a multiple of 16"),
    ):
        result = CliRunner().invoke(main, ["train", "--data", str(tiny_chest_xray), *arguments])
        assert result.exit_code == 2
        assert words in result.output
