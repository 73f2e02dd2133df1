"""Does a film at its original size get the label of its 224-pixel copy?

    .venv/bin/python benchmarks/sizes.py ORIGINALS COPIES

Both folders hold {NORMAL,PNEUMONIA} with the same file names; films of ORIGINALS are looked up in COPIES. Writes
benchmarks/sizes.json; `pneumo document` puts its figures into the README.
"""

import json
import sys
from pathlib import Path

from pneumo import __version__
from pneumo.data.dataset import scan
from pneumo.model.predictor import Predictor

ROOT = Path(__file__).resolve().parent.parent


def main(originals: Path, copies: Path) -> None:
    predictor = Predictor()
    pairs = []
    for example in scan(originals):
        copy = copies / example.label / example.path.name
        pairs.append([predictor.predict(path.read_bytes(), force=True) for path in (example.path, copy)])
    differences = [abs(original.probability - copy.probability) for original, copy in pairs]
    result = {
        "model": {"name": predictor.card.name, "version": predictor.card.version},
        "program": __version__,
        "n": len(pairs),
        "same_label": sum(original.label == copy.label for original, copy in pairs) / len(pairs),
        "mean_probability_difference": sum(differences) / len(pairs),
        "largest_probability_difference": max(differences),
    }
    (ROOT / "benchmarks" / "sizes.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:3]))
