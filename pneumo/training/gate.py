"""Teach the gate: films as they are, augmented and turned, and pictures that are no films -> its parameters and limits.

The gate learns from all pictures of the folders. What it does with them is measured by cross-validation: by gates that
were taught without a fold of them, no patient on both sides. What it does with films is measured on those of the
internal test.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pneumo.data.augment import augment
from pneumo.films.film import squash
from pneumo.model.gate import ARRAYS, FRONTAL, KINDS, LIMITS, OTHER, Gate, Verdict
from pneumo.training.pictures import FOLDS, TURNS, Pictures, cut_detail, draw, shuffle, turn
from pneumo.training.population import find_directions, fit_row, measure_row, pick

FILMS = 500  # of each population as they are, and as many augmented
TURNED = 300  # of each way, from all populations
COMPONENTS = 150
REFUSED_SHARE = 0.002  # of validation's films of each population, by each of the two limits: together below 0.5 %
DOUBTFUL_SHARE = 0.02
DRAWN = 30  # of each sort
MARGIN = 1.15  # of the largest distance: pictures that are no films lie far beyond, films of other hospitals a little
FOLDER_WEIGHT = 1.5  # of a picture from a folder, since there are fewer of them than films
LEAST = 150  # pictures of each kind: of fewer, augmented copies are taught as well
MEASURED = 200  # films of each population that are measured turned
Features = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Group:
    """Features (n, d) of pictures of one kind; `folds` (n,) are theirs, -1 for what teaches every gate."""

    kind: str
    x: np.ndarray
    folds: np.ndarray
    weight: float = 1.0
    augmented: bool = False


def teach(
    features: Features,
    films: Mapping[str, Mapping[str, np.ndarray]],
    others: Mapping[str, Pictures],
    elsewhere: Pictures,
    path: Path,
    seed: int = 0,
) -> dict:
    """Fit the gate, write its arrays to `path`, and return what the card says of it: kinds, limits, measurements.

    `features` makes (d,) float32 of (H, W) uint8, in several threads at once. `films` has (n, S, S) uint8 of each part
    of each population: train teaches, validation sets the limits, the internal test is only measured. `others` are
    pictures of anything else by kind (`read_others`), `elsewhere` frontal films of other hospitals than the films'.
    For several populations the file also holds the row that tells them apart, see `population`.
    """

    def seen(pictures: Iterable[np.ndarray]) -> np.ndarray:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return np.array(list(pool.map(lambda one: features(np.ascontiguousarray(one)), pictures)), np.float32)

    frontal, groups = _show_films(seen, films, seed)
    groups += _show_folders(seen, others, elsewhere, next(iter(films.values()))["train"].shape[1], seed)
    known = {name: seen(parts["validation"]) for name, parts in films.items()}
    gate = _fit(frontal, groups, known, seed)
    arrays = {name: getattr(gate, name) for name in ARRAYS}
    told = {
        "kinds": list(gate.kinds),
        "limits": {name: getattr(gate, name) for name in LIMITS},
        "rule": f"either limit refuses {REFUSED_SHARE:.1%} of the validation films of the population that it suits "
        f"least, and doubts {DOUBTFUL_SHARE:.0%}; the largest distance counts films elsewhere, too, and has a margin "
        f"of {MARGIN}",
        "taught": {name: len(x) for name, x in frontal.items()}
        | {kind: sum(len(group.x) for group in groups if group.kind == kind) for kind in gate.kinds[1:]},
        "of folders": {
            "frontal films elsewhere": len(elsewhere[0]),
            "other pictures": sum(len(p) for p, _ in others.values()),
        },
        "folds": FOLDS,
        "measured": _measure(gate, seen, films, known, seed) | _measure_folders(frontal, groups, known, seed),
    }
    if len(films) > 1:
        row = fit_row(frontal, find_directions(np.concatenate([*frontal.values()]), COMPONENTS, seed))
        arrays |= {"populations": np.array(row.names), "population_weights": row.weights, "population_bias": row.bias}
        test = {name: parts["internal_test"] for name, parts in films.items()}
        told["populations"] = measure_row(row, test, seen)
        told["unlike"] = _measure_unlike(
            frontal, groups, known, {name: seen(pick(x, MEASURED)) for name, x in test.items()}
        )
    np.savez(path, **arrays)
    return told


def _show_films(
    seen: Callable, films: Mapping[str, Mapping[str, np.ndarray]], seed: int
) -> tuple[dict[str, np.ndarray], list[Group]]:
    """Features of the train films of each population, plain and augmented, and of what is made of them and drawn."""
    frontal, some = {}, []
    for name, parts in films.items():
        chosen = parts["train"][np.random.default_rng(seed).permutation(len(parts["train"]))[: 2 * FILMS]]
        plain, changed = chosen[::2], augment(chosen[1::2], seed)
        frontal[name] = seen([*plain, *changed])
        some += [*plain[: TURNED // len(films)], *changed[: TURNED // len(films)]]
    rng = np.random.default_rng(seed)
    made = [shuffle(film, 2 + 2 * (i % 2), rng) for i, film in enumerate(some[::2])]
    made += [cut_detail(film, rng) for film in some[::2]]
    made += [picture for _ in range(DRAWN) for picture in draw(rng)]
    shown = {OTHER: seen(made)} | {kind: seen(turn(some, kind)) for kind in TURNS}
    return frontal, [Group(kind, x, np.full(len(x), -1)) for kind, x in shown.items()]


def _show_folders(
    seen: Callable, others: Mapping[str, Pictures], elsewhere: Pictures, size: int, seed: int
) -> list[Group]:
    """Features of the pictures of the folders, of few pictures augmented copies as well."""
    groups = []
    for kind, (pictures, folds) in others.items():
        groups.append(Group(kind, seen(pictures), folds, FOLDER_WEIGHT))
        squares = np.stack([squash(picture, size) for picture in pictures])
        for copy in range(LEAST // len(pictures)):
            groups.append(Group(kind, seen(augment(squares, seed + copy)), folds, augmented=True))
    if len(elsewhere[0]):
        groups.append(Group(FRONTAL, seen(elsewhere[0]), elsewhere[1], FOLDER_WEIGHT))
    return groups


def _fit(frontal: Mapping[str, np.ndarray], groups: list[Group], known: Mapping[str, np.ndarray], seed: int) -> Gate:
    """Fit a gate to features (n, d) of each population's train films and to `groups`; `known` sets its limits."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    groups = [group for group in groups if len(group.x)]
    kinds = tuple(kind for kind in KINDS if kind in {FRONTAL, OTHER} | {group.kind for group in groups})
    x = np.concatenate([*frontal.values(), *(group.x for group in groups)])
    films = sum(map(len, frontal.values()))
    kind = np.concatenate([np.zeros(films, int), *(np.full(len(g.x), kinds.index(g.kind)) for g in groups)])
    weight = np.concatenate([np.ones(films), *(np.full(len(group.x), group.weight) for group in groups)])
    centre = np.stack([one.mean(axis=0) for one in frontal.values()])  # (p, d)
    within = np.concatenate([one - own for one, own in zip(frontal.values(), centre, strict=True)])
    project = find_directions(x, COMPONENTS, seed, within.std(axis=0))
    fit = LogisticRegression(C=0.01, max_iter=2000).fit((x - centre[0]) @ project, kind, sample_weight=weight)
    spread = PCA(whiten=True).fit(within @ project)
    gate = Gate(
        kinds=kinds,
        weights=(project @ fit.coef_.T).astype(np.float32),
        bias=fit.intercept_.astype(np.float32),
        centre=centre.astype(np.float32),
        whitening=(project @ (spread.components_.T / np.sqrt(spread.explained_variance_ + 1e-6))).astype(np.float32),
        **dict.fromkeys(LIMITS, 0.0),
    )
    verdicts = [[gate.judge(one) for one in x] for x in known.values()]
    away = [gate.judge(one).distance for group in groups if group.kind == FRONTAL for one in group.x]

    def worst(share: float) -> tuple[float, float]:
        """The limits below and beyond which that share of the films of no population lies."""
        lowest = min(np.quantile([verdict.frontal for verdict in found], share) for found in verdicts)
        return lowest, max(np.quantile([verdict.distance for verdict in found], 1 - share) for found in verdicts)

    (least_frontal, largest), (sure_frontal, sure) = worst(REFUSED_SHARE), worst(DOUBTFUL_SHARE)
    if away:
        largest = max(largest, np.quantile(away, 1 - REFUSED_SHARE))
    limits = least_frontal, sure_frontal, MARGIN * largest, sure
    return replace(gate, **{name: float(limit) for name, limit in zip(LIMITS, limits, strict=True)})


