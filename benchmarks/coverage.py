"""How often the intervals that are printed hold the truth, by simulation: coverage.md.

Abnormal and normal images have normal log-odds, apart as an AUROC of 0.6 to 0.99 asks; images of a patient share seven
tenths of their variance. Scores are of one sample, or means over ten folds, whose models are offset from each other:
`tested`, each image in one fold, or `held out`, a tenth drawn anew for each. Then the paired difference of two such
models that are equally good, and the audit's probes on images of which nothing tells the label.

An interval is judged in a setting where at least half of the samples have one: see `FEWEST`, `WRONG` and `USABLE` in
evaluate/intervals.py. It should hold the truth in 92 to 98 of 100 samples; `below` and `above` count the settings where
it does so less or more often beyond what the number of samples explains (binomial, one side, 0.1 %).

More than 98 % cannot be helped where a proportion is near 1 and cases are few: of 20 cases that are right with
probability 0.99, all are right in 82 of 100 samples and all but one in another 17. An interval for 20 of 20 must hold
0.99, then, and with 19 of 20 it holds it in 98.3 %, without in 82 %. It is the price, too, of two rules that keep
intervals from being too narrow: no score has more cases than there are independent ones, although a mean over folds
whose thresholds differ varies less than a proportion of so many; and Newcombe's variance is that of a skewer
distribution than the one drawn here, which matters near an AUROC of 1.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy.stats import binom, norm

from glaucoma.audit.shortcuts import MODELS, _told
from glaucoma.evaluate.intervals import Weighted, cases_of, difference_bounds, draws, rows_of
from glaucoma.evaluate.scores import SCORES

HERE = Path(__file__).parent
AUROCS, SIZES, PATIENTS = (0.6, 0.85, 0.97, 0.99), (40, 100, 400, 2000), (1, 4)  # and photographs of a patient at most
DESIGNS, FOLDS = ("one sample", "tested", "held out"), 10
RESAMPLES = 200
LEAST, MOST = 0.92, 0.98
CHANCE = 0.001
ALIKE = 0.7  # of the variance within a class, shared by a patient's images
TRUE = 100_000  # quantiles of each class that stand for the truth
NULL = ((60, 1), (200, 1), (200, 3), (200, 30))  # images and features of the probes


def groups_of(images: int, most: int) -> np.ndarray:
    """The patient of each image: 1 to `most` images each, in turn."""
    sizes = np.resize(np.arange(1, most + 1), images)
    return np.repeat(np.arange(images), sizes)[:images]


def drawn(random: np.random.Generator, groups: np.ndarray, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels, bool, and a model's answers for images; at least two patients of each class."""
    count = int(groups.max()) + 1
    sick = random.random(count) < 0.5
    while not 2 <= sick.sum() <= count - 2:
        sick = random.random(count) < 0.5
    own = np.sqrt(ALIKE) * random.normal(size=count)[groups] + np.sqrt(1 - ALIKE) * random.normal(size=len(groups))
    return sick[groups], distance * (sick[groups] - 0.5) + own


def offsets_of(design: str) -> np.ndarray:
    """What each fold's model adds to the log-odds."""
    return np.zeros(1) if design == "one sample" else np.linspace(-1, 1, FOLDS)


def truth(design: str, auroc: float) -> dict[str, float]:
    """Every score of the distribution itself, a mean over the folds."""
    distance = float(np.sqrt(2) * norm.ppf(auroc))
    abnormal = np.repeat([True, False], TRUE)
    answers = distance * (abnormal - 0.5) + np.tile(norm.ppf((np.arange(TRUE) + 0.5) / TRUE), 2)
    once = np.ones((1, 2 * TRUE), np.int8)
    each = [Weighted(abnormal, distance * answers + offset)(once) for offset in offsets_of(design)]
    return {name: float(np.mean([one[name][0] for one in each])) for name in SCORES}


