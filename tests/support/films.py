"""Sample films, files made of pictures, and a model that a person can compute."""

import dataclasses
import io
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from pneumo.films.film import squash
from pneumo.model.card import Card, find_card, merge_population
from pneumo.model.gate import Gate
from pneumo.model.population import Population, Row
from pneumo.model.predictor import Predictor

SAMPLES = sorted(Path(__file__).resolve().parents[2].joinpath("static", "samples").glob("*.jpeg"))


def saved(image: Image.Image, file_format: str, **options: object) -> bytes:
    """The file that Pillow makes of a picture."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def png(pixels) -> bytes:
    """The PNG of (H, W) uint8."""
    return saved(Image.fromarray(np.ascontiguousarray(pixels)), "PNG")


def write_greys(folder: Path, greys) -> None:
    """Write a film of 64 × 64 pixels of each grey (0 to 255) into `folder`, as 0.png, 1.png …"""
    folder.mkdir(parents=True)
    for number, grey in enumerate(greys):
        Image.new("L", (64, 64), grey).save(folder / f"{number}.png")


def open_gate():
    """A gate of one feature: how little the picture looks like a frontal film; from 0.5 on doubtful, from 1 refused."""
    weights, bias = np.array([[-0.5, 0, 0, 0, 0.5]], np.float32), np.array([0, -50, -50, -50, 0], np.float32)
    least, sure = (1 / (1 + math.exp(x)) for x in (0.999, 0.499))
    kinds = ("frontal", "upside_down", "sideways", "negative", "other")
    return Gate(kinds, weights, bias, np.zeros((1, 1), np.float32), np.ones((1, 1), np.float32), least, sure, 9.0, 9.0)


class MeanGrey(Predictor):
    """Without a network: the probability of pneumonia is the film's mean grey / 255, and the map says so everywhere.

    Rule-out and rule-in point lie half-way from the threshold to 0 and to 1. `unlike` is what its `open_gate` sees.
    """

    unlike = -5.0

    def __init__(self, threshold=0.5):
        contents = merge_population(json.loads(find_card("vgg16-chest-xray").read_text()), "child")
        contents |= {"name": "mean-grey", "version": "1"}
        thresholds = {"screening": threshold / 2, "balanced": threshold, "specific": (1 + threshold) / 2}
        self.card = Card(
            path=Path("mean-grey.json"),
            name="mean-grey",
            version="1",
            size=224,
            steps=(),
            output_shape=(1, 14, 14, 1),
            feature_shapes=(),
            thresholds=thresholds,
            default_operating_point="balanced",
            slope=1.0,
            intercept=0.0,
            heatmap_floor=0.0,
            heatmap_scale=1.0,
            sha256="0" * 64,
            contents=contents,
            population="child",
            populations={"child": Population((1, 5), thresholds, 1.0, 0.0, 0.0, 1.0)},
        )
        self.gate, self.row = open_gate(), None

    def look(self, pixels):
        mean = np.clip(squash(pixels, 224).mean() / 255, 0.001, 0.999)
        return np.full((14, 14), math.log(mean / (1 - mean))), np.array([self.unlike]), ()


class TwoPopulations(MeanGrey):
    """The same for children; for adults one logit less, and all thresholds at 0.75.

    The pixels tell them apart by `unlike`: at -5 a child's film with a share of 0.73, above -4 surely, below -8 surely
    an adult's.
    """

    def __init__(self):
        super().__init__()
        thresholds = dict.fromkeys(("screening", "balanced", "specific"), 0.75)
        adult = Population((18, None), thresholds, 1.0, -1.0, 2.0, 1.0)
        contents = self.card.contents | {"populations": {"child": {}, "adult": {"heatmap": {"floor": 2.0}}}}
        both = {**self.card.populations, "adult": adult}
        self.card = dataclasses.replace(self.card, populations=both, contents=contents)
        self.row = Row(("child", "adult"), np.array([[0, -2]], np.float32), np.array([0, -11], np.float32))
