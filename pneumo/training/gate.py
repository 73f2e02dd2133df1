"""Teach the gate: films as they are and turned, pictures that are no films -> its parameters and limits.

What is no film is made from films (shuffled tiles, small details), drawn (noise, gradients, text, one grey), and taken
from folders, where there are any. All pictures of the folders teach; they are measured by other gates, each taught
without a part of them, no patient on both sides.
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

FILMS = 700  # plain and as many augmented ones
TURNED = 300
COMPONENTS = 150
REFUSED_SHARE = 0.003  # of validation's films, by each of the two limits: together below 1 %
DOUBTFUL_SHARE = 0.02
DRAWN = 30  # of each sort
MARGIN = 1.15  # what is no film lies far beyond, and films of other hospitals a little
FOLDER_WEIGHT = 1.5  # there are fewer pictures in the folders than films
FOLDS = 4  # of the pictures of each folder, by patient
Pictures = tuple[list[np.ndarray], np.ndarray]  # (H, W) uint8 each, and the fold of each, (n,)
TURNS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], ...]] = {
    "upside_down": (lambda film: film[::-1, ::-1],),
    "sideways": (lambda film: film.T[:, ::-1], lambda film: film.T[::-1]),
    "negative": (lambda film: 255 - film,),
}


def shuffled(film: np.ndarray, tiles: int, rng: np.random.Generator) -> np.ndarray:
    """Cut (S, S) uint8 into tiles × tiles and put them together in another order: film everywhere, no chest."""
    side = len(film) // tiles
    cut = [film[r * side : (r + 1) * side, c * side : (c + 1) * side] for r in range(tiles) for c in range(tiles)]
    order = rng.permutation(len(cut))
    while (order == np.arange(len(cut))).all():
        order = rng.permutation(len(cut))
    return np.block([[cut[order[r * tiles + c]] for c in range(tiles)] for r in range(tiles)])


def detail(film: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Cut a square of a fifth to two fifths of the side out of (S, S) uint8."""
    side = int(rng.integers(len(film) // 5, 2 * len(film) // 5))
    top, left = rng.integers(0, len(film) - side, 2)
    return film[top : top + side, left : left + side]


def drawn(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """One each of: one grey, even noise, normal noise, clouds, a gradient, a page of text; (H, W) uint8."""
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


def pictures(folder: Path | None) -> Pictures:
    """Every picture below `folder` that decodes, in the order of their names, and its fold; none without a folder.

    All of a patient are in one fold: ChestX-ray8 names films PATIENT_NUMBER.
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
    """Fit the gate, write its arrays to `path`, and return what a card says of it: limits, how they came, what they do.

    `features` makes (d,) float32 of (H, W) uint8. `films` has (n, S, S) uint8 of each part: train teaches, validation
    sets the limits, the internal test only measures. `others` are pictures of anything else, `elsewhere` frontal films
    of other hospitals, both of `pictures`.
    """
    rng = np.random.default_rng(seed)
    chosen = films["train"][rng.permutation(len(films["train"]))[: 2 * FILMS]]
    plain, changed = chosen[::2], augment(chosen[1::2], seed)
    some = np.concatenate([plain[:TURNED], changed[:TURNED]])
    made = [shuffled(film, 2 + 2 * (i % 2), rng) for i, film in enumerate(some[::2])]
    made += [detail(film, rng) for film in some[::2]]
    made += [picture for _ in range(DRAWN) for picture in drawn(rng)]

    def seen(group: Iterable[np.ndarray]) -> np.ndarray:
        return np.array([features(np.ascontiguousarray(one)) for one in group], np.float32)

    taught = [(FRONTAL, seen(plain)), (FRONTAL, seen(changed)), (OTHER, seen(made))]
    taught += [(kind, seen(turned(some, kind))) for kind in TURNS]
    known, of_others, of_elsewhere = seen(films["validation"]), seen(others[0]), seen(elsewhere[0])

    def gate_without(fold: int | None) -> Gate:
        """The gate, taught by all but that fold of the folders' pictures."""
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

    gate = gate_without(None)
    np.savez(path, **{name: getattr(gate, name) for name in ARRAYS})
    left_out = {fold: gate_without(fold) for fold in sorted({*others[1].tolist(), *elsewhere[1].tolist()})}

    def refusals(verdicts: list[Verdict]) -> dict:
        refused = [verdict for verdict in verdicts if verdict.refused]
        return {
            "n": len(verdicts),
            "refused": len(refused) / len(verdicts),
            "doubtful": float(np.mean([verdict.doubtful for verdict in verdicts])),
            "taken_for": {kind: sum(v.kind == kind for v in refused) for kind in KINDS[1:]},
        }

    def unseen(x: np.ndarray, folds: np.ndarray) -> list[Verdict]:
        return [left_out[fold].judge(one) for one, fold in zip(x, folds.tolist(), strict=True)]

    fresh, test = np.random.default_rng(seed + 1), films["internal_test"]
    measured = {"internal_test": test, "drawn pictures": [picture for _ in range(DRAWN) for picture in drawn(fresh)]}
    measured |= {kind: turned(test, kind) for kind in TURNS}
    verdicts = {name: [gate.judge(one) for one in seen(group)] for name, group in measured.items()}
    verdicts["validation"] = [gate.judge(one) for one in known]
    verdicts["frontal films elsewhere"] = unseen(of_elsewhere, elsewhere[1])
    verdicts["other pictures"] = unseen(of_others, others[1])
    order = ("validation", "internal_test", "frontal films elsewhere", "other pictures", "drawn pictures", *TURNS)
    return {
        "limits": {name: getattr(gate, name) for name in LIMITS},
        "rule": f"either limit refuses {REFUSED_SHARE:.1%} of validation films and doubts {DOUBTFUL_SHARE:.0%}; the "
        f"distance counts films elsewhere, too, and has a margin of {MARGIN}",
        "taught": {
            kind: sum(len(x) for name, x in taught if name == kind)
            + {FRONTAL: len(of_elsewhere), OTHER: len(of_others)}.get(kind, 0)
            for kind in KINDS
        },
        "of folders": {"frontal films elsewhere": len(of_elsewhere), "other pictures": len(of_others)},
        "folds": FOLDS,
        "measured": {name: refusals(verdicts[name]) for name in order if verdicts[name]},
    }


def turned(films: np.ndarray, kind: str) -> list[np.ndarray]:
    """Films as `kind` of TURNS has them, the ways taking turns."""
    return [TURNS[kind][i % len(TURNS[kind])](film) for i, film in enumerate(films)]


def _fit(x: np.ndarray, kind: np.ndarray, weight: np.ndarray, known: np.ndarray, near: np.ndarray, seed: int) -> Gate:
    """Features (n, d), what they are (index into KINDS) and how much they weigh -> the gate, limits set on `known`.

    `near` are those that must not be too far away.
    """
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression

    frontal = x[kind == 0]
    # a feature that hardly differs between films must not decide alone
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