def _measure(
    gate: Gate,
    seen: Callable,
    films: Mapping[str, Mapping[str, np.ndarray]],
    known: Mapping[str, np.ndarray],
    seed: int,
) -> dict:
    """What the gate does with films of each population, as they are and turned, and with drawn pictures."""
    drawn = np.random.default_rng(seed + 1)
    verdicts = {"drawn pictures": [picture for _ in range(DRAWN) for picture in draw(drawn)]}
    for name, parts in films.items():
        test = parts["internal_test"]
        behind = f", {name}" if len(films) > 1 else ""
        verdicts |= {f"internal_test{behind}": test}
        verdicts |= {f"{kind}{behind}": turn(pick(test, MEASURED), kind) for kind in TURNS}
    counted = {name: _count([gate.judge(one) for one in seen(group)]) for name, group in verdicts.items()}
    for name, x in known.items():
        counted["validation" + (f", {name}" if len(films) > 1 else "")] = _count([gate.judge(one) for one in x])
    return counted


def _measure_folders(
    frontal: Mapping[str, np.ndarray], groups: list[Group], known: Mapping[str, np.ndarray], seed: int
) -> dict:
    """What gates do with the folders' pictures, each fold judged by a gate that was taught by the others."""
    verdicts: dict[str, list[Verdict]] = {}
    for fold in range(FOLDS):
        judged = [group for group in groups if not group.augmented and (group.folds == fold).any()]
        if not judged:
            continue
        kept = [replace(g, x=g.x[g.folds != fold], folds=g.folds[g.folds != fold]) for g in groups]
        gate = _fit(frontal, kept, known, seed)
        for group in judged:
            name = "frontal films elsewhere" if group.kind == FRONTAL else group.kind
            name = "other pictures" if name == OTHER else name
            verdicts.setdefault(name, []).extend(gate.judge(one) for one in group.x[group.folds == fold])
    return {name: _count(found) for name, found in verdicts.items()}


