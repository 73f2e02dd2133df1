"""Figures in the README come from here: from the card, the measurements and the golden predictions, never by hand.

`pneumo document` rewrites what stands between `<!-- NAME -->` and `<!-- /NAME -->`, and all of MODEL_CARD.md
(`model_card`); with `--check` it only compares.
"""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

from pneumo.errors import RunError
from pneumo.films.images import decode
from pneumo.model.card import MODELS, Card, read_card
from pneumo.reports.audit_report import deciding
from pneumo.reports.report import markdown

ROOT = MODELS.parent
SAMPLE = "static/samples/person1084_bacteria_3024.jpeg"
SOURCES = {  # what is measured, where it is kept, and the command that measures it again
    "card": ("models/vgg16-chest-xray.json", "pneumo train"),
    "test": (
        "reports/internal_test/metrics.json",
        "pneumo evaluate data/chest_xray/train --part internal_test --report reports/internal_test",
    ),
    "audit": (
        "reports/audit/metrics.json",
        "pneumo audit data/chest_xray/train --part validation --report reports/audit",
    ),
    "audit_test": (
        "reports/audit_internal_test/metrics.json",
        "pneumo audit data/chest_xray/train --part internal_test --report reports/audit_internal_test",
    ),
    "serving": ("benchmarks/serving.json", "make benchmark"),
    "sizes": ("benchmarks/sizes.json", "python benchmarks/sizes.py ORIGINALS COPIES"),
    "comparison": ("reports/comparison.json", "pneumo compare"),
    "trial": (
        "reports/input_size.json",
        "pneumo pretrain --start BASE, with Stage(224, 2, 1e-4, acquisition=0.5) after the stage pretraining.CONTINUED",
    ),
}
# What the gate was measured on, and what of the same sort taught it; `{}` is how many
_GATED = {
    "validation": ("films of validation", "nothing; they set the limits"),
    "internal_test": ("films of the internal test", "nothing"),
    "frontal films elsewhere": (
        "frontal films of adults elsewhere",
        "all; measured by gates taught without them",
    ),
    "other pictures": ("photographs", "all; measured by gates taught without them"),
    "drawn pictures": ("one grey, noise, gradients, text", "others, drawn alike"),
    "upside_down": ("internal test, upside down", "{} films of train"),
    "sideways": ("internal test, on its side", "{} films of train"),
    "negative": ("internal test, negative", "{} films of train"),
}
RARER = (0.3, 0.1, 0.05)  # shares of films with pneumonia
_ROWS = {
    "auc": "AUC",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "accuracy": "Accuracy",
    "precision": "Precision (positive predictive value)",
    "f1": "F1",
    "brier": "Brier score",
    "ece": "ECE",
}


def results(card: Card, sizes: dict) -> str:
    """Table of the internal test, its counts, and how served and float model, and large and small films, agree."""
    test, agreement = card.contents["metrics"]["internal_test"], card.contents["agreement"]
    part = card.contents["data"]["parts"]["internal_test"]
    confusion = test["confusion"]
    lines = [
        f"Model {card.name} {card.version}; internal test: {test['n']} films of {part['patients']} children "
        f"({part['NORMAL']} NORMAL, {part['PNEUMONIA']} PNEUMONIA), threshold {card.threshold:.4f}.",
        "",
    ]
    spans = {key: "{:.3f} to {:.3f}".format(*test["intervals"][key]) for key in _ROWS}
    lines += markdown(("", "value", "95 % interval"), [(n, f"{test[k]:.3f}", spans[k]) for k, n in _ROWS.items()])
    lines += [
        "",
        f"{confusion['fn']} of {confusion['fn'] + confusion['tp']} pneumonias were missed, "
        f"{confusion['fp']} of {confusion['fp'] + confusion['tn']} normal films called pneumonia. "
        f"The served {card.contents['precision']} file against the float Keras model, on the same films: AUC "
        f"{agreement['auc_served']:.4f} against {agreement['auc_float']:.4f}, the same label on "
        f"{100 * agreement['same_label']:.1f} %. "
        f"{sizes['n']} films at their original size against their 224-pixel copies: the same label on "
        f"{100 * sizes['same_label']:.1f} %.",
    ]
    return "\n".join(lines)


def prevalence(card: Card) -> str:
    """What the labels are worth where pneumonia is rarer: Bayes' rule on sensitivity and specificity."""
    test, part = card.contents["metrics"]["internal_test"], card.contents["data"]["parts"]["internal_test"]
    rates = [[test[key], *test["intervals"][key]] for key in ("sensitivity", "specificity")]
    here = part["PNEUMONIA"] / part["n"]
    rows = []
    for share in (here, *RARER):
        cells = []
        for digits, of in ((0, worth_of_pneumonia), (1, share_missed)):
            value, *ends = (100 * of(share, *pair) for pair in zip(*rates, strict=True))
            low, high = sorted(ends)
            cells.append(f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})")
        rows.append((f"{100 * share:.0f} in 100{' (these films)' if share == here else ''}", *cells))
    heads = ("films with pneumonia", "of 100 called PNEUMONIA have one", "of 100 called NORMAL have one")
    return "\n".join(
        [
            f"{100 * here:.0f} of 100 films here show a pneumonia. The probability, precision, accuracy and the share "
            "of wrong calls are those of such films. Elsewhere, if sensitivity and specificity were the same there, "
            "which nothing shows (in brackets, if both lay at the lower or at the upper end of their intervals):",
            "",
            *markdown(heads, rows),
        ]
    )


