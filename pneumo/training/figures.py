"""What the card says of the served model on held-out films, for each population by itself.

Calibration, operating points and the scale of the heat map are chosen on validation; the internal test is only
measured: all of it, by who labelled the films and by view, against radiologists' boxes, and with films changed.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
from sklearn.metrics import roc_auc_score

from pneumo import LABELS
from pneumo.data.acquisition import SIZE
from pneumo.data.changes import acquire_like
from pneumo.data.dataset import OTHER, SPLIT_SEED, Example, content_hashes, fingerprint, load
from pneumo.evaluation.metrics import evaluate
from pneumo.evaluation.pointing import cover, measure_pointing
from pneumo.evaluation.robustness import measure_changes
from pneumo.evaluation.subgroups import measure_strata
from pneumo.evaluation.thresholds import DEFAULT, choose_even_threshold, decide
from pneumo.films.images import decode
from pneumo.model import heatmap
from pneumo.model.card import sigmoid
from pneumo.model.served import Served
from pneumo.training import networks
from pneumo.training.batches import Batches
from pneumo.training.population import pick, sort_by_population
from pneumo.training.recipes import TrainConfig
from pneumo.training.statements import ADULT, ADULT_PATIENTS, ADULTS, AGES, PATIENTS, SOURCE

HELD_OUT = ("validation", "internal_test")
AUC_APART, SAME_LABEL = 0.002, 0.95  # served and float32 agree if the AUCs differ by no more, and so many labels agree
CHANGED = 150  # films of each population whose label is looked at when they are changed


def measure(
    model: keras.Model, served: Served, config: TrainConfig, parts: Mapping[str, Sequence[Example]], name: str
) -> dict:
    """Choose calibration, operating points and heat map scale of one population, and measure both held-out parts.

    All of this is done with the films that somebody read; the `strata` alone have those labelled by text as well. The
    operating points are chosen on validation's films as they are and with sharpness and tone exchanged, view by view.
    """
    read = {part: [e for e in parts[part] if not e.by_text] or parts[part] for part in HELD_OUT}
    maps = {part: _read_maps(served, read[part], config) for part in HELD_OUT}
    target = {part: np.array([e.target for e in read[part]]) for part in HELD_OUT}
    sharpness = config.sharpness.get(name, 0.0)
    logit = {part: heatmap.pool(maps[part], sharpness) for part in HELD_OUT}
    patients = {part: [e.patient for e in read[part]] for part in HELD_OUT}
    figures = {"ages": list(AGES[name]), "data": _describe_films(parts, name)}
    exchanged = heatmap.pool(_read_exchanged(served, read["validation"], config), sharpness)
    kinds = [f"{how} {e.view}" for how in ("as it is", "exchanged") for e in read["validation"]]
    chosen_on = np.tile(target["validation"], 2), np.concatenate([logit["validation"], exchanged]), kinds
    figures |= decide({part: (target[part], logit[part], patients[part]) for part in HELD_OUT}, chosen_on)
    del figures["default_operating_point"]  # the same for every population
    slope, intercept = figures["calibration"]["slope"], figures["calibration"]["intercept"]
    threshold = figures["operating_points"][DEFAULT]["threshold"]
    probability = {part: sigmoid(slope * logit[part] + intercept) for part in HELD_OUT}
    scale = heatmap.choose_scale(maps["validation"], target["validation"])
    figures["heatmap"] = scale | {"sharpness": sharpness}
    figures["metrics"] = {p: evaluate(target[p], probability[p], threshold, patients[p]) for p in HELD_OUT}
    figures["strata"] = {}
    for part in HELD_OUT:
        by_text = [e for e in parts[part] if e not in read[part]]
        shares = [probability[part]]
        if by_text:
            shares.append(sigmoid(slope * heatmap.pool(_read_maps(served, by_text, config), sharpness) + intercept))
        films = [*read[part], *by_text]
        whose = [e.patient for e in films]
        figures["strata"][part] = measure_strata(films, np.concatenate(shares), threshold, whose)
    figures["pointing"] = {p: _measure_pointing(maps[p], read[p], scale) for p in HELD_OUT}
    full = sigmoid(slope * _compute_logits(model, read["internal_test"], config, sharpness) + intercept)
    figures["agreement"] = _compare(target["internal_test"], full, probability["internal_test"], threshold)
    limit = (math.log(threshold / (1 - threshold)) - intercept) / slope
    some = pick(read["internal_test"], CHANGED)

    def compute_logits(films: Iterable[np.ndarray]) -> np.ndarray:
        return heatmap.pool(_look(served, films), sharpness)

    figures["changes"] = measure_changes(compute_logits, load(some, SIZE), limit, [e.patient for e in some])
    return figures


def _read_exchanged(served: Served, examples: Sequence[Example], config: TrainConfig) -> np.ndarray:
    """Compute the served model's maps of films with the sharpness and tone of another of them: (n, h, w) float32."""
    films = load(examples, SIZE)
    others = films[np.random.default_rng(SPLIT_SEED).permutation(len(films))]
    return _look(served, map(acquire_like, films, others))


