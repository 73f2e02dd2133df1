"""The predictor loads the served model once and turns the bytes of a film into a Prediction."""

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
from pneumo.model.card import TRIAGE, UNFAMILIAR, Card, read_card, sigmoid
from pneumo.model.gate import OTHER, Gate, Verdict, read_gate
from pneumo.model.population import choose, read_row
from pneumo.model.served import Served

SMALL_SIDE = 128  # pixels; a film with a shorter side gets a warning
LONG_SHAPE = 2.0  # a film that is longer than so many times its shorter side gets a warning
UNCERTAIN = TRIAGE[1]
# What the gate's reasons advise the reader to do with a refused film
ADVISED = {
    "upside_down": (lambda pixels: np.rot90(pixels, 2),),
    "sideways": (np.rot90, lambda pixels: np.rot90(pixels, -1)),
    "negative": (np.invert,),
}
CLOSE = 0.4  # log-odds from the threshold: 9 of 10 changes of tone move a child's answer by less, 99 of 100 an adult's
EVEN_GREY = 8  # grey levels; a film whose standard deviation is smaller gets a warning


@dataclass(frozen=True)
class Prediction:
    """The model's answer about one film.

    - `probability`: of pneumonia, 0..1, calibrated. `label`: PNEUMONIA from the `threshold` of `operating_point` on.
    - `triage`: one of `card.TRIAGE`, by the lowest and the highest threshold of all operating points. Whatever
      its probability, a film in doubt is uncertain, and one that is like none of the training films UNFAMILIAR.
    - `population`: the `name` of the population whose numbers these are, and what it was told `by`.
    - `model`: name, version and hash. `image`: format, width and height as sent. `warnings`: sentences for the reader.
    - `distance`: from the films that the model learned from or the site's own; beyond 1 a film is unlike them.
    - `refused`: the gate or the file's header refused the film, and it was read only because of `force`.
    - `logit_map` (h, w) float32, `strengths` (h, w) float32 in 0..1: the heat map before and after scaling.
    - `has_map`: the heat map may be shown, see `Card.has_map`.
    """

    label: str
    probability: float
    threshold: float
    operating_point: str
    triage: str
    population: dict[str, str]
    model: dict[str, str]
    image: dict[str, str | int]
    warnings: list[str]
    distance: float = field(repr=False)
    refused: bool = field(repr=False)
    film: Film = field(repr=False)
    logit_map: np.ndarray = field(repr=False)
    strengths: np.ndarray = field(repr=False)
    has_map: bool = field(repr=False)

    def to_json(self) -> dict:
        """Return the members of `/predict`'s answer, without heat map and request id."""
        hidden = ("distance", "refused", "film", "logit_map", "strengths", "has_map")
        return {key: value for key, value in self.__dict__.items() if key not in hidden}

    def overlay(self) -> Image.Image | None:
        """Draw the regions that raised the probability, clear elsewhere; None where there is no map to show."""
        if not self.has_map:
            return None
        return heatmap.draw_overlay(self.strengths, self.film.width, self.film.height)


