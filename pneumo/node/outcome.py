"""What became of a film, in the words that its results, the worklist and the audit log share."""

import json
from dataclasses import asdict, dataclass, field

from pneumo.errors import PneumoError
from pneumo.model.card import TRIAGE, UNFAMILIAR, Card
from pneumo.model.predictor import Prediction

REFUSED = "refused"  # in place of a triage
PRESENT, ABSENT, INDETERMINATE = "present", "absent", "indeterminate"
_FINDINGS = {TRIAGE[0]: ABSENT, TRIAGE[2]: PRESENT}  # of what the triage settles; everything else is indeterminate
_UNLIKE = "The film is unlike those that the model learned from: nothing is ruled in or out."


@dataclass(frozen=True)
class Outcome:
    """What the model says about one film, or why it says nothing.

    `model` has the members of `Card.model`; `triage` is the answer's, or REFUSED. `reason` says why the film counts as
    not read; it is None where it was read. `answer` has the members of /predict's answer; it is empty where the film
    was refused.
    """

    model: dict[str, str]
    triage: str
    reason: str | None = None
    answer: dict = field(default_factory=dict)

    @property
    def was_read(self) -> bool:
        """Whether there is an answer that may be shown to a reader."""
        return self.reason is None

    @property
    def finding(self) -> str:
        """Whether pneumonia is PRESENT, ABSENT or INDETERMINATE, by the triage."""
        return _FINDINGS.get(self.triage, INDETERMINATE)

    def to_json(self) -> str:
        """Return it as a JSON object, for the store."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> "Outcome":
        """Return what `to_json` wrote."""
        return cls(**json.loads(text))


def make_outcome(prediction: Prediction) -> Outcome:
    """Say what an answer means here: a film like none of the training films counts as not read."""
    reason = _UNLIKE if prediction.triage == UNFAMILIAR else None
    return Outcome(prediction.model, prediction.triage, reason, prediction.to_json())


def make_refusal(error: PneumoError, card: Card) -> Outcome:
    """Say why a film was not read."""
    return Outcome(card.model, REFUSED, f"{error.title}. {error}")
