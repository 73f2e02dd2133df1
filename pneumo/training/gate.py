"""Teach the gate: films as they are and turned, pictures that are no films -> its parameters and limits.

Pictures that are no films are made from films (shuffled tiles, small details), drawn (noise, gradients, text, one
grey) and read from folders, where there are any. The gate learns from all pictures of the folders. What it does with
them is measured by cross-validation: by gates that were taught without a fold of them, no patient on both sides.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pneumo.data.augment import augment
from pneumo.errors import PneumoError
from pneumo.films.images import decode
from pneumo.model.gate import ARRAYS, FRONTAL, KINDS, LIMITS, OTHER, Gate, Verdict

FILMS = 700  # as they are, and as many augmented
TURNED = 300
COMPONENTS = 150
REFUSED_SHARE = 0.003  # of validation's films, by each of the two limits: together below 1 %
DOUBTFUL_SHARE = 0.02
DRAWN = 30  # of each sort
MARGIN = 1.15  # of the largest distance: pictures that are no films lie far beyond, films of other hospitals a little
FOLDER_WEIGHT = 1.5  # of a picture from a folder, since there are fewer of them than films
FOLDS = 4  # of the pictures of each folder, by patient
Pictures = tuple[list[np.ndarray], np.ndarray]  # (H, W) uint8 each, and the fold of each, (n,)
TURNS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], ...]] = {
    "upside_down": (lambda film: film[::-1, ::-1],),
    "sideways": (lambda film: film.T[:, ::-1], lambda film: film.T[::-1]),
    "negative": (lambda film: 255 - film,),
}


def shuffle(film: np.ndarray, tiles: int, rng: np.random.Generator) -> np.ndarray:
    """Cut (S, S) uint8 into tiles × tiles and reorder them: film everywhere, no chest."""
    side = len(film) // tiles
    cut = [film[r * side : (r + 1) * side, c * side : (c + 1) * side] for r in range(tiles) for c in range(tiles)]
    order = rng.permutation(len(cut))
    while (order == np.arange(len(cut))).all():
        order = rng.permutation(len(cut))
    return np.block([[cut[order[r * tiles + c]] for c in range(tiles)] for r in range(tiles)])


def cut_detail(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut a square of a fifth to two fifths of the side out of (S, S) uint8."""
    side = int(rng.integers(len(film) // 5, 2 * len(film) // 5))
    top, left = rng.integers(0, len(film) - side, 2)
    return film[top : top + side, left : left + side]


def draw(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Draw one each of: one grey, even noise, normal noise, clouds, a gradient, a page of text; (H, W) uint8."""
    height, width = rng.integers(150, 500, 2)
    yield np.full((height, width), rng.integers(256), np.uint8)
    yield rng.integers(0, 256, (height, width), np.uint8)
    yield rng.normal(rng.uniform(40, 200), rng.uniform(5, 60), (height, width)).clip(0, 255).astype(np.uint8)
    clouds = rng.normal(128, 50, rng.integers(3, 30, 2)).clip(0, 255).astype(np.uint8)
    yield np.asarray(Image.fromarray(clouds).resize((width, height), Image.Resampling.BICUBIC))
    slopes = rng.uniform(-255, 255, 2)
    gradient = np.add.outer(np.linspace(0, slopes[0], height), np.linspace(0, slopes[1], width))
    yield (gradient - gradient.min()).clip(0, 255).astype(np.uint8)
    dark = bool(rng.integers(2))
    page = Image.new("L", (int(width), int(height)), 0 if dark else 255)
    pen, size = ImageDraw.Draw(page), int(rng.integers(9, 30))
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz0123456789    ,."))
    for y in range(size // 2, int(height) - size, int(1.4 * size)):
        pen.text((size, y), "".join(rng.choice(letters, 80)), fill=255 if dark else 0, font_size=size)
    yield np.asarray(page)


def read_pictures(folder: Path | None) -> Pictures:
    """Read the pictures below `folder` that decode, in the order of their names, and the fold of each.

    All pictures of a patient are in one fold: ChestX-ray8 names films PATIENT_NUMBER. Without a folder there are none.
    """
    found, folds, patients = [], [], {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()) if folder else ():
        try:
            found.append(decode(path.read_bytes()).pixels)
        except PneumoError:
            continue  # a note beside the pictures
        patient = re.fullmatch(r"(\d{8})_\d{3}", path.stem)
        folds.append(patients.setdefault(patient[1] if patient else path, len(patients)) % FOLDS)
    return found, np.array(folds, int)


def teach(
    features: Callable[[np.ndarray], np.ndarray],
    films: Mapping[str, np.ndarray],
    others: Pictures,
    elsewhere: Pictures,
    path: Path,
    seed: int = 0,
) -> dict:
    """Fit the gate, write its arrays to `path`, and return what the card says of it: limits, films, measurements.

    `features` makes (d,) float32 of (H, W) uint8. `films` has (n, S, S) uint8 of each part: train teaches, validation
    sets the limits, the internal test is only measured. `others` are pictures of anything else, `elsewhere` frontal
    films of other hospitals, both from `read_pictures`.
    """

    def seen(group: Iterable[np.ndarray]) -> np.ndarray:
        return np.array([features(np.ascontiguousarray(one)) for one in group], np.float32)

    taught = [(kind, seen(group)) for kind, group in _make_examples(films["train"], seed)]
    known, of_others, of_elsewhere = seen(films["validation"]), seen(others[0]), seen(elsewhere[0])

    def teach_without(fold: int | None) -> Gate:
        """Teach a gate with all but that fold of the folders' pictures."""
        away = of_elsewhere[elsewhere[1] != fold]
        examples = [(kind, x, 1.0) for kind, x in taught]
        examples += [(OTHER, of_others[others[1] != fold], FOLDER_WEIGHT), (FRONTAL, away, FOLDER_WEIGHT)]
        examples = [one for one in examples if len(one[1])]
        return _fit(
            np.concatenate([x for _, x, _ in examples]),
            np.concatenate([np.full(len(x), KINDS.index(kind)) for kind, x, _ in examples]),
            np.concatenate([np.full(len(x), weight) for _, x, weight in examples]),
            known,
            np.concatenate([known, away]) if len(away) else known,
            seed,
        )

    gate = teach_without(None)
    np.savez(path, **{name: getattr(gate, name) for name in ARRAYS})
    left_out = {fold: teach_without(fold) for fold in sorted({*others[1].tolist(), *elsewhere[1].tolist()})}

    folders = ("frontal films elsewhere", "other pictures")
    fresh, test = np.random.default_rng(seed + 1), films["internal_test"]
    drawn = [picture for _ in range(DRAWN) for picture in draw(fresh)]
    verdicts = {"validation": [gate.judge(one) for one in known]}
    verdicts["internal_test"] = [gate.judge(one) for one in seen(test)]
    for name, x, folds in zip(folders, (of_elsewhere, of_others), (elsewhere[1], others[1]), strict=True):
        verdicts[name] = [left_out[fold].judge(one) for one, fold in zip(x, folds.tolist(), strict=True)]
    for name, group in {"drawn pictures": drawn, **{kind: turn(test, kind) for kind in TURNS}}.items():
        verdicts[name] = [gate.judge(one) for one in seen(group)]
    kinds = [*taught, (FRONTAL, of_elsewhere), (OTHER, of_others)]
    return {
        "limits": {name: getattr(gate, name) for name in LIMITS},
        "rule": f"either limit refuses {REFUSED_SHARE:.1%} of validation films and doubts {DOUBTFUL_SHARE:.0%}; the "
        f"distance counts films elsewhere, too, and has a margin of {MARGIN}",
        "taught": {kind: sum(len(x) for name, x in kinds if name == kind) for kind in KINDS},
        "of folders": dict(zip(folders, (len(of_elsewhere), len(of_others)), strict=True)),
        "folds": FOLDS,
        "measured": {name: _count(found) for name, found in verdicts.items() if found},
    }


def _make_examples(train: np.ndarray, seed: int) -> list[tuple[str, Iterable[np.ndarray]]]:
    """Make what teaches the gate from films of the train part (n, S, S) uint8: kind, and (H, W) uint8 each."""
    rng = np.random.default_rng(seed)
    chosen = train[rng.permutation(len(train))[: 2 * FILMS]]
    plain, changed = chosen[::2], augment(chosen[1::2], seed)
    some = np.concatenate([plain[:TURNED], changed[:TURNED]])
    made = [shuffle(film, 2 + 2 * (i % 2), rng) for i, film in enumerate(some[::2])]
    made += [cut_detail(film, rng) for film in some[::2]]
    made += [picture for _ in range(DRAWN) for picture in draw(rng)]
    return [(FRONTAL, plain), (FRONTAL, changed), (OTHER, made), *((kind, turn(some, kind)) for kind in TURNS)]


def _count(verdicts: list[Verdict]) -> dict:
    """Count what the gate does with a group of pictures: shares refused and doubtful, and what they are taken for."""
    refused = [verdict for verdict in verdicts if verdict.refused]
    return {
        "n": len(verdicts),
        "refused": len(refused) / len(verdicts),
        "doubtful": float(np.mean([verdict.doubtful for verdict in verdicts])),
        "taken_for": {kind: sum(v.kind == kind for v in refused) for kind in KINDS[1:]},
    }


def turn(films: Iterable[np.ndarray], kind: str) -> list[np.ndarray]:
    """Turn films as `kind` of TURNS says, its ways in rotation."""
    return [TURNS[kind][i % len(TURNS[kind])](film) for i, film in enumerate(films)]


def _fit(x: np.ndarray, kind: np.ndarray, weight: np.ndarray, known: np.ndarray, near: np.ndarray, seed: int) -> Gate:
    """Fit a gate to features (n, d), their kinds (index into KINDS) and weights; set its limits on `known`.

    `near` are the features of films that must not count as too far away.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    frontal = x[kind == 0]
    # a feature that hardly varies between films must not decide alone
    scale = 1 / np.maximum(frontal.std(axis=0), 0.01)
    centre = frontal.mean(axis=0)
    mix = PCA(min(COMPONENTS, *x.shape), random_state=seed).fit((x - centre) * scale)
    project = mix.components_.T * scale[:, None]  # (d, k)
    fit = LogisticRegression(C=0.01, max_iter=2000).fit((x - centre) @ project, kind, sample_weight=weight)
    spread = PCA(whiten=True).fit((frontal - centre) @ project)
    gate = Gate(
        weights=(project @ fit.coef_.T).astype(np.float32),
        bias=fit.intercept_.astype(np.float32),
        centre=centre.astype(np.float32),
        whitening=(project @ (spread.components_.T / np.sqrt(spread.explained_variance_ + 1e-6))).astype(np.float32),
        **dict.fromkeys(LIMITS, 0.0),
    )
    frontals = [gate.judge(one).frontal for one in known]
    distances = [gate.judge(one).distance for one in near]
    return replace(
        gate,
        least_frontal=float(np.quantile(frontals, REFUSED_SHARE)),
        sure_frontal=float(np.quantile(frontals, DOUBTFUL_SHARE)),
        largest_distance=float(MARGIN * np.quantile(distances, 1 - REFUSED_SHARE)),
        sure_distance=float(np.quantile(distances, 1 - DOUBTFUL_SHARE)),
    )