class Predictor:
    """The served model of a card, checked and warmed up. Threads may share it; `at_once` films are read in parallel.

    Raises:
        ModelError: a file of the model is missing or damaged, or does not fit the card.
    """

    def __init__(self, card: Card | Path | None = None, threads: int = 2, at_once: int = 1) -> None:
        self.card = card if isinstance(card, Card) else read_card(card, roles=())
        self.gate = read_gate(self.card.read("gate"), self.card.contents.get("gate", {}))
        for population in self.card.populations.values():
            self.gate.with_site(population.site)  # one that does not fit raises here, not at the first film
        self.row = read_row(self.card.read("gate"), tuple(self.card.populations))
        self._served = Served(self.card, threads, at_once)

    def look(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
        """Run one forward pass; see `Served.look`."""
        return self._served.look(pixels)

    def logit_map(self, pixels: np.ndarray) -> np.ndarray:
        """Compute the (h, w) float32 logits of an (H, W) uint8 film."""
        return self.look(pixels)[0]

    def logit(self, pixels: np.ndarray) -> float:
        """Compute the logit of an (H, W) uint8 film of the card's own population."""
        return float(heatmap.pool(self.logit_map(pixels), self.card.sharpness))

    def probability(self, logit: float) -> float:
        """Calibrate a film's logit; see `Card.probability`."""
        return self.card.probability(logit)

    def predict(
        self, data: bytes, operating_point: str | None = None, force: bool = False, population: str | None = None
    ) -> Prediction:
        """Read the bytes of one film, at the card's default operating point unless another is named.

        `force` reads a picture even where the gate or a DICOM header refuses it; the answer then carries a warning.
        `population` says whose film it is, where the file does not tell the age; see `choose`.

        Raises:
            NotChestFilmError: the picture does not look like a frontal chest film, and `force` is off.
            OperatingPointError: the model has no operating point of that name.
            PopulationError: the model knows no population of that name.
            FormatError, TooLargeError, OtherFilmError, UnreadableError: see `images.decode`.
        """
        operating_point = self.card.operating_point(operating_point)
        asked = self.card.check_population(population)
        film = decode(data, self.card.size, force)
        logit_map, features, notes = self.look(film.pixels)
        shares = self.row.shares(features) if self.row else None
        applied = choose(self.card.populations, film.age, asked, shares)
        gate = self.gate.with_site(self.card.populations[applied.name].site)
        verdict = self._check_advice(gate, gate.judge(features), film.pixels)
        if verdict.refused and not force:
            raise NotChestFilmError(f"Expected a frontal chest film, received {verdict.reason}.")
        card = self.card.for_population(applied.name)
        probability = card.probability(float(heatmap.pool(logit_map, card.sharpness)))
        threshold = card.thresholds[operating_point]
        warnings = _warn(film, verdict)
        return Prediction(
            label=LABELS[probability >= threshold],
            probability=probability,
            threshold=threshold,
            operating_point=operating_point,
            triage=_triage(card, probability, verdict, bool(warnings) or film.doubtful or film.refused),
            population={"name": applied.name, "by": applied.by},
            model=card.model,
            image={"format": film.format, "width": film.width, "height": film.height},
            warnings=[*film.warnings, *applied.warnings, *notes, *warnings, *_warn_if_close(probability, threshold)],
            distance=verdict.distance / gate.sure_distance,
            refused=verdict.refused or film.refused,
            film=film,
            logit_map=logit_map,
            strengths=heatmap.to_strengths(logit_map, card.heatmap_floor, card.heatmap_scale),
            has_map=card.has_map,
        )

    def _check_advice(self, gate: Gate, verdict: Verdict, pixels: np.ndarray) -> Verdict:
        """Keep a refusal that advises to turn or invert (H, W) uint8 only where the gate takes the film after that."""
        if not verdict.refused or verdict.kind not in ADVISED:
            return verdict
        changed = (np.ascontiguousarray(change(pixels)) for change in ADVISED[verdict.kind])
        helps = any(not gate.judge(self.look(picture)[1]).refused for picture in changed)
        return verdict if helps else replace(verdict, kind=OTHER)


def _triage(card: Card, probability: float, verdict: Verdict, doubtful: bool) -> str:
    """Tell what the film settles: nothing where it is unlike the training films or in doubt."""
    if not (verdict.familiar or verdict.refused):
        return UNFAMILIAR
    return UNCERTAIN if doubtful else card.triage(probability)


def _warn_if_close(probability: float, threshold: float) -> list[str]:
    """Say that the label hangs on little; whether the film is ruled in or out does not depend on this threshold."""
    low, high = sigmoid(math.log(threshold / (1 - threshold)) + np.array([-CLOSE, CLOSE]))
    if not low < probability < high:
        return []
    return ["The probability is close to the threshold: exposed a little otherwise, this film may get the other label."]


def _warn(film: Film, verdict: Verdict) -> list[str]:
    """List what leaves the answer in doubt: a film with one of these warnings is neither ruled in nor out."""
    warnings = []
    if verdict.refused:
        warnings.append(f"Read only because you asked for it: this is {verdict.reason}. The answer means nothing.")
    elif not verdict.familiar:
        warnings.append(
            "The film is unlike those that the model learned from: thresholds chosen on them do not hold for it, so "
            "nothing is ruled in or out."
        )
    elif verdict.doubtful:
        warnings.append("The picture hardly looks like a frontal chest film. Check it before you trust the answer.")
    if min(film.width, film.height) < SMALL_SIDE:
        warnings.append(f"The picture is small ({film.width} × {film.height} pixels). Fine signs are lost.")
    if max(film.width, film.height) > LONG_SHAPE * min(film.width, film.height):
        warnings.append("The picture is much longer than a chest film. Was it cropped, or joined from two?")
    if film.pixels[::4, ::4].std() < EVEN_GREY:  # every 4th pixel: all of them take an eighth of the network's time
        warnings.append("Nearly all of the picture is one grey. There is hardly anything to read.")
    return warnings