def worth_of_pneumonia(share: float, sensitivity: float, specificity: float) -> float:
    """Share of pneumonias among films called PNEUMONIA where `share` of all films show one: Bayes' rule."""
    right = share * sensitivity
    return right / (right + (1 - share) * (1 - specificity))


def share_missed(share: float, sensitivity: float, specificity: float) -> float:
    """Share of pneumonias among films called NORMAL where `share` of all films show one: Bayes' rule."""
    wrong = share * (1 - sensitivity)
    return wrong / (wrong + (1 - share) * specificity)


def points(card: Card) -> str:
    """Table of the operating points on the internal test, and what calling films uncertain gains there."""
    rows = []
    for name, point in card.contents["operating_points"].items():
        test = point["internal_test"]
        cells = []
        for key in ("sensitivity", "specificity"):
            low, high = test["intervals"][key]
            cells.append(f"{test[key]:.3f} ({low:.3f} to {high:.3f})")
        default = ", the default" if name == card.default_operating_point else ""
        rows.append((f"`{name}`{default}", f"{point['threshold']:.4f}", point["rule"], *cells))
    lines = markdown(("", "threshold", "chosen as", "sensitivity", "specificity"), rows)
    triage, calibration = card.contents["triage"]["internal_test"], card.contents["calibration"]
    percent = {}
    for name in ("uncertain", "settled_error", "error"):
        low, high = triage["intervals"][name]
        percent[name] = f"{100 * triage[name]:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    brier = ", ".join(f"{name} {value:.4f}" for name, value in calibration["brier"].items() if value is not None)
    lines += [
        "",
        f"{percent['uncertain']} of the films are uncertain. Of the others {percent['settled_error']} are called "
        f"wrongly, against {percent['error']} of all films at `{card.default_operating_point}`; their sensitivity is "
        f"{triage['settled_sensitivity']:.3f}, their specificity {triage['settled_specificity']:.3f}. "
        + _open_films(card),
        "",
        f"Calibration: {calibration['method']}; Brier scores on validation, on patients left out of the fit: {brier}.",
    ]
    return "\n".join(lines)


def _open_films(card: Card) -> str:
    """How many of the uncertain films the default operating point labels, as what, and what they are."""
    of = card.contents["triage"]["internal_test"]["films"]["uncertain"]
    count, label = sum(of.values()), {card.rule_in: "NORMAL", card.rule_out: "PNEUMONIA"}.get(card.threshold)
    if not label or not count:
        return ""
    return (
        f"At `{card.default_operating_point}` every uncertain film has the label {label}: of the {count} here "
        f"{of['PNEUMONIA']} are pneumonias. Read the triage beside the label."
    )


def shortcuts(audit: dict, test: dict) -> str:
    """What acquisition alone tells of the labels, and what the model does where it says nothing or the opposite.

    `audit` is of validation, `test` of the internal test.
    """
    return (
        f"{audit['acquisition']['verdict']} The model, on the same {audit['n']} films of validation: {_misled(audit)} "
        f"Few films contradict their acquisition. {' '.join(deciding(audit))}\n\n"
        "By these figures of validation the model was chosen among others, so they flatter it. On the "
        f"{test['n']} films of the internal test: {_misled(test)} {' '.join(deciding(test))}"
    )


def _misled(audit: dict) -> str:
    values = {
        name: f"{audit[name]:.3f} ({span[0]:.3f} to {span[1]:.3f})" for name, span in audit["intervals"].items() if span
    }
    explained = [
        f"{100 * audit[name]:.0f} % ({100 * low:.0f} to {100 * high:.0f})"
        for name in ("explained_normal", "explained_pneumonia")
        for low, high in [audit["intervals"][name]]
    ]
    return (
        f"AUC {values['auc']}; {values['auc_contradicted']} on films whose acquisition looks most like the other "
        f"label's; {values['auc_matched']} weighted so that acquisition says nothing. A straight line in the score of "
        f"acquisition explains {explained[0]} of the variance of the model's logit among normals, {explained[1]} among "
        "pneumonias."
    )