def _measure_unlike(
    frontal: Mapping[str, np.ndarray],
    groups: list[Group],
    known: Mapping[str, np.ndarray],
    test: Mapping[str, np.ndarray],
    seed: int = 0,
) -> dict:
    """How many films a gate that knows one population alone finds unlike, of its own and of each other one.

    By the population that it knows: the share `unfamiliar` of the internal test of each, and for the others `auroc`,
    that of the distance of theirs against its own.
    """
    from sklearn.metrics import roc_auc_score

    found = {}
    for alone in frontal:
        gate = _fit({alone: frontal[alone]}, groups, {alone: known[alone]}, seed)
        verdicts = {name: [gate.judge(one) for one in x] for name, x in test.items()}
        distance = {name: [verdict.distance for verdict in judged] for name, judged in verdicts.items()}
        found[alone] = {
            name: {"n": len(judged), "unfamiliar": float(np.mean([not verdict.familiar for verdict in judged]))}
            for name, judged in verdicts.items()
        }
        for name in test.keys() - {alone}:
            ill = np.repeat([0, 1], [len(distance[alone]), len(distance[name])])
            found[alone][name]["auroc"] = float(roc_auc_score(ill, distance[alone] + distance[name]))
    return found


def _count(verdicts: list[Verdict]) -> dict:
    """Count what the gate does with a group of pictures: shares, and by kind what the refused ones are taken for."""
    refused = [verdict for verdict in verdicts if verdict.refused]
    return {
        "n": len(verdicts),
        "refused": len(refused) / len(verdicts),
        "doubtful": float(np.mean([verdict.doubtful for verdict in verdicts])),
        "unfamiliar": float(np.mean([not verdict.familiar for verdict in verdicts])),
        "taken_for": {
            kind: sum(v.kind == kind for v in refused) for kind in KINDS if any(v.kind == kind for v in refused)
        },
    }
