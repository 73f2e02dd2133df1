"""Train -> export -> serve on a few films, headless and through the notebook: every piece of the way, once."""

import io
import json
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
from click.testing import CliRunner

from app import create_app
from pneumo.cli.main import main
from pneumo.data import dataset
from pneumo.model.card import MODELS, read_card
from pneumo.model.predictor import Predictor
from pneumo.training import networks, publish
from pneumo.training.batches import Batches
from pneumo.training.recipes import SHIPPED


def literal(value):
    return repr(str(value)) if isinstance(value, Path) else repr(value)


@pytest.fixture(scope="module")
def executed(tiny_chest_xray, tmp_path_factory):
    """The notebook, executed from top to bottom on a few dozen films, on the shipped base."""
    folder = tmp_path_factory.mktemp("notebook")
    parameters = {
        "data": tiny_chest_xray,
        "sources": [],
        "run": folder / "run",
        "base_weights": read_card(roles=("base",)).file("base"),
        "card": folder / "models" / "tiny.json",
        "epochs": 1,
        "epoch_steps": 1,
    }
    arguments = ["notebook", "--out", str(folder / "out.ipynb")]
    for name, value in parameters.items():
        arguments += ["--set", f"{name}={literal(value)}"]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return folder


def test_notebook_runs_from_top_to_bottom(executed):
    book = nbformat.read(executed / "out.ipynb", as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    pictures = [o for cell in code for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(pictures) >= 8
    assert not any("def " in cell.source for cell in code)  # it only calls the package


def test_its_model_is_served_and_answers_as_keras_does(executed, tiny_chest_xray):
    card = read_card(executed / "models" / "tiny.json", roles=("served", "base", "top"))
    predictor = Predictor(card)
    path = next((tiny_chest_xray / "train" / "PNEUMONIA").iterdir())
    client = create_app({"PREDICTOR": predictor}).test_client()
    answer = client.post("/predict?force=1", data={"file": (io.BytesIO(path.read_bytes()), "film.jpeg")}).json
    (film,) = dataset.load([dataset.Example(path, "PNEUMONIA", None, "p")], card.size)
    assert answer["probability"] == pytest.approx(predictor.probability(predictor.logit(film)), abs=1e-6)

    model = networks.map_model(networks.from_card(card))
    logits = model(Batches(film[None], np.zeros((1, 1)), card.size, 1)[0][0])
    served = predictor.logit_map(film)
    assert served.mean() == pytest.approx(np.mean(logits), abs=0.15)
    assert card.contents["agreement"]["n"] == card.contents["metrics"]["internal_test"]["n"]


def test_card_says_what_it_was_made_of(executed):
    contents = json.loads((executed / "models" / "tiny.json").read_text())
    assert contents["receipt"]["command"].startswith("pneumo train")
    base = read_card(roles=()).contents["files"]["base"]
    assert contents["receipt"]["base"] == {"file": base["file"], "sha256": base["sha256"]}
    assert f"--base {base['file']} " in contents["receipt"]["command"]
    assert set(contents["data"]["parts"]) == set(dataset.PARTS)
    for point in contents["operating_points"].values():
        assert point["rule"].endswith("on validation")
        assert point["internal_test"]["n"] == contents["metrics"]["internal_test"]["n"]
    confusion = contents["metrics"]["validation"]["confusion"]
    assert confusion["tp"] / (confusion["tp"] + confusion["fn"]) >= 0.97


def test_headless_training_repeats_the_notebook(executed, tiny_chest_xray, monkeypatch):
    """Its run lies beside the notebook's: they share what the frozen blocks made of the films."""
    given = []

    def published(trained, config, *arguments):
        given.append((trained, config))
        return read_card(executed / "models" / "tiny.json")

    monkeypatch.setattr(publish, "publish", published)
    features = set((executed / "features").iterdir())
    base = str(read_card(roles=("base",)).file("base"))
    arguments = ["train", "--data", str(tiny_chest_xray), "--run", str(executed / "headless"), "--epochs", "1"]
    arguments += ["--epoch-steps", "1", "--base", base]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "internal test of" in result.output
    ((trained, config),) = given
    assert config == replace(SHIPPED, base_weights=config.base_weights, epochs=1, epoch_steps=1)
    assert set((executed / "features").iterdir()) == features
    with np.load(trained.weights) as headless, np.load(executed / "run" / "top.npz") as notebook:
        assert set(headless.files) == set(notebook.files)
        for key in notebook.files:
            np.testing.assert_allclose(headless[key], notebook[key], atol=2e-2)
    result = CliRunner().invoke(main, [*arguments, "--seed", "1"])
    assert result.exit_code == 2
    assert "another recipe" in result.output


def test_shipped_notebook_was_executed():
    book = nbformat.read(MODELS.parent / "notebooks" / "train_vgg16.ipynb", as_version=4)
    code = [cell for cell in book.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert sum("image/png" in o.get("data", {}) for cell in code for o in cell.outputs) >= 8
    assert not any("def " in cell.source for cell in code)
