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
from pneumo.model.card import MODELS, read_card, sha256
from pneumo.model.predictor import Predictor
from pneumo.training import networks, publish
from pneumo.training.batches import Batches
from pneumo.training.recipes import SHIPPED


def literal(value):
    return repr(str(value)) if isinstance(value, Path) else repr(value)


@pytest.fixture(scope="module")
def executed(tiny_chest_xray, base, tmp_path_factory):
    """The notebook, executed from top to bottom on a few dozen films."""
    folder = tmp_path_factory.mktemp("notebook")
    parameters = {
        "data": tiny_chest_xray,
        "sources": [],
        "run": folder / "run",
        "base_weights": base,
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
    (level,) = dataset.load([dataset.Example(path, "PNEUMONIA", None, "p")], card.size, card.steps)
    logits = model(Batches(level[None], np.zeros((1, 1)), card.size, 1)[0][0])
    served = predictor.logit_map(film)
    assert served.mean() == pytest.approx(np.mean(logits), abs=0.15)
    assert card.contents["agreement"]["n"] == card.contents["metrics"]["internal_test"]["n"]


def test_card_says_what_it_was_made_of(executed, base):
    contents = json.loads((executed / "models" / "tiny.json").read_text())
    assert contents["receipt"]["command"].startswith("pneumo train")
    assert contents["receipt"]["base"] == {"file": base.name, "sha256": sha256(base)}
    assert f"--base {base.name} " in contents["receipt"]["command"]
    with np.load(executed / "models" / contents["files"]["base"]["file"]) as frozen, np.load(base) as whole:
        assert "block4_conv2/0" in frozen
        assert "block4_conv3/0" not in frozen
        np.testing.assert_array_equal(frozen["block4_conv2/0"], whole["block4_conv2/0"])
    assert set(contents["data"]["parts"]) == set(dataset.PARTS)
    for point in contents["operating_points"].values():
        assert point["rule"].endswith("on validation")
        assert point["internal_test"]["n"] == contents["metrics"]["internal_test"]["n"]
    confusion = contents["metrics"]["validation"]["confusion"]
    assert confusion["tp"] / (confusion["tp"] + confusion["fn"]) >= 0.97


def test_headless_training_repeats_the_notebook(executed, base, tiny_chest_xray, monkeypatch):
    """Its run lies beside the notebook's: they share what the frozen blocks made of the films."""
    given = []

    def published(trained, config, *arguments):
        given.append((trained, config))
        return read_card(executed / "models" / "tiny.json")

    monkeypatch.setattr(publish, "publish", published)
    features = set((executed / "features").iterdir())
    arguments = ["train", "--data", str(tiny_chest_xray), "--run", str(executed / "headless"), "--epochs", "1"]
    arguments += ["--epoch-steps", "1", "--base", str(base)]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "internal test of" in result.output
    ((trained, config),) = given
    assert config == replace(SHIPPED, base_weights=config.base_weights, epochs=1, epoch_steps=1)
    assert set((executed / "features").iterdir()) == features
    with np.load(trained.weights) as headless, np.load(executed / "run" / "seed-0.npz") as notebook:
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
