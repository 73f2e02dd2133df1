"""Does a label change with the tone of a film, and without a word? Films × gains, gammas, offsets, clipping, few greys.

    python -m benchmarks.tone data/chest_xray/train --part internal_test --json reports/tone.child.json
    python -m benchmarks.tone data/adults_nih --json reports/tone.adult.json

Each film is changed, saved as PNG and read through the whole path. A flip is another label than that of the film as it
is. It is silent without a warning, and ruled where the triage is rule-in or rule-out.
"""

import argparse
import io
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from pneumo.cli.films import each, load
from pneumo.data import dataset
from pneumo.errors import PneumoError
from pneumo.films.images import decode
from pneumo.model.predictor import Prediction, Predictor

Change = Callable[[np.ndarray], np.ndarray]
COUNTED = ("films", "refused", "doubted", "flips", "silent", "ruled")


def changes() -> dict[str, Change]:
    """Every change of tone, by name: (H, W) float in 0..1 -> the same, of any range."""
    found: dict[str, Change] = {}
    for gain in (0.2, 0.25, 0.35, 0.5, 0.6, 0.7, 0.85, 1.2, 1.35, 1.5, 1.75, 2.0):
        found[f"gain {gain}"] = lambda x, gain=gain: x * gain
    for gamma in (0.5, 0.67, 0.8, 1.25, 1.5, 2.0):
        found[f"gamma {gamma}"] = lambda x, gamma=gamma: x**gamma
    for offset in (-0.25, -0.1, 0.1, 0.25):
        found[f"offset {offset:+}"] = lambda x, offset=offset: x + offset
    for share in (2, 5, 10):
        found[f"{share} % clipped at either end"] = lambda x, share=share: _clipped(x, share)
    for bits in (6, 5, 4, 3, 2):
        found[f"{bits} bits"] = lambda x, bits=bits: np.floor(x * (2**bits - 0.001)) / (2**bits - 1)
    found["1 bit"] = lambda x: (x > np.median(x)).astype(float)
    return found


def _clipped(x: np.ndarray, share: float) -> np.ndarray:
    low, high = np.percentile(x, [share, 100 - share])
    return (x - low) / max(high - low, 1 / 255)


def read(predictor: Predictor, pixels: np.ndarray, change: Change | None = None) -> Prediction | None:
    """The answer to (H, W) uint8 after a change, saved as PNG; None where it is refused."""
    if change:
        pixels = np.rint(255 * change(pixels / 255).clip(0, 1)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    try:
        return predictor.predict(buffer.getvalue())
    except PneumoError:
        return None


def measure(predictor: Predictor, films: list[Path]) -> dict[str, dict[str, int]]:
    """Count over the films, for each change, the COUNTED."""
    named = changes()

    def one(film: Path) -> list[np.ndarray]:
        pixels = decode(film.read_bytes(), predictor.card.size).pixels
        plain = read(predictor, pixels)
        return [count(plain, read(predictor, pixels, change)) for change in named.values()] if plain else []

    rows = [row for row in each(one, films) if row]
    return {
        name: dict(zip(COUNTED, np.sum([row[i] for row in rows], axis=0).tolist(), strict=True))
        for i, name in enumerate(named)
    }


def count(plain: Prediction, changed: Prediction | None) -> np.ndarray:
    """What one film adds to the COUNTED."""
    if changed is None:
        return np.array([1, 1, 0, 0, 0, 0])
    flip = changed.label != plain.label
    ruled = changed.triage in ("rule-in", "rule-out")
    doubted = bool(changed.warnings) and not ruled
    return np.array([1, 0, doubted, flip, flip and not changed.warnings, flip and ruled], int)


def main() -> None:
    """Print a line a change, and write all numbers where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder of NORMAL and PNEUMONIA")
    parser.add_argument("--part", help="of Kaggle's train folder: validation or internal_test")
    parser.add_argument("--films", type=int, default=200, help="so many, drawn at random")
    parser.add_argument("--model", help="model of models/, or path of a card")
    parser.add_argument("--steps", nargs="*", help="preprocessing instead of the card's")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    predictor = load(arguments.model)
    if arguments.steps is not None:
        predictor = Predictor(replace(predictor.card, steps=tuple(arguments.steps)), threads=1, at_once=2)
    examples = dataset.scan(arguments.folder)
    if arguments.part:
        examples = dataset.split(examples, dataset.content_hashes(examples))[arguments.part]
    films = random.Random(0).sample([example.path for example in examples], min(arguments.films, len(examples)))
    counted = measure(predictor, films)
    print(f"{'change':<28}" + "".join(f"{name:>9}" for name in COUNTED))
    for name, row in counted.items():
        print(f"{name:<28}" + "".join(f"{row[column]:>9}" for column in COUNTED))
    if arguments.json:
        arguments.json.write_text(json.dumps({"model": predictor.card.model, "changes": counted}, indent=2) + "\n")


if __name__ == "__main__":
    main()
