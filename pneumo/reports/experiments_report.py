"""Experiments' JSON -> reports/experiments.md: every run, and what it changed on the same films. Trains nothing."""

import json
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pneumo.data.acquisition import EVERYDAY
from pneumo.errors import RunError
from pneumo.evaluation.audit import contradicted, decisive, matched
from pneumo.evaluation.faithfulness import TOLD
from pneumo.evaluation.metrics import bootstrap, measure, summary
from pneumo.model.card import MODELS, read_card, sigmoid
from pneumo.reports.report import BLUE, GREY, VERMILLION, markdown
from pneumo.training.experiments import FILMS
from pneumo.training.recipes import CHOSEN, IDEAS, PLAIN, find_idea, kept_block

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MASKED = "corners and borders masked"
COMPARED = {"auc": "AUC", "auc_contradicted": "AUC, contradicted", "auc_matched": "AUC, matched"}
SHORT = {"auc": "plain", "auc_contradicted": "contradicted", "auc_matched": "matched"}  # of COMPARED
FIGURES = (*COMPARED, "explained_normal", "explained_pneumonia", "sensitivity", "specificity")
WANTED = {"auc": 0.995, "auc_contradicted": 0.992, "auc_matched": 0.99, "explained": 0.15, "same_label": 0.97}


def write_page(folder: Path, out: Path) -> Path:
    """Write `out`/experiments.md and its figure from the runs in `folder`; returns the page's path.

    What people read out of the runs lies beside them, in `folder`/lessons.md, if anywhere.

    Raises:
        RunError: there is no run, or one of other films than those that are known there.
    """
    films = folder / FILMS
    found = {p: json.loads(p.read_text(encoding="utf-8")) for p in sorted(folder.glob("*.json")) if p != films}
    if not found:
        raise RunError(f"Expected runs in {folder}, found none: run `pneumo experiment NAME` first.")
    parts = json.loads(films.read_text(encoding="utf-8"))
    known = parts["validation"]
    for path, run in found.items():  # the first ones do not tell
        of = run.get("films", parts["fingerprint"])
        if of != parts["fingerprint"] or len(run["validation"]["logit"]) != len(known["target"]):
            raise RunError(f"{path} is of other films than {films}.")
    runs = found.values()
    groups = defaultdict(list)  # (base, idea) -> a run a seed
    order = list(IDEAS)
    for run in sorted(runs, key=lambda run: ([order.index(one) for one in run["idea"].split(" + ")], run["seed"])):
        groups[run["base"]["sha256"][:8], run["idea"]].append(run)
    of_base = defaultdict(int)
    for (base, _), group in groups.items():
        of_base[base] += len(group)
    bases = sorted(of_base, key=of_base.get, reverse=True)
    draws = {key: _draws([run["validation"]["logit"] for run in of], known) for key, of in groups.items()}
    against = {
        key: {name: summary(values[name] - draws[key[0], PLAIN][name]) for name in COMPARED}
        for key, values in draws.items()
        if key[1] != PLAIN and (key[0], PLAIN) in draws
    }
    picture = out / "experiments.png"
    _forest({key: against[key] for key in groups if key in against}, bases).savefig(picture, dpi=110)
    path = out / "experiments.md"
    lessons = folder / "lessons.md"
    read = lessons.read_text(encoding="utf-8").strip() if lessons.is_file() else ""
    path.write_text("\n".join(_page(groups, bases, against, draws, parts, read)) + "\n", encoding="utf-8")
    return path


def command(run: dict) -> str:
    """What makes a run again: without a base it would be one of the reader's own, had `pneumo pretrain` made one."""
    shipped, base = read_card(roles=()).contents["files"]["base"], run["base"]["sha256"]
    name = f"{MODELS.name}/{shipped['file']}" if base == shipped["sha256"] else f"{base[:8]}.npz"
    return f'pneumo experiment "{run["idea"]}" --seed {run["seed"]} --base {name}'


def _shipped_base() -> str:
    return read_card(roles=()).contents["files"]["base"]["sha256"]


def _start(receipt: dict) -> str:
    """Which base was gone on from, since a file's name does not tell."""
    start = receipt["config"].get("start")
    return f", from base `{start['sha256'][:8]}`" if start else ""


