"""Pretraining: it resumes after being killed, starts from folded weights, and leaves plain VGG-16 weights."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from click.testing import CliRunner

from pneumo.cli.main import main
from pneumo.data import dataset
from pneumo.errors import PneumoError, RunError
from pneumo.training import networks, normalised, pretraining
from pneumo.training.batches import Batches
from pneumo.training.fitting import claim, read_columns
from pneumo.training.pretraining import PretrainConfig, Stage


@pytest.fixture(scope="module")
def parts(tiny_chest_xray):
    return dataset.read_parts(tiny_chest_xray / "train")


@pytest.fixture(scope="module")
def base(parts, tmp_path_factory):
    """One epoch, killed before the weights were folded, and resumed: config and weights."""
    folder, config = (
        tmp_path_factory.mktemp("base"),
        PretrainConfig(stages=(Stage(32, 1, 1e-3),), film_size=32, batch=8),
    )

    def killed(*arguments):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normalised, "fold", killed)
        with pytest.raises(KeyboardInterrupt):
            pretraining.pretrain(parts["train"][:16], parts["validation"], folder, config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "fit", killed)  # the stage is done: nothing is fitted again
        return config, pretraining.pretrain(parts["train"][:16], parts["validation"], folder, config)


def test_a_killed_run_leaves_plain_vgg16_weights_and_their_receipt(base):
    _, weights = base
    history = read_columns(weights.parent / "history-32.csv")
    assert history["epoch"].tolist() == [0]
    assert 0 < history["seconds"][0] < 600
    with np.load(weights) as stored:
        assert {a.dtype for a in stored.values()} == {np.dtype(np.float16)}
        assert {key.rsplit("/", 1)[0] for key in stored.files} == set(networks.CONV_NAMES)
    said = json.loads(weights.with_suffix(".json").read_text())
    assert said["command"] == "pneumo pretrain"
    assert set(said["stages"]["32"]) == {"seconds", "validation with averaged weights"}
    assert 0 <= said["stages"]["32"]["validation with averaged weights"]["accuracy"] <= 1
    assert not list(weights.parent.glob("backup-*"))
    assert keras.mixed_precision.global_policy().name == "float32"


def test_a_folder_is_the_home_of_one_run(base, parts):
    config, weights = base
    for films, other in ((parts["train"][:16], replace(config, seed=1)), (parts["train"][1:16], config)):
        with pytest.raises(RunError, match="another recipe, of other weights to begin with, or of other films"):
            pretraining.pretrain(films, parts["validation"], weights.parent, other)


def test_a_run_can_start_from_folded_weights_and_says_so(base, parts, tmp_path, monkeypatch):
    _, start = base
    train = parts["train"][:16]
    barely = PretrainConfig(
        stages=(Stage(32, 1, 1e-9),),
        start=start,
        film_size=32,
        batch=8,
        matched=0.5,
        seed=2,
        augmentation="films, exchanged",
    )
    # too few patients for the trees: a score that says nothing of the label
    monkeypatch.setattr(pretraining, "score_films", lambda films: np.arange(len(films)) % 5 - 2.0)
    second = pretraining.pretrain(train, parts["validation"], tmp_path, barely)
    features = []
    for weights in (start, second):
        model = networks.vgg16(32)
        networks.load_layers(model, weights)
        features.append(model(Batches(dataset.load(train, 32), np.zeros(16), 32, 16)[0][0]).numpy().ravel())
    assert np.corrcoef(*features)[0, 1] > 0.8  # not learned anew: settled on the films, with a rate of next to nothing
    said = json.loads(second.with_suffix(".json").read_text())
    command = "pneumo pretrain --start base.npz --epochs 1 --rate 1e-09 --acquisition 1.0 --matched 0.5"
    assert said["command"] == f'{command} --augmentation "films, exchanged" --seed 2'
    assert said["config"]["start"]["receipt"]["command"] == "pneumo pretrain"


def test_films_of_unknown_aetiology_are_said_before_the_hours(parts, tmp_path):
    films = [*parts["train"][:3], replace(parts["train"][3], aetiology=None)]
    with pytest.raises(PneumoError, match="1 of 6 films"):
        pretraining.pretrain(films, parts["validation"][:2], tmp_path / "run", PretrainConfig())
    assert not (tmp_path / "run").exists()


def test_a_run_belongs_to_the_weights_it_began_with_whatever_they_are_called(parts, tmp_path):
    weights, films = tmp_path / "base.npz", parts["train"][:4]
    weights.write_bytes(b"some")
    with pytest.raises(RunError, match="Expected the receipt of the base weights"):  # before the hours, not after them
        pretraining.pretrain(films, films, tmp_path / "run", PretrainConfig(start=weights))
    assert not (tmp_path / "run").exists()
    weights.with_suffix(".json").write_text("{}")
    for _ in range(2):
        claim(tmp_path / "run", PretrainConfig(start=weights), weights, films)
    moved = weights.rename(tmp_path / "moved.npz")
    weights.with_suffix(".json").rename(moved.with_suffix(".json"))
    claim(tmp_path / "run", PretrainConfig(start=moved), moved, films)
    moved.write_bytes(b"others")
    with pytest.raises(RunError, match="other weights"):
        claim(tmp_path / "run", PretrainConfig(start=moved), moved, films)


def test_the_command_hands_on_what_it_is_given(tiny_chest_xray, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(pretraining, "pretrain", lambda train, validation, run, config: given.append(config))
    start = tmp_path / "base.npz"
    start.touch()
    more = ["--epochs", "2", "--matched", "0.5", "--seed", "4", "--augmentation", "films, exchanged"]
    arguments = ["pretrain", "--data", str(tiny_chest_xray), "--run", str(tmp_path), "--start", str(start), *more]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    stages = (replace(pretraining.CONTINUED, epochs=2),)
    assert given == [PretrainConfig(stages, start=start, matched=0.5, augmentation="films, exchanged", seed=4)]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--augmentation", "magic"], ("'films, exchanged'", "received 'magic'")),
        (["--epochs", "3"], ("epochs can be given with --start only",)),
    ],
)
def test_options_that_do_not_fit_are_refused(tiny_chest_xray, options, words):
    refused = CliRunner().invoke(main, ["pretrain", "--data", str(tiny_chest_xray), *options])
    assert refused.exit_code == 2
    assert all(word in " ".join(refused.output.split()) for word in words)