def refused(card: Card) -> str:
    """Table of what share of which pictures the gate refuses and doubts, with what taught it."""
    from scipy.stats import binomtest

    gate = card.contents["gate"]
    taught = gate["taught"] | gate["of folders"]
    rows = []
    for name, found in gate["measured"].items():
        words, source = _GATED.get(name, (name, "others" if name in taught else "nothing"))
        n, share = found["n"], found["refused"]
        span = binomtest(round(share * n), n).proportion_ci(method="wilson")
        doubtful = found["doubtful"] - share  # the limits of doubt are the narrower ones: what is refused is doubtful
        cells = (
            words,
            n,
            _percent(share),
            f"{_percent(span.low)} to {_percent(span.high)}",
            _percent(max(0, doubtful)),
        )
        rows.append((*cells, source.format(taught.get(name))))
    heads = ("", "n", "refused", "95 % interval, each picture by itself", "answered with a doubt", "what taught it")
    return "\n".join(markdown(heads, rows))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def speed(benchmark: dict) -> str:
    """Table of what a served prediction costs beside the bare invocation, and what of it holds under load."""
    ours, naive = (next(one for one in benchmark["load"][name] if one["clients"] == 8) for name in ("pneumo", "naive"))
    ratio, targets = benchmark["ratio_to_bare"], benchmark["targets"]
    rows = [(name, value, f"{ratio[name]:.2f}") for name, value in benchmark["median_ms"].items()]
    lines = [
        f"Medians of one run on {benchmark['machine']}:",
        "",
        *markdown(("", "ms", "times bare"), rows),
        "",
        f"Eight clients get {ours['films_a_second']} films a second, 95 % of them within {ours['p95_ms']} ms; from the "
        f"naive server (Flask, Keras, float32), {naive['films_a_second']} and {naive['p95_ms']} ms. Ready "
        f"{benchmark['ready_seconds']} s after the start, a first answer after "
        f"{benchmark['first_answer_seconds']['pneumo']['median']} s; a worker holds "
        f"{benchmark['worker_resident_mb']} MB. Of {targets['of']} targets {targets['missed']} are missed: "
        "[benchmarks](benchmarks/README.md).",
    ]
    return "\n".join(lines)


def answer(card: Card, golden: list[dict]) -> str:
    """The curl line and the answer to it, the probability being the golden one: processors differ a little."""
    row = next(row for row in golden if row["file"] == SAMPLE)
    film = decode((ROOT / SAMPLE).read_bytes())
    body = {
        "label": row["label"],
        "probability": float(row["probability"]),
        "threshold": card.threshold,
        "operating_point": card.default_operating_point,
        "triage": card.triage(float(row["probability"])),
        "model": card.model,
        "image": {"format": film.format, "width": film.width, "height": film.height},
        "warnings": [],
        "request_id": "…",
    }
    shown = json.dumps(body, indent=2, ensure_ascii=False)
    return f"```sh\ncurl -F file=@{SAMPLE} http://localhost:5000/predict\n```\n\n```json\n{shown}\n```"


def recipes(comparison: dict) -> str:
    """Table of what the recipes reach on the internal test, and what a film costs."""
    rows = []
    for name, row in comparison.items():
        test = row["internal_test"]
        not_kept = f" ({row['last_block'].partition(':')[0]})" if "not kept" in row["last_block"] else ""
        cells = (
            f"`{name}`: {row['about']}{not_kept}",
            *(f"{test[key]:.3f}" for key in ("auc", "sensitivity", "specificity", "loss")),
            f"{row['parameters'] / 1e6:.1f}",
            f"{row['milliseconds']:.0f}",
        )
        rows.append(cells)
    heads = ("recipe", "AUC", "sensitivity", "specificity", "loss", "million parameters", "ms a film")
    return "\n".join(markdown(heads, rows))


def fill(text: str, sections: dict[str, str]) -> str:
    """Put every section between its marks.

    Raises:
        ValueError: a mark is missing.
    """
    for name, section in sections.items():
        pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        text, found = pattern.subn(lambda m, s=section: f"{m[1]}{s}\n{m[2]}", text)
        if found != 1:
            raise ValueError(f"Expected one pair of <!-- {name} --> marks, found {found}.")
    return text


class Measured(dict):
    """What a JSON file says; asked for what it does not have, it names the command that writes it."""

    source, command = "", ""

    def __missing__(self, key: str) -> None:
        """Raise RunError: an older version wrote the file."""
        raise RunError(f"Expected {key!r} in {self.source}, found none: run `{self.command}`.")


def measured(name: str, root: Path = ROOT) -> Measured:
    """Read one of SOURCES below `root`.

    Raises:
        RunError: there is no such file. So does what is returned when it is asked for what it does not have.
    """
    file, command = SOURCES[name]
    kind = type("Measured", (Measured,), {"source": file, "command": command})
    try:
        text = (root / file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RunError(f"Expected {file}, found none: run `{command}`.") from None
    return json.loads(text, object_hook=kind)


def shipped() -> Card:
    """The shipped model's card, its contents as `measured`."""
    return replace(read_card(ROOT / SOURCES["card"][0]), contents=measured("card"))


def documented(path: Path) -> str:
    """What `path` (the README) should say now.

    Raises:
        RunError: a measurement lacks what is told; the message names the command that makes it.
    """
    card = shipped()
    with (ROOT / "tests" / "golden.csv").open(newline="") as stream:
        golden = list(csv.DictReader(stream))
    sections = {
        "answer": answer(card, golden),
        "results": results(card, measured("sizes")),
        "prevalence": prevalence(card),
        "refused": refused(card),
        "points": points(card),
        "audit": shortcuts(measured("audit"), measured("audit_test")),
        "speed": speed(measured("serving")),
        "recipes": recipes(measured("comparison")),
    }
    return fill(path.read_text(encoding="utf-8"), sections)