def _draws(logits: list[list[float]], known: dict) -> dict[str, np.ndarray]:
    """COMPARED of validation and of its bootstrap draws by child, mean over the seeds: (1 + draws,) each."""
    target, score = np.array(known["target"]), np.array(known["score"])
    times = bootstrap(known["child"])
    weights = {
        "auc": times,
        "auc_contradicted": times * contradicted(target, score),
        "auc_matched": matched(target, score, times),
    }
    return {
        name: np.mean([measure(target, sigmoid(np.array(logit)), 0.5, of)[0]["auc"] for logit in logits], axis=0)
        for name, of in weights.items()
    }


def _costliest(runs: list[dict], known: dict, count: int = 3) -> list[tuple[str, str]]:
    """The contradicted films in most pairs of the wrong order, and the share of those pairs, mean over the runs."""
    target, against = np.array(known["target"]), contradicted(np.array(known["target"]), np.array(known["score"]))
    normals, pneumonias = (np.flatnonzero(against & (target == label)) for label in (0, 1))
    shares = np.zeros(len(target))
    for run in runs:
        logit = np.array(run["validation"]["logit"])
        wrong = logit[normals][:, None] > logit[pneumonias][None, :]
        shares[normals] += wrong.sum(axis=1) / max(1, wrong.sum()) / len(runs)
        shares[pneumonias] += wrong.sum(axis=0) / max(1, wrong.sum()) / len(runs)
    return [(f"`{known['file'][i]}`", f"{shares[i]:.0%}") for i in np.argsort(-shares)[:count]]


def _without_one(group: list[dict], part: str, known: dict) -> dict[str, tuple[str, str, str]]:
    """By figure: its mean over the runs, the same without the child who decides most, and that child's films."""
    target, score = np.array(known["target"]), np.array(known["score"])
    against = contradicted(target, score)
    found = [decisive(target, score, known["child"], sigmoid(np.array(run[part]["logit"])), against) for run in group]
    cells = {}
    for name in found[0]:
        if all(one[name] for one in found):
            films = {", ".join(f"`{known['file'][i]}`" for i in one[name]["films"]): None for one in found}
            without = np.mean([one[name]["without"] for one in found])
            cells[name] = _spread(group, name, part), f"{without:.4f}", " or ".join(films)
    return cells


