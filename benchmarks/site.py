"""Does `pneumo calibrate` keep what it promises? Simulated sites, whose scores come from known distributions.

    python -m benchmarks.site --json reports/site.json --page reports/site.md

A site draws so many films of each label, calibrates on them, and is then judged by the distributions themselves, so
that a true sensitivity has no error of its own. Takes about 20 seconds.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from jinja2 import Environment, StrictUndefined
from scipy.special import ndtr, ndtri

from pneumo import LABELS
from pneumo.evaluation.calibration import fit_platt
from pneumo.evaluation.site import WANTED, apply_calibration, choose_site_points
from pneumo.evaluation.thresholds import CONFIDENCE, choose_threshold
from pneumo.model.card import POINTS

FILMS = (20, 50, 100, 200)  # of each label
SITES = 300  # simulated for each of FILMS
MEANS, SPREAD = (3.0, 6.0), 1.25  # logits of NORMAL and PNEUMONIA at the site: both are far too high there
JUDGED = 1000  # quantiles of each distribution, over which the Brier score is computed
TEMPLATE = Path(__file__).with_name("site.md.j2")


def simulate(films: int, sites: int, seed: int = 0) -> dict:
    """Calibrate that many sites on so many films of each label; figures over the sites, ready for JSON."""
    rng, target = np.random.default_rng([seed, films]), np.repeat([0, 1], films)
    found = np.array([judge_site(rng.normal(np.repeat(MEANS, films), SPREAD), target) for _ in range(sites)])
    promised, true, empirical, promised_in, true_in, before, after = found.T
    return {
        "films": films,
        "sites": sites,
        "rule_out": summarise(promised, true),
        "rule_in": summarise(promised_in, true_in),
        "empirical": {"true": float(empirical.mean()), "kept": float((empirical >= WANTED).mean())},
        "brier": {"before": float(before.mean()), "after": float(after.mean())},
    }


def summarise(promised: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Mean promise and truth, the truth of the 5th worst of 100 sites, and the share of sites that keep the promise."""
    return {
        "promised": float(promised.mean()),
        "true": float(true.mean()),
        "worst": float(np.quantile(true, 1 - CONFIDENCE)),
        "kept": float((true >= promised).mean()),
    }


def judge_site(logit: np.ndarray, target: np.ndarray) -> tuple[float, ...]:
    """Calibrate one site on its films, (n,); promised and true figures, and Brier scores, by the distributions."""
    slope, intercept = fit_platt(target, logit)
    calibration = {"slope": slope, "intercept": intercept}
    probability = apply_calibration(logit, calibration)
    points = choose_site_points(target, probability, range(len(target)))
    rule_out, rule_in = points[POINTS[0]], points[POINTS[-1]]

    def share_below(threshold: float, label: int) -> float:
        at = (np.log(threshold / (1 - threshold)) - intercept) / slope
        return float(ndtr((at - MEANS[label]) / SPREAD))

    empirical = choose_threshold(target, probability, WANTED)
    return (
        rule_out["promised"]["sensitivity"],
        1 - share_below(rule_out["threshold"], 1),
        1 - share_below(empirical, 1),
        rule_in["promised"]["specificity"],
        share_below(rule_in["threshold"], 0),
        measure_brier(1.0, 0.0),  # the logits as they are: the model's own calibration
        measure_brier(slope, intercept),
    )


def measure_brier(slope: float, intercept: float) -> float:
    """Brier score of a calibration over both distributions, as many films of each."""
    films = SPREAD * ndtri((np.arange(JUDGED) + 0.5) / JUDGED)
    logit = np.add.outer(MEANS, films)  # (labels, JUDGED)
    probability = apply_calibration(logit, {"slope": slope, "intercept": intercept})
    return float(np.mean((probability - np.arange(len(LABELS))[:, None]) ** 2))


def write_page(result: dict) -> str:
    """Return the page of a result."""
    environment = Environment(trim_blocks=True, undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(result)


def main() -> None:
    """Simulate, and write what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sites", type=int, default=SITES, help="simulated for each number of films")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    arguments = parser.parse_args()
    result = {
        "wanted": WANTED,
        "confidence": CONFIDENCE,
        "means": dict(zip(LABELS, MEANS, strict=True)),
        "spread": SPREAD,
        "rows": [simulate(films, arguments.sites) for films in FILMS],
    }
    page = write_page(result)
    print(page)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if arguments.page:
        arguments.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