def parts_of(design: str, groups: np.ndarray, random: np.random.Generator) -> list[np.ndarray]:
    """The rows of each fold."""
    count = int(groups.max()) + 1
    if design == "one sample":
        return [np.arange(len(groups))]
    if design == "tested":
        of = random.permutation(count) % FOLDS
        return [np.flatnonzero(of[groups] == fold) for fold in range(FOLDS)]
    held_out = max(2, count // FOLDS)
    return [np.flatnonzero(np.isin(groups, random.permutation(count)[:held_out])) for _ in range(FOLDS)]


def means(
    abnormal: np.ndarray, log_odds: list[np.ndarray], parts: list[np.ndarray], weights: np.ndarray
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """The mean over the folds of every score, and the same in each resample; as evaluate/over_folds.py has it."""
    scored = [Weighted(abnormal[rows], values) for rows, values in zip(parts, log_odds, strict=True)]
    whole = [one(np.ones((1, len(rows)))) for one, rows in zip(scored, parts, strict=True)]
    again = [one(weights[:, rows]) for one, rows in zip(scored, parts, strict=True)]
    found, resampled = {}, {}
    for name in SCORES:
        defined = [i for i, one in enumerate(whole) if np.isfinite(one[name][0])]
        found[name] = float(np.mean([whole[i][name][0] for i in defined])) if defined else np.nan
        nothing = np.full(len(weights), np.nan)
        resampled[name] = np.mean([again[i][name] for i in defined], axis=0) if defined else nothing
    return found, resampled


def setting(
    design: str, images: int, most: int, auroc: float, samples: int, true: dict[str, float]
) -> list[dict[str, Any]]:
    """Coverage of every score's interval, and of every difference's, in one setting whose `truth` is given."""
    distance, groups = float(np.sqrt(2) * norm.ppf(auroc)), groups_of(images, most)
    offsets = offsets_of(design)
    hits: dict[tuple[str, str], list[float]] = {}
    methods: dict[str, str] = {}
    for sample in range(samples):
        random = np.random.default_rng([sample, images, most, round(100 * auroc)])
        weights = np.concatenate(list(draws(groups, sample, RESAMPLES)))
        abnormal, answers = drawn(random, groups, distance)
        parts = parts_of(design, groups, random)
        first = [distance * answers[rows] + offset for rows, offset in zip(parts, offsets, strict=True)]
        found, resampled = means(abnormal, first, parts, weights)
        rows, folds = np.concatenate(parts), np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        table = rows_of(found, resampled, abnormal[rows], groups[rows], folds)
        for row in table.itertuples():
            inside = float(row.low - 1e-9 <= true[row.score] <= row.high + 1e-9) if row.low == row.low else np.nan
            hits.setdefault((row.score, "score"), []).append(inside)
            methods[row.score] = row.method if row.method != "none" else methods.get(row.score, "none")
        # Another model that is as good: half of what a photograph adds is its own
        other = distance * (abnormal - 0.5) + np.sqrt(0.5) * (answers - distance * (abnormal - 0.5))
        other += np.sqrt(0.5) * (drawn(random, groups, 0.0)[1])
        second = [distance * other[part] + offset for part, offset in zip(parts, offsets, strict=True)]
        theirs, against = means(abnormal, second, parts, weights)
        right = min(found["accuracy"], theirs["accuracy"])
        cases = cases_of(abnormal[rows], groups[rows], folds, right)
        for name in SCORES:
            low, high = difference_bounds(name, theirs[name] - found[name], against[name] - resampled[name], cases)
            hits.setdefault((name, "difference"), []).append(float(low <= 0 <= high) if low == low else np.nan)
    about = {"design": design, "images": images, "photographs": most, "auroc": auroc, "samples": samples}
    rows = []
    for (name, kind), inside in hits.items():
        had = np.isfinite(inside)
        rows.append({
            "score": name,
            "of": kind,
            "method": methods[name] if kind == "score" else "t",
            **about,
            "printed": float(had.mean()),
            "coverage": float(np.nanmean(inside)) if had.any() else None,
        })  # fmt: skip
    return rows


def probes(images: int, features: int, samples: int) -> dict[str, Any]:
    """How often the better probe's interval lies wholly below and above 0.5 where nothing tells the label."""
    below, above = 0, 0
    for sample in range(samples):
        random = np.random.default_rng([sample, images, features])
        members = random.permutation(images) < images // 2
        values = random.normal(size=(images, features))
        best = max((_told(name, values, members, np.arange(images)) for name in MODELS), key=lambda found: found[0])
        below, above = below + (best[2] < 0.5), above + (best[1] > 0.5)
    return {
        "images": images,
        "features": features,
        "samples": samples,
        "below": below / samples,
        "above": above / samples,
    }


def settings(quick: bool) -> Iterator[tuple[str, int, int, float]]:
    """All settings; folds want 100 images at least, and 2 000 are a single sample's."""
    for design in DESIGNS:
        for images in SIZES[1:2] if quick else SIZES:
            if design == "one sample" or 100 <= images < 2000:
                aurocs = AUROCS[1:2] if quick else AUROCS
                yield from ((design, images, most, auroc) for most in PATIENTS for auroc in aurocs)


def as_text(found: dict[str, Any]) -> str:
    """coverage.md: the lowest and highest coverage of each interval."""
    table = pd.DataFrame(found["intervals"])
    judged = table[(table["printed"] >= 0.5) & table["coverage"].notna()]
    n = (judged["samples"] * judged["printed"]).round()
    hits = (n * judged["coverage"]).round()
    judged = judged.assign(below=binom.cdf(hits, n, LEAST) < CHANCE, above=binom.sf(hits - 1, n, MOST) < CHANCE)
    many = found["samples"]
    edges = (binom.ppf(CHANCE, many, LEAST) - 1) / many, (binom.isf(CHANCE, many, MOST) + 1) / many
    lines = ["# Coverage of the intervals", "", __doc__.partition("\n\n")[2].strip(), ""]
    lines += [
        f"{many} samples a setting, a quarter of 2 000 images; {RESAMPLES} resamples. With so many, only {edges[0]:.1%} "
        f"or less counts as below and {edges[1]:.1%} or more as above, so a true 90 % may pass: look at `lowest`, too. "
        "`printed` is the share of all samples that have an interval.",
        "",
        "| of | score | method | design | settings | lowest | mean | highest | below | above | printed |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for (kind, name, design), rows in judged.groupby(["of", "score", "design"], sort=False):
        cover = rows["coverage"]
        every = table[(table["of"] == kind) & (table["score"] == name) & (table["design"] == design)]
        cells = [f"{value:.1%}" for value in (cover.min(), cover.mean(), cover.max())]
        cells += [str(int(rows[side].sum())) for side in ("below", "above")] + [f"{every['printed'].mean():.1%}"]
        method = ", ".join(sorted(set(rows["method"])))
        lines.append(f"| {kind} | {name} | {method} | {design} | {len(rows)} | {' | '.join(cells)} |")
    none = sorted(set(table["score"]) - set(judged["score"]))
    lines += ["", f"Without an interval: {', '.join(none)}.", "", "## Settings where it holds the truth too rarely", ""]
    for row in judged[judged["below"]].itertuples():
        where = f"{row.design}, {row.images} images, up to {row.photographs} of a patient, AUROC {row.auroc}"
        lines.append(f"- {row.of}, {row.score}: {row.coverage:.1%} ({where})")
    lines += [*([] if judged["below"].any() else ["None."]), "", "## Probes where nothing tells the label", ""]
    lines += [
        "Share of samples in which the better probe's interval lies wholly on one side of 0.5, nominal 2.5 % each.",
        "",
    ]
    lines += ["| images | features | below | above |", "|---|---|---|---|"]
    for row in found["probes"]:
        lines.append(f"| {row['images']} | {row['features']} | {row['below']:.1%} | {row['above']:.1%} |")
    return "\n".join(lines) + "\n"


def _few(samples: int, images: int) -> int:
    """Fewer samples of many images, whose intervals have nothing to prove."""
    return samples if images < 2000 else samples // 4


def main() -> None:
    """Simulate, and write coverage.md."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--samples", type=int, default=400, help="of each setting (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=-1, help="processes (default: one a core)")
    parser.add_argument("--quick", action="store_true", help="few settings: shows that it works, no more")
    parser.add_argument("--output", type=Path, default=HERE, help="folder to write to")
    given = parser.parse_args()
    samples = 10 if given.quick else given.samples
    work, wanted = Parallel(n_jobs=given.jobs, verbose=5), list(settings(given.quick))
    of = sorted({(design, auroc) for design, _, _, auroc in wanted})
    true = dict(zip(of, work(delayed(truth)(*one) for one in of), strict=True))
    rows = work(delayed(setting)(*one, _few(samples, one[1]), true[one[0], one[3]]) for one in wanted)
    null = work(delayed(probes)(*one, samples) for one in (NULL[:1] if given.quick else NULL))
    found = {
        "samples": samples,
        "intervals": [row for part in rows for row in part],
        "probes": null,
    }
    given.output.mkdir(parents=True, exist_ok=True)
    text = as_text(found)
    (given.output / "coverage.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
