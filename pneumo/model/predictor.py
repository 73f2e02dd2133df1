"""Load the served model once; bytes of a film -> a Prediction. Knows neither HTTP nor how the model was trained."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image

from pneumo import LABELS
from pneumo.errors import NotChestFilmError
from pneumo.films.film import Film
from pneumo.films.images import decode
from pneumo.model import heatmap
from pneumo.model.card import TRIAGE, Card, read_card
from pneumo.model.gate import OTHER, Verdict, read_gate
from pneumo.model.served import Served

SMALL_SIDE = 128
LONG_SHAPE = 2.0
UNCERTAIN = TRIAGE[1]
# What the gate's reasons advise to do with a refused film
_ADVISED = {
    "upside_down": (lambda pixels: np.rot90(pixels, 2),),
    "sideways": (np.rot90, lambda pixels: np.rot90(pixels, -1)),
    "negative": (np.invert,),
}


@dataclass(frozen=True)
class Prediction:
    """An opinion about one film; `probability` is that of pneumonia, calibrated; `logit_map` (h, w) float32.

    `label` follows from the `threshold` of `operating_point`, `triage` (`card.TRIAGE`) from the lowest and the highest
    of all; but a film that is in doubt is neither ruled in nor out. `refused` is whether it would not have been read
    without `force`.
    """

    label: str
    probability: float
    threshold: float
    operating_point: str
    triage: str
    model: dict[str, str]
    image: dict[str, str | int]
    warnings: list[str]
    refused: bool = field(repr=False)
    film: Film = field(repr=False)
    logit_map: np.ndarray = field(repr=False)
    strengths: np.ndarray = field(repr=False)

    def to_json(self) -> dict:
        """What `/predict` answers, without heat map and request id."""
        hidden = ("refused", "film", "logit_map", "strengths")
        return {key: value for key, value in self.__dict__.items() if key not in hidden}

    def overlay(self) -> Image.Image | None:
        """The regions that raised the probability, clear elsewhere, at the film's aspect ratio; None without a map."""
        if self.logit_map.size == 1:  # see Card.has_map
            return None
        return heatmap.overlay(self.strengths, self.film.width, self.film.height)


class Predictor:
    """The served model of a card, checked and warmed up; several threads may call it, `at_once` in parallel.

    Raises:
        ModelError: the files are not the card's, or their inputs or outputs are not what the card says.
    """

    def __init__(self, card: Card | Path | None = None, threads: int = 2, at_once: int = 1) -> None:
        self.card = card if isinstance(card, Card) else read_card(card, roles=())
        self.gate = read_gate(self.card.read("gate"), self.card.contents.get("gate", {}).get("limits", {}))
        self._served = Served(self.card, threads, at_once)

    def look(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """One forward pass, see `Served.look`."""
        return self._served.look(pixels)

    def logit_map(self, pixels: np.ndarray) -> np.ndarray:
        """(H, W) uint8 -> (h, w) float32 logits, whose mean is the film's logit."""
        return self.look(pixels)[0]

    def probability(self, logit: float) -> float:
        """Calibrated probability of pneumonia of a film's logit."""
        exponent = -(self.card.slope * logit + self.card.intercept)
        return 1 / (1 + math.exp(min(exponent, 700.0)))  # exp(710) would raise

    def predict(self, data: bytes, operating_point: str | None = None, force: bool = False) -> Prediction:
        """Read one film, at the card's default operating point unless another is named.

        With `force` a picture that does not look like a frontal chest film, or a DICOM file that says it is another, is
        answered all the same, with a warning.

        Raises:
            NotChestFilmError: it does not look like one, and there is no `force`.
            OperatingPointError: there is none of that name.
            FormatError, TooLargeError, OtherFilmError, UnreadableError: see `images.decode`.
        """
        operating_point = self.card.operating_point(operating_point)
        threshold = self.card.thresholds[operating_point]
        film = decode(data, self.card.size, force)
        logit_map, features, notes = self.look(film.pixels)
        verdict = self._tried(self.gate.judge(features), film.pixels)
        if verdict.refused and not force:
            raise NotChestFilmError(f"Expected a frontal chest film, received {verdict.reason}.")
        probability = self.probability(float(logit_map.mean()))
        doubts = _doubts(film, verdict)
        return Prediction(
            label=LABELS[probability >= threshold],
            probability=probability,
            threshold=threshold,
            operating_point=operating_point,
            triage=UNCERTAIN if doubts or film.doubtful or film.refused else self.card.triage(probability),
            model=self.card.model,
            image={"format": film.format, "width": film.width, "height": film.height},
            warnings=[*film.warnings, *notes, *doubts],
            refused=verdict.refused or film.refused,
            film=film,
            logit_map=logit_map,
            strengths=heatmap.strength(logit_map, self.card.heatmap_floor, self.card.heatmap_scale),
        )

    def _tried(self, verdict: Verdict, pixels: np.ndarray) -> Verdict:
        """The verdict on (H, W) uint8, as OTHER where a film would be refused after what it advises, too."""
        if not verdict.refused or verdict.kind not in _ADVISED:
            return verdict
        changed = (np.ascontiguousarray(change(pixels)) for change in _ADVISED[verdict.kind])
        helps = any(not self.gate.judge(self.look(picture)[1]).refused for picture in changed)
        return verdict if helps else replace(verdict, kind=OTHER)


def _doubts(film: Film, verdict: Verdict) -> list[str]:
    """What leaves the answer in doubt, besides the film's own warnings: such a film is not ruled in or out."""
    doubts = []
    if verdict.refused:
        doubts.append(f"Read because it was asked for: this is {verdict.reason}. The answer means nothing.")
    elif verdict.doubtful:
        doubts.append("The picture hardly looks like a frontal chest film: look at it before you trust the answer.")
    if min(film.width, film.height) < SMALL_SIDE:
        doubts.append(f"The picture is small ({film.width} × {film.height} pixels): fine signs are lost.")
    if max(film.width, film.height) > LONG_SHAPE * min(film.width, film.height):
        doubts.append("The picture is much longer than a chest film: is it cut or joined?")
    if film.pixels[::4, ::4].std() < 8:  # of all pixels it would take as long as an eighth of the network
        doubts.append("The picture is almost of one grey: there is hardly anything to read.")
    return doubts