def _forest(against: dict[tuple, dict], bases: list[str]) -> "Figure":
    """Differences to the recipe as it is, with their intervals."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 1.2 + 0.28 * max(1, len(against))), layout="constrained")
    panels = figure.subplots(1, len(COMPARED), sharey=True)
    names = [f"{idea}{', ' + base if base != bases[0] else ''}" for base, idea in against]
    for axes, (measured, title) in zip(panels, COMPARED.items(), strict=True):
        for y, found in enumerate(against.values()):
            value, span = found[measured]
            if span is None:
                continue
            low, high = span
            colour = BLUE if low > 0 else VERMILLION if high < 0 else GREY
            axes.plot([low, high], [y, y], "-", color=colour)
            axes.plot(value, y, "o", color=colour)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set(title=title, yticks=range(len(names)), yticklabels=names, xlabel="against the recipe as it is")
        axes.tick_params(labelsize=8)
        axes.locator_params(axis="x", nbins=4)  # more numbers than that run into each other
        axes.grid(axis="x", color="#dddddd", linewidth=0.5)
    if names:
        panels[0].invert_yaxis()
    return figure


def _page(groups: dict, bases: list[str], against: dict, draws: dict, parts: dict, lessons: str) -> list[str]:
    known = parts["validation"]
    lines = [
        "# What was tried against the shortcuts",
        "",
        "Written by `pneumo experiment` from the JSON of every run in `reports/experiments`. Each idea changes the "
        "recipe `vgg16`, on the same films and the same frozen blocks, and is measured on the "
        f"{len(known['file'])} films of validation with the float network; calibration and threshold are chosen there "
        "by the shipped rules. "
        "Contradicted are the films whose acquisition looks most like the other label's, matched are films weighted so "
        "that acquisition says nothing, explained is the share of the variance of the logit within a class that "
        "acquisition explains ([the audit](audit/report.md)). Where several seeds ran, figures are mean ± standard "
        "deviation. The seeds change the head's first weights, the order of the films and dropout; the base and the "
        f"augmented views stay. Shipped is `{CHOSEN}`.",
        "",
        f"Wanted: AUC {WANTED['auc']}, contradicted {WANTED['auc_contradicted']}, matched {WANTED['auc_matched']}, "
        f"explained at most {WANTED['explained']}, the same label of {WANTED['same_label']:.0%} of films after "
        "everyday changes.",
        *(["", "## What helped, and what did not", "", lessons] if lessons else []),
    ]
    for base in bases:
        receipt = next(group for (b, _), group in groups.items() if b == base)[0]["base"]["receipt"]
        lines += [
            "",
            f"## On base `{base}`" + (", the shipped one" if _shipped_base().startswith(base) else ""),
            "",
            f"`{receipt['command']}`{_start(receipt)}; {_seconds(receipt) / 3600:.1f} h of training, with all that it "
            "goes on from.",
            "",
            *markdown(
                (
                    *("Idea", "Seeds", "AUC", "Contradicted", "Matched", "Explained, NORMAL", "Explained, PNEUMONIA"),
                    *("Sensitivity", "Specificity", "AUC masked", "Specificity masked", "Least same label", "Map"),
                    "Minutes",
                ),
                [(f"`{idea}`", *_row(group)) for (b, idea), group in groups.items() if b == base],
            ),
        ]
    lines += [
        "",
        "Masked are corners and borders of every film. The least same label is that of the everyday change that moves "
        f"most labels. Map is by how much blurring the strongest {TOLD:.0%} of the head's logits lowers the film's "
        "more than blurring as many random positions (`pneumo/faithfulness.py`), of the runs in which it was measured: "
        "above 0, they lie where what matters to the network does. The map that is served is fitted afterwards and not "
        "tested here. Minutes are those of the epochs of the quickest seed on "
        "the machine it ran on, without the features of the frozen blocks.",
        "",
        "## What it changed",
        "",
        "Difference to the recipe as it is on the same base, by pairs, with 95 % intervals from films drawn by child.",
        "",
        *markdown(
            ("Idea", "What", "Base", *COMPARED.values(), "These films show"),
            [
                (
                    f"`{idea}`",
                    find_idea(idea).about,
                    f"`{base}`",
                    *(_difference(*one) for one in found.values()),
                    _verdict(found),
                )
                for (base, idea), found in against.items()
            ],
        ),
        "",
        "Plain is the AUC of all films; undecided: the interval holds 0. None is corrected for there being "
        f"{len(COMPARED) * len(against)} of them, and none holds what another seed would have changed. Of runs that "
        "were chosen by another loss than the recipe as it is (the last table says which), part of the "
        "difference is that.",
        *(["", _mixed(groups, against)] if against else []),
        "",
        "![Differences of the ideas to the recipe as it is, with intervals](experiments.png)",
    ]
    if both := [key for key in draws if key[0] != bases[0] and (bases[0], key[1]) in draws]:
        lines += ["", "The same idea on another base:", ""]
        lines += [
            f"- `{idea}` on `{base}` against `{bases[0]}`, AUC: "
            + ", ".join(
                f"{words} {_difference(*summary(draws[base, idea][name] - draws[bases[0], idea][name]))}"
                for name, words in SHORT.items()
            )
            for base, idea in both
        ]
    lines += [
        "",
        "## The films that cost most",
        "",
        "Of the pairs of a contradicted normal and a contradicted pneumonia in the wrong order, the share that a "
        "film is in, mean over all runs.",
        "",
        *markdown(("Film", "Pairs"), _costliest([run for group in groups.values() for run in group], known)),
    ]
    tested = {key: group for key, group in groups.items() if all("internal_test" in run for run in group)}
    if tested:
        lines += [
            "",
            "## Internal test, of what was chosen",
            "",
            *markdown(
                ("Idea", "Base", "Seeds", *COMPARED.values(), "Explained, NORMAL", "Explained, PNEUMONIA"),
                [
                    (
                        f"`{idea}`",
                        f"`{base}`",
                        str(len(group)),
                        *(_spread(group, f, "internal_test") for f in FIGURES[:5]),
                    )
                    for (base, idea), group in tested.items()
                ],
            ),
            "",
            "## What one child decides",
            "",
            "Of the same runs: a figure, and what it is without the child whose absence changes it most, mean over the "
            "seeds. A wanted figure that one film can move by more than all ideas together is reached or missed by "
            "that film.",
            "",
            *markdown(
                ("Idea", "Base", "Part", "Figure", "Value", "Without", "The child's films"),
                [
                    (f"`{idea}`", f"`{base}`", part.replace("_", " "), COMPARED[name], *cells)
                    for (base, idea), group in tested.items()
                    for part in ("validation", "internal_test")
                    for name, cells in _without_one(group, part, parts[part]).items()
                ],
            ),
        ]
    lines += _untried({idea for _, idea in groups})
    return [
        *lines,
        "",
        "## Every run",
        "",
        "Of each phase the epoch, and of both phases the better one, is chosen by the loss on validation: of the "
        "logits as they are (`val_loss`), or once they are calibrated (`val_calibrated`), as now. Where "
        "the better phase is that of the top alone, the last block is not kept. Where a command names a base: of all "
        "bases only the shipped one is in the repository, and how the others were made stands above.",
        "",
        *markdown(
            (
                "Command",
                "Base",
                "Seconds",
                "Chosen by",
                "Last block",
                *COMPARED.values(),
                "Explained, NORMAL",
                "Explained, PNEUMONIA",
            ),
            [
                (
                    f"`{command(run)}`",
                    f"`{base}`",
                    str(run["seconds"]),
                    f"`{run.get('chosen_by', 'val_loss')}`",
                    "not tuned" if "tune" not in run["epochs"] else "kept" if kept_block(run["kept"]) else "not kept",
                    *(_spread([run], name) for name in FIGURES[:5]),
                )
                for (base, _), group in groups.items()
                for run in group
            ],
        ),
    ]


def _row(group: list[dict]) -> tuple[str, ...]:
    under = [run["validation"]["interventions"] for run in group]
    masked = ([each[MASKED][key] for each in under] for key in ("auc_change", "specificity"))
    least = [min(each[name]["same_label"] for name in EVERYDAY) for each in under]
    change, specificity = (f"{np.mean(values):{form}}" for values, form in zip(masked, ("+.4f", ".3f"), strict=True))
    minutes = min(run["seconds"] for run in group) / 60
    figures = (_spread(group, name) for name in FIGURES)
    return (str(len(group)), *figures, change, specificity, f"{np.mean(least):.3f}", _map(group), f"{minutes:.1f}")


def _map(group: list[dict]) -> str:
    """The mean over the runs that have it, and how many those are if not all."""
    curves = [found["curve"] for run in group if (found := run["validation"].get("faithfulness"))]
    more = [point["more_than_random"]["logit"] for curve in curves for point in curve if point["share"] == TOLD]
    if not more:
        return ""
    return f"{np.mean(more):+.2f}" + (f" ({len(more)} of {len(group)})" if len(more) < len(group) else "")


def _spread(group: list[dict], name: str, part: str = "validation") -> str:
    values = [run[part][name] for run in group]
    if None in values:
        return "undefined"
    return f"{np.mean(values):.4f}" + (f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else "")


def _difference(value: float | None, span: list[float] | None) -> str:
    return f"{value:+.4f} ({span[0]:+.4f} to {span[1]:+.4f})" if span else "undefined"


def _verdict(found: dict[str, tuple]) -> str:
    spans = {name: span for name, (_, span) in found.items() if span}
    better = [SHORT[name] for name, (low, _) in spans.items() if low > 0]
    worse = [SHORT[name] for name, (_, high) in spans.items() if high < 0]
    words = [f"{word}: {', '.join(names)}" for word, names in (("better", better), ("worse", worse)) if names]
    return "; ".join(words) or "undecided"


def _mixed(groups: dict, against: dict) -> str:
    """In how many of the comparisons the last block was kept, which is part of the differences."""
    kept = {key: [kept_block(run["kept"]) for run in runs] for key, runs in groups.items()}
    plain = " and ".join(
        f"{sum(kept[base, PLAIN])} of {len(groups[base, PLAIN])} on `{base}`"
        for base in dict.fromkeys(base for base, _ in against)
    )
    every = sum(all(kept[key]) for key in against)
    return (
        "Differences to the recipe as it is mix the idea with whether the tuned last block was kept (the last table "
        f"says where): of the runs of the recipe as it is, {plain} kept it; in {every} of these {len(against)} "
        "comparisons every run of the idea did."
    )


def _untried(tried: set[str]) -> list[str]:
    """Lines that name the ideas of which there is no run alone, those in combinations apart."""
    left, combined = [idea for idea in IDEAS if idea not in tried], " + ".join([*tried, CHOSEN]).split(" + ")
    named = {
        "Not tried alone, but together with others": [idea for idea in left if idea in combined],
        "Never tried": [idea for idea in left if idea not in combined],
    }
    lines = (f"{words}: {', '.join(f'`{idea}`' for idea in ideas)}." for words, ideas in named.items() if ideas)
    return [each for line in lines for each in ("", line)]


def _seconds(receipt: dict) -> int:
    start = receipt["config"].get("start")
    own = sum(stage["seconds"] for stage in receipt["stages"].values())
    return own + (_seconds(start["receipt"]) if start else 0)
