"""MODEL_CARD.md: what a clinician asks of the model, after Mitchell et al. 2019 (doi 10.1145/3287560.3287596).

Every figure is read from the card, the reports or the benchmarks (SOURCES); here are only the words around them.
`pneumo document` writes it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict

from pneumo.evaluation.faithfulness import sentence
from pneumo.model.card import POINTS, Card
from pneumo.model.heatmap import describe_coverage
from pneumo.reports.document import SOURCES, Measured, measured, points, prevalence, refused, shipped, shortcuts
from pneumo.reports.report import ATTRIBUTION, markdown, subgroups_table, table
from pneumo.training.recipes import RECIPES

NAME = "MODEL_CARD.md"
FROM = ("card", "test", "audit", "audit_test", "sizes", "trial")
PARTS = {"train": "training", "validation": "validation: every choice", "internal_test": "internal test: no choice"}
REPORT, AUDIT, AUDIT_TEST = "reports/internal_test", "reports/audit", "reports/audit_internal_test"
EXPERIMENTS = "[reports/experiments.md](reports/experiments.md)"
NOT_FOR = (
    "Deciding alone. A person who can read chest films looks at every film, whatever the answer.",
    "Advice to patients or parents, or any use where nobody who can read films sees it.",
    "Adults, newborns, and films of a hospital whose own films it has not been evaluated on (`pneumo evaluate DIR "
    "--external`).",
    "Telling which pneumonia it is, how severe, where it lies, or whether a treatment works.",
    "Excluding anything else: NORMAL says that no pneumonia was found, not that the film is normal.",
    "Lateral or oblique films, CT, ultrasound, photographs of a screen; and answers that were forced (`force`).",
)


def model_card() -> str:
    """What MODEL_CARD.md should say now.

    Raises:
        RunError: a measurement lacks what is told; the message names the command that makes it.
    """
    card, test, audit, audit_test, sizes, trial = shipped(), *map(measured, FROM[1:])
    contents = card.contents
    sections = {
        f"Model card: {card.name} {card.version}": _about(card),
        "Intended use": [contents["intended_use"]],
        "What it must not be used for": [f"- {use}" for use in NOT_FOR],
        "Data": _data(contents["data"]),
        "Training": _training(contents, trial),
        "Results on the internal test": _results(card, test),
        "By group": _groups(test),
        "Operating points and triage": _triage(card),
        "Calibration": _calibration(contents, test),
        "What is refused": _refused(card, test),
        "Is the heat map true to the model": _heatmap(card, test),
        "Shortcuts": _audit(audit, audit_test),
        "Known failures": _failures(test, audit, sizes),
        "Limits": [f"- {limit}" for limit in contents["limits"]],
        "Sources and licences": _sources(contents["data"], contents["gate"]["of folders"]),
    }
    title, *others = sections
    lines = [f"# {title}", "", *sections[title]]
    for name in others:
        lines += ["", f"## {name}", "", *sections[name]]
    return "\n".join(lines) + "\n"


def _about(card: Card) -> list[str]:
    contents = card.contents
    size, channels = contents["input"]["size"], contents["input"]["channels"]
    return [
        f"<!-- `pneumo document` writes this file from {', '.join(SOURCES[name][0] for name in FROM)}. -->",
        "",
        "Reads a frontal chest film of a child for pneumonia. VGG-16 with a head that gives a logit for each position; "
        "their mean is the film's logit, and so is that of the heat map, which the same pass gives. "
        f"Input: {size} × {size} × {channels}, {contents['input']['resize']}. "
        f"Served as {contents['precision']} by LiteRT, {contents['files']['served']['bytes'] / 1e6:.1f} MB, SHA-256 "
        f"`{card.sha256}`. The figures are those of the shipped file.",
    ]


def _data(data: Measured) -> list[str]:
    columns = ("n", "NORMAL", "PNEUMONIA", "patients")
    rows = [(words, *(data["parts"][part][name] for name in columns)) for part, words in PARTS.items()]
    films = data["films"]
    return [
        f"{films[0].upper()}{films[1:]}. *{data['title']}*: {data['authors']}, doi {data['doi']}. "
        f"Split: {data['split']}; films that are byte for byte the same stay together.",
        "",
        *markdown(("", "films", *columns[1:]), rows),
        "",
        data["patients"],
        "",
        "The files are copies: squashed to 224 × 224 pixels whatever the film's shape (bicubic), and saved as JPEG of "
        "quality 75. So size and compression tell less of the label here than they would of the originals, which are "
        "other files: their figures differ a little, as *Known failures* has it of some.",
        "",
        "The labels are the data set's. By its description the films are anterior-posterior, those of low quality were "
        "removed first, two physicians graded the others, and a third checked those of the evaluation set alone, of "
        "which none is here (Kermany et al. 2018, doi 10.1016/j.cell.2018.02.010). Nothing here was held against "
        "another truth than that.",
    ]


def _training(contents: Measured, trial: Measured) -> list[str]:
    receipt, agreement = contents["receipt"], contents["agreement"]
    return [
        f"- `{receipt['command']}`: {_hours(receipt['seconds'])} on an {receipt['machine']}, trained "
        f"{', '.join(receipt['trained_layers'])}{_waiting([receipt])}.",
        *_beside_the_recipe(receipt["config"]),
        *_base(receipt["base"]),
        *_size(trial),
        f"- {', '.join(f'{name} {version}' for name, version in receipt['versions'].items())}.",
        f"- The served file against the float model, on the {agreement['n']} films of the internal test: AUC "
        f"{agreement['auc_served']:.4f} against {agreement['auc_float']:.4f}, the same label on "
        f"{100 * agreement['same_label']:.1f} %.",
    ]


def _beside_the_recipe(config: Measured) -> Iterator[str]:
    """In what the training differed from the recipe `vgg16`: what was done against acquisition."""
    plain = json.loads(json.dumps(asdict(RECIPES["vgg16"].config)))  # as a card has it
    other = [f"`{name}` {config[name]}" for name in plain if name in config and config[name] != plain[name]]
    if other:
        yield f"- Beside the recipe `vgg16`: {', '.join(other)}. What they do, and what else was tried: {EXPERIMENTS}."


def _size(trial: Measured) -> Iterator[str]:
    """Why films are not read larger: the base trained on at another size, measured as its receipt has it."""
    ends = [
        f"{size} pixels {end['validation with averaged weights']['loss']:.3f} after {_hours(end['seconds'])}"
        for size, end in trial["stages"].items()
    ]
    told = "normal, bacterial and viral apart"
    yield f"- Size: chosen on validation, where the loss in telling {told} was at {', then at '.join(ends)}."


def _base(receipt: Measured) -> Iterator[str]:
    """The base, and what it was continued from, back to the beginning."""
    if "config" not in receipt:  # not trained here
        yield f"- Base: `{receipt['command']}`."
        return
    stages = [f"{stage['epochs']} epochs at {stage['size']} pixels" for stage in receipt["config"]["stages"]]
    ends = receipt["stages"].values()
    spent = _hours(sum(end["seconds"] for end in ends))
    told = f"{', '.join(stages)}; normal, bacterial and viral told apart{_waiting(ends)}"
    yield f"- Base: `{receipt['command']}`, {spent}: {told}."
    if start := receipt["config"].get("start"):
        yield f"- It went on from the base with SHA-256 `{start['sha256']}`:"
        yield from _base(start["receipt"])


def _waiting(ends: Iterable[Measured]) -> str:
    """What share of their epochs was spent waiting for films, where it was measured."""
    known = [(end["waiting"], end["seconds"]) for end in ends if end.get("waiting") is not None]
    share = sum(waiting * seconds for waiting, seconds in known) / sum(seconds for _, seconds in known) if known else 0
    return f"; {100 * share:.1f} % of the epochs' time spent waiting for films" if known else ""


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.0f} minutes"


def _results(card: Card, test: Measured) -> list[str]:
    counts = test["confusion"]
    return [
        f"{test['n']} films, threshold {test['threshold']:.4f} (`{test['operating_point']}`). Intervals are 95 %: "
        "Wilson's for shares of films, as if all films of one child were alike, else bootstraps by child.",
        "",
        *markdown(("", "value", "95 % interval"), table(test)),
        "",
        f"{counts['fn']} of {counts['fn'] + counts['tp']} pneumonias were missed, {counts['fp']} of "
        f"{counts['fp'] + counts['tn']} normal films called pneumonia.",
        "",
        "These films were used for no choice, but every version of the model was measured on them.",
        "",
        prevalence(card),
    ]


def _groups(test: Measured) -> list[str]:
    rows = subgroups_table(test["subgroups"])
    sized = len(test["subgroups"]["image size"]) > 1
    size = [] if sized else ["", "All these films have one size; for others see the end of *Known failures*."]
    return [*markdown(("", "films", "sensitivity", "specificity"), rows), *size]


def _triage(card: Card) -> list[str]:
    low, *_, high = POINTS
    return [
        f"Below the threshold of `{low}` a film speaks against pneumonia, from that of `{high}` on for it; between "
        "them it is uncertain, else settled. On the internal test:",
        "",
        points(card),
    ]


def _calibration(contents: Measured, test: Measured) -> list[str]:
    calibration, (low, high) = contents["calibration"], test["intervals"]["ece"]
    return [
        f"{calibration['formula']}, slope {calibration['slope']:.4f}, intercept {calibration['intercept']:.4f} "
        f"({calibration['method']}): {calibration['rule']}. ECE on the internal test {test['ece']:.4f} ({low:.4f} to "
        f"{high:.4f}; a draw of the bootstrap adds noise to each bin, so that its ECE is mostly higher).",
        "",
        f"![Mean probability against share of pneumonia in each bin]({REPORT}/reliability.png)",
    ]


def _refused(card: Card, test: Measured) -> list[str]:
    gate = card.contents["gate"]
    taught = ", ".join(f"{n} {kind.replace('_', ' ')}" for kind, n in gate["taught"].items())
    return [
        "What does not look like an upright frontal chest film is not answered unless that is forced. Lateral films "
        "and X-rays of other parts of the body were not measured; there only what a DICOM file says of itself counts. "
        f"Told from features of the same forward pass, taught by {taught}. Rule: {gate['rule']}.",
        "",
        refused(card),
        "",
        f"Of the {test['n']} films behind the results above {len(test['refused'])} would have been refused; they count "
        "there.",
    ]


def _heatmap(card: Card, test: Measured) -> list[str]:
    tested, fitted = test["faithfulness"], card.contents["heatmap"]["attribution"]
    squares = " × ".join(map(str, card.output_shape[1:3]))
    ways = ("strongest", "random", "moved", "more_than_random")
    rows = [(f"{100 * point['share']:.0f} %", *(_drop(point[way]) for way in ways)) for point in tested["curve"]]
    return [
        "The map was fitted to the question that is asked here: in each of "
        f"{fitted['films']} films of the train part, {fitted['sets']} sets of positions were blurred, and a linear "
        "function of what blocks 4 and 5 of the network make of a position was fitted to what that takes off the "
        f"logit. There are {squares} positions, each a square of the film; the picture blurs their edges. A position's "
        f"logit is that function to {fitted['own']:.0%}, else the film's logit, and moved in each film so that the "
        "mean of the map is the film's logit (`pneumo/attribution.py`). Of how sets of one size differ in a film it "
        f"explains {100 * fitted['explained']:.0f} %, in films that were left out: what the "
        "network sees is not the sum of what it sees at each position.",
        "",
        f"{describe_coverage(test['coloured'])} The colours begin and end at the same logits in every film: "
        f"{card.contents['heatmap']['rule']}.",
        "",
        f"{sentence(tested)} What is put there is {tested['replaced_by']}. Whether the map lies on the pneumonia is "
        "another question, and not answered here; nor is how true it is in films that are called wrongly.",
        "",
        "Mean drop of the logit, with 95 % interval:",
        "",
        *markdown(("blurred", "strongest", "random", "the strongest's shape elsewhere", "more than random"), rows),
        "",
        f"![Drop of the logit against the share of the map that is blurred]({REPORT}/deletion.png)",
    ]


def _drop(found: Mapping) -> str:
    low, high = found["intervals"]["logit"]
    return f"{found['logit']:.2f} ({low:.2f} to {high:.2f})".replace("-", "−")


def _audit(audit: Measured, audit_test: Measured) -> list[str]:
    rows = [
        (name, *(f"{found[key]:.3f}" for key in ("auc", "sensitivity", "specificity", "same_label")))
        for name, found in audit["interventions"].items()
    ]
    return [
        shortcuts(audit, audit_test),
        "",
        "The films of validation, changed so that a shortcut is gone, or as films are changed on their way:",
        "",
        *markdown(("", "AUC", "sensitivity", "specificity", "same label"), rows),
    ]


def _failures(test: Measured, audit: Measured, sizes: Measured) -> list[str]:
    worst = []
    for number, name in enumerate(("sensitivity", "specificity"), 2):
        groups = [found for parts in test["subgroups"].values() for found in parts.values()]
        rows = zip(groups, subgroups_table(test["subgroups"]), strict=True)
        _, row = min((pair for pair in rows if pair[0][name] is not None), key=lambda pair: pair[0][name])
        worst.append(f"- The group of lowest {name}: {row[0]}, {row[number]}, {row[1]} films.")
    name, found = min(audit["interventions"].items(), key=lambda item: item[1]["same_label"])
    spans = {key: audit["intervals"][f"{key}_contradicted"] for key in ("sensitivity", "specificity")}
    there = [f"{key} {audit[f'{key}_contradicted']:.3f} ({a:.3f} to {b:.3f})" for key, (a, b) in spans.items()]
    return [
        *worst,
        f"- Films whose acquisition looks like the other label's: {', '.join(there)}.",
        f"- Of the changes above, {name} changes most labels: {100 * (1 - found['same_label']):.1f} %, and leaves a "
        f"specificity of {found['specificity']:.3f}.",
        f"- {sizes['n']} films at their original size against their 224-pixel copies: another label on "
        f"{100 * (1 - sizes['same_label']):.1f} %, the probability up to "
        f"{sizes['largest_probability_difference']:.2f} apart.",
        "",
        "The films of the internal test furthest from their label; below each the regions that raised its probability:",
        "",
        f"![The films furthest from their label]({REPORT}/worst.png)",
        "",
        "Of validation's films whose acquisition contradicts their label, those furthest from it:",
        "",
        f"![Contradicted films furthest from their label]({AUDIT}/contradicted_worst.png)",
        "",
        ATTRIBUTION,
    ]


def _sources(data: Measured, taught: Measured) -> list[str]:
    gated = {
        "frontal films elsewhere": "- Frontal films of adults of another hospital, for the gate: ChestX-ray8, NIH "
        "Clinical Center (Wang et al., CVPR 2017; https://nihcc.app.box.com/v/ChestXray-NIHCC). None is shipped.",
        "other pictures": "- Photographs, for the gate: where they are from was not recorded. None is shipped.",
    }
    return [
        f"- Films, also those shown here: {data['authors']}, doi {data['doi']}, {data['licence']}. The weights were "
        "made from them.",
        *(words for name, words in gated.items() if taught[name]),
        "- VGG-16: Simonyan and Zisserman, arXiv 1409.1556. Code and weights: MIT.",
        f"- The reports: {', '.join(f'[{folder}]({folder}/report.md)' for folder in (REPORT, AUDIT, AUDIT_TEST))}.",
    ]