def _measure_pointing(maps: np.ndarray, examples: Sequence[Example], scale: Mapping) -> dict | None:
    """Where the map points in films with radiologists' boxes; None without any, or without a map."""
    boxed = [i for i, example in enumerate(examples) if example.boxes]
    if not boxed or maps[0].size == 1:
        return None
    films = [examples[i] for i in boxed]
    return measure_pointing(
        maps[boxed],
        heatmap.to_strengths(maps[boxed], scale["floor"], scale["scale"]),
        np.stack([cover(film.boxes, maps.shape[1]) for film in films]),
        [film.patient for film in films],
        [film.view for film in films],
    )


def _compare(target: np.ndarray, full: np.ndarray, small: np.ndarray, threshold: float) -> dict:
    """Compare the probabilities of the float32 network, `full` (n,), with those of the served one, `small`."""
    return {
        "n": len(full),
        "auc_float": float(roc_auc_score(target, full)),
        "auc_served": float(roc_auc_score(target, small)),
        "same_label": float(np.mean((full >= threshold) == (small >= threshold))),
        "largest_probability_difference": float(np.abs(full - small).max()),
        "mean_probability_difference": float(np.abs(full - small).mean()),
    }


def agrees(model: keras.Model, served: Served, validation: Sequence[Example], config: TrainConfig) -> bool:
    """Tell whether served and float32 model agree in each population: in AUC, and in the label of most films."""
    for name, films in sort_by_population({"validation": validation}).items():
        sharpness = config.sharpness.get(name, 0.0)
        target = np.array([e.target for e in films["validation"]])
        full = _compute_logits(model, films["validation"], config, sharpness)
        small = heatmap.pool(_read_maps(served, films["validation"], config), sharpness)
        apart = abs(roc_auc_score(target, full) - roc_auc_score(target, small))
        # each at the threshold that is best for it: export may shift all logits alike
        above = [(share := sigmoid(logit)) >= choose_even_threshold(target, share) for logit in (full, small)]
        if apart > AUC_APART or np.mean(above[0] == above[1]) < SAME_LABEL:
            return False
    return True


def _read_maps(served: Served, examples: Sequence[Example], config: TrainConfig) -> np.ndarray:
    """Compute the served model's maps of logits: (n, h, w) float32."""
    return _look(served, (decode(example.path.read_bytes(), config.size).pixels for example in examples))


def _look(served: Served, films: Iterable[np.ndarray]) -> np.ndarray:
    """Compute the maps (n, h, w) float32 of films, in a thread for each core."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return np.stack(list(pool.map(lambda film: served.look(film)[0], films)))


def _compute_logits(
    model: keras.Model, examples: Sequence[Example], config: TrainConfig, sharpness: float
) -> np.ndarray:
    """Compute the logits of the float32 Keras model, with maps pooled so: (n,)."""
    films = load(examples, config.size, config.steps)
    batches = Batches(films, np.zeros(len(films)), config.size, config.batch)
    maps = networks.map_model(model).predict(batches, verbose=0)[..., 0]
    return heatmap.pool(maps, sharpness)


def _describe_films(parts: Mapping[str, Sequence[Example]], name: str) -> dict:
    """Say where a population's films come from, and how many are in each part."""
    source = ADULTS | {"patients": ADULT_PATIENTS} if name == ADULT else SOURCE | {"patients": PATIENTS}
    split = f"train folder by patient, 80/10/10, stratified by aetiology, seed {SPLIT_SEED}"
    if name == ADULT:
        split = f"by patient, stratified by label, view and whether a radiologist read the film, seed {SPLIT_SEED}"
    return source | {"split": split, "parts": {part: _count(examples) for part, examples in parts.items()}}


def _count(examples: Sequence[Example]) -> dict:
    labels = (*LABELS, *((OTHER,) if any(e.label == OTHER for e in examples) else ()))
    counts = {label: sum(e.label == label for e in examples) for label in labels}
    patients = len({e.patient for e in examples})
    return {"n": len(examples), **counts, "patients": patients, "fingerprint": fingerprint(content_hashes(examples))}
