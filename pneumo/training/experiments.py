"""What was tried on the recipe `vgg16`, and what it did where acquisition misleads: reports/experiments.md.

`experiment` trains one of `recipes.IDEAS` and keeps its figures on validation as JSON; `write_page`
compares what it finds there with the recipe as it is, film by film.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from pneumo.data.acquisition import SIZE, features, interventions, most_typical
from pneumo.data.dataset import Example, children, content_hashes, fingerprint, load
from pneumo.errors import RunError
from pneumo.evaluation.audit import NAMED, audit, score_films
from pneumo.evaluation.faithfulness import choose, deletions, faithfulness
from pneumo.evaluation.thresholds import DEFAULT, calibrate, choose_points
from pneumo.films.preprocessing import prepare
from pneumo.model.card import sha256, sigmoid
from pneumo.training.receipts import base_receipt
from pneumo.training.recipes import RECIPES, find_idea

FILMS = "films.json"


def audited(
    target: np.ndarray,
    score: np.ndarray,
    child: Sequence,
    logit: np.ndarray,
    changed: dict[str, np.ndarray],
    chosen_on: tuple[np.ndarray, np.ndarray, Sequence],
) -> dict:
    """`audit.audit` of logits (n,), with calibration and threshold of the target, logit and child in `chosen_on`."""
    calibration = calibrate(*chosen_on)
    slope, intercept = calibration["slope"], calibration["intercept"]

    def probability(raw: np.ndarray) -> np.ndarray:
        return sigmoid(slope * np.asarray(raw, float) + intercept)

    threshold = choose_points(chosen_on[0], probability(chosen_on[1]))[DEFAULT]
    under = {name: probability(raw) for name, raw in changed.items()}
    result = audit(target, score, child, slope * logit + intercept, probability(logit), threshold, under)
    kept = (*NAMED, "intervals", "interventions", "n", "threshold")
    return {name: result[name] for name in kept}


def map_tested(
    logit_map: Callable[[np.ndarray], np.ndarray],
    films: np.ndarray,
    columns: tuple[np.ndarray, np.ndarray, Sequence],
    threshold: float,
) -> dict | None:
    """`faithfulness.faithfulness` of the network's map on films (n, S, S) uint8; None where no pneumonia is called so.

    `columns` are their target, logit and child, on which it is calibrated.
    """
    (target, logit, child), calibration = columns, calibrate(*columns)
    slope, intercept = calibration["slope"], calibration["intercept"]
    if not (chosen := choose(target, sigmoid(slope * logit + intercept) >= threshold)):
        return None
    before, after = zip(*(deletions(films[i], logit_map, seed=i) for i in chosen), strict=True)
    return faithfulness(before, after, slope, intercept, np.asarray(child)[chosen])


def experiment(
    name: str, seed: int, parts: dict[str, list[Example]], base: Path, runs: Path, out: Path, test: bool = False
) -> Path:
    """Train that idea on `base`, measure it on validation, and write `out`/NAME-BASE-SEED.json; returns its path.

    Checkpoints lie in `runs`. With `test` the internal test is measured as well: for the recipe that was chosen.
    """
    from pneumo.training.objective import CalibratedLoss
    from pneumo.training.train import logit_map, logits, train

    changes, of = find_idea(name).changes, sha256(base)
    config = replace(RECIPES["vgg16"].config, base_weights=base, seed=seed, **changes)
    label = f"{name.replace(' + ', '+').replace(' ', '-')}-{of[:8]}-{seed}"
    known, result, chosen_on = known_films(parts, out / FILMS), {}, None
    started = time.monotonic()
    trained = train(parts["train"], parts["validation"], runs / label, config)
    trained_seconds = time.monotonic() - started
    for part in ("validation", *(("internal_test",) if test else ())):
        examples = parts[part]
        columns = [np.array(known[part][key]) for key in ("target", "score", "child")]
        squares = load(examples, SIZE)
        measured = [features(e.path.read_bytes()) for e in examples]
        alterations = interventions(measured, squares[most_typical(measured)])
        plain = load(examples, config.size, config.steps)
        altered = [
            [prepare(alter(square), config.size, config.steps)[0] for square in squares]
            for alter in alterations.values()
        ]
        films = np.concatenate([plain, *altered])  # all at once: the frozen blocks are the dear part
        logit = logits(config, trained.weights, films, runs / label).reshape(1 + len(alterations), -1)
        changed = dict(zip(alterations, logit[1:], strict=True))
        chosen_on = chosen_on or (columns[0], logit[0], columns[2])
        result[part] = audited(*columns, logit[0], changed, chosen_on)
        result[part]["logit"] = logit[0].round(4).astype(float).tolist()
        if part == "validation":
            seen = logit_map(config, trained.weights)
            result[part]["faithfulness"] = map_tested(seen, plain, chosen_on, result[part]["threshold"])
    contents = {
        "films": known["fingerprint"],
        "idea": name,
        "changes": changes,
        "seed": seed,
        "base": {"sha256": of, "receipt": base_receipt(base)},
        "config": {key: value for key, value in asdict(config).items() if key != "base_weights"},
        "kept": list(trained.layers),
        "chosen_by": CalibratedLoss.name,
        "epochs": {phase: len(history["loss"]) for phase, history in trained.histories.items()},
        "precision": trained.precision,
        "seconds": trained.seconds,
        "seconds_with_features": round(trained_seconds),
        **result,
    }
    path = out / f"{label}.json"
    path.write_text(json.dumps(contents, allow_nan=False) + "\n", encoding="utf-8")
    return path


def known_films(parts: dict[str, list[Example]], path: Path) -> dict[str, dict[str, list]]:
    """Of validation and internal test: `file`, `target`, nuisance `score` and `child` of every film, kept in `path`.

    Those of `path` are taken if they are of the same films: all runs are measured by one score.

    Raises:
        RunError: runs of other films lie beside `path`.
    """
    held_out = ("validation", "internal_test")
    names = {part: [e.path.name for e in parts[part]] for part in held_out}
    every = [example for part in parts.values() for example in part]
    hashes = content_hashes(every)
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))
        same = {part: known[part]["file"] for part in held_out} == names
        if same and known.get("fingerprint") == fingerprint(hashes):
            return known
        if len(list(path.parent.glob("*.json"))) > 1:
            raise RunError(f"{path.parent} holds runs of other films: name another folder with --out.")
    of = np.repeat(list(parts), [len(part) for part in parts.values()])
    score, child = score_films(every), children(every, hashes)
    known = {"fingerprint": fingerprint(hashes)} | {
        part: {
            "file": names[part],
            "target": [e.target for e in parts[part]],
            "score": score[of == part].round(4).tolist(),
            "child": child[of == part].tolist(),
        }
        for part in held_out
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(known) + "\n", encoding="utf-8")
    return known
