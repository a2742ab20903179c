"""Collect runs of the published protocol, and write docs/published_run.md and its pictures from them.

    python tools/published.py take NAME PROJECT [--log FILE]   copy a run's tables to docs/published/NAME
    python tools/published.py take NAME PROJECT --add          beside those of its folds that ran on another machine
    python tools/published.py                                  say whether the page is up to date; exit 1 if not
    python tools/published.py --write                          update it

PROJECT is a clone of this repository in which the protocol runs or has run. A run that is not finished is shown as far
as it is. No photographs, models or paths are copied, and no figure is typed by hand.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise, zip_longest
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from glaucoma.base.errors import many
from glaucoma.base.files import read_csv, read_json, write_json
from glaucoma.evaluate.over_folds import mean_differences
from glaucoma.evaluate.published import published
from glaucoma.report.training_figures import learning_curves

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "docs/published"
PAGE = ROOT / "docs/published_run.md"
RUNS = {
    "report": "the report's protocol",
    "leak": "folds that start from stage 2 of fold 0, as in the report",
    "statistics": "batch statistics computed anew",
    "recommended": "the recommended profile",
}
FILES = [
    "metrics/index.json",
    "metrics/stage?.json",
    "metrics/model?.json",
    "metrics/search/*.csv",
    "metrics/timing/*.csv",
    "metrics/timing/crossval/*.json",
    "metrics/crossval/*.json",
    "metrics/intervals.json",
    "reports/stage?/history.csv",
    "reports/stage?/confusion_test.csv",
    "reports/crossval/fold*/history.csv",
    "reports/crossval/fold*/predictions.csv",
]
SEARCHES = {"stage1": "Model 1: frozen backbone", "stage2": "Model 2: last 20 layers", "stage3": "Model 3: all layers"}
STAGE1 = ["models/stage1.keras", "models/stage1.json", "metrics/stage1.json", "metrics/search/stage1.csv"]
STAGE1 += ["reports/stage1/history.csv", "reports/stage1/predictions.csv"]
RESAMPLES, SEED = 2000, 0
CONDITIONS = ["abnormal", "normal"]
NOT_YET = "Not run yet."


def take(name: str, project: Path, log: Path | None, killed: Path | None = None, *, add: bool = False) -> None:
    """Copy a run's text results, and write what it was run on: about.json.

    Only files that are younger than params.yaml are the run's: a clone also has the metrics of the shipped run.

    Args:
        name: of `RUNS`.
        project: where it runs or has run.
        log: has a line `started …` for each start and `ended …` for each end that was no kill.
        killed: another project, where stage 1 was killed in its middle; its log is killed.log.
        add: keep what was taken before, except for files that this project has too.
    """
    target, begin = KEPT / name, (project / "params.yaml").stat().st_mtime
    files = sorted(path for pattern in FILES for path in project.glob(pattern) if path.stat().st_mtime >= begin)
    if not files:
        sys.exit(f"{project}: no result is younger than params.yaml; nothing was copied, {target} is as it was")
    before = read_json(target / "about.json") if add else {}
    if not add:
        shutil.rmtree(target, ignore_errors=True)
    for file in files:
        copy = target / file.relative_to(project)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if file.name == "predictions.csv":  # the rest follows from these columns
            read_csv(file)[["image", "split", "label", "predicted", "log_odds"]].to_csv(copy, index=False)
        else:
            shutil.copyfile(file, copy)
    head = ["git", "rev-parse", "--short=7", "HEAD"]
    commit = subprocess.run(head, cwd=project, capture_output=True, text=True, check=True)  # noqa: S603
    processor = re.search(r"(?m)^model name\s*: (.+)", Path("/proc/cpuinfo").read_text("utf-8"))
    machine = {
        "commit": commit.stdout.strip(),
        "processor": processor[1] if processor else platform.machine(),
        "cores": os.cpu_count(),
    }
    machines = before.get("machines", [])
    about = {
        **before,
        "machines": machines if machine in machines else [*machines, machine],
        "killed": before.get("killed", 0) + _kills(log),
    }
    if killed:
        same = [(project / file).read_bytes() == (killed / file).read_bytes() for file in STAGE1]
        about["stage1"] = {"killed": _kills(killed / "killed.log"), "files": len(same), "same": sum(same)}
    write_json(target / "about.json", about)


def _kills(log: Path | None) -> int:
    """How many starts have no end, and a start after them."""
    told = re.findall(r"(?m)^(started|ended) ", log.read_text("utf-8")) if log else []
    return sum(one == then == "started" for one, then in pairwise(told))


def page() -> str:
    """The page's text."""
    lines = ["# The published protocol, run", "", *_introduction(), ""]
    for stage, title in SEARCHES.items():
        lines += [f"## {title}", "", *_search(stage), ""]
    lines += ["## Ten folds", "", *_folds(), ""]
    lines += ["## What each change is worth", "", *_changes(), ""]
    return "\n".join(lines).rstrip() + "\n"


def _introduction() -> Iterator[str]:
    index, about = read_json(KEPT / "report/metrics/index.json"), read_json(KEPT / "report/about.json")
    theirs = published()["protocol"]["index"]["images"]
    yield (
        f"The student report's protocol ([how to run it](published.md)) on {index['images']} of its {theirs} "
        f"photographs: {index['abnormal']} abnormal, {index['normal']} normal. `python tools/published.py --write` "
        "makes this page from the files of the runs, which are in [published/](published/)."
    )
    yield ""
    killed = f"The run was killed and resumed {many(about['killed'], 'time')}."
    if found := about.get("stage1"):
        killed += (
            f" Stage 1, killed {many(found['killed'], 'time')} in another clone (`kill -9`), ended with "
            f"{found['same']} of {found['files']} files equal to the byte: "
            "network, sidecar, scores, trials, predictions."
        )
    machines = [
        f"{machine['processor']}, {many(machine['cores'], 'core')}, no GPU, code of commit {machine['commit']}"
        for machine in about["machines"]
    ]
    yield f"Machine{'s' * (len(machines) > 1)}: {'; '.join(machines)}. {killed}"
    yield ""
    yield "Scores differ from the report's for these reasons:"
    yield ""
    yield f"- {index['images']} images instead of {theirs}: one of five collections, of crops around the optic disc."
    yield (
        "- These crops have a shortcut: [a regression on 7 × 7 pixels](../benchmarks/recipe.md) nearly separates the "
        "classes. High scores here say little about glaucoma."
    )
    yield (
        "- Each fold trains stages 1 and 2 on its own train split. In the report, folds 1–9 start from weights that "
        "have seen most of their test images."
    )
    yield "- The backbone is an EfficientNetB0 with weights of natural photographs, not the report's file."


def _search(stage: str) -> Iterator[str]:
    run, told = KEPT / "report", published()["searches"][stage]
    if not (run / f"metrics/search/{stage}.csv").is_file():
        yield NOT_YET
        return
    trials, chosen = read_csv(run / f"metrics/search/{stage}.csv"), read_json(run / f"metrics/{stage}.json")
    timing = read_csv(run / f"metrics/timing/{stage}.csv")
    # Trials that differ in epochs alone are one training: the longest's time holds the others'
    seconds = timing.groupby([*timing.columns.difference(["epochs", "seconds"])])["seconds"].max().sum()
    lasted = f"{_duration(seconds)} of training, summed over processes"
    yield f"{len(trials)} trials, {lasted}; ranked by macro F1 on fold 0's test split."
    yield ""
    theirs = [_ranked(row, "") for row in told.get("top5", ())]
    ours = [
        _ranked(row, "mean_test_")
        for row in trials.head(5).rename(columns=lambda name: name.removeprefix("param_")).to_dict("records")
    ]
    pairs = zip_longest(theirs, ours, fillvalue=["", "", ""])
    rows = [[str(rank), *left, *right] for rank, (left, right) in enumerate(pairs, start=1)]
    yield from _table(["rank", "report", "accuracy", "macro F1", "here", "accuracy", "macro F1"], rows)
    yield ""
    ties = f" (of {chosen['tied']} that tie)" if chosen["tied"] > 1 else ""
    yield f"Chosen in the report: {_trial(told['final'])}. Chosen here: {_trial(chosen['best'])}{ties}."
    yield ""
    counts = [pd.DataFrame(told["confusion"]).T, _confusion(stage)]
    rows = [
        [f"{true}, predicted {predicted}", *(_share(one.loc[true], predicted) for one in counts)]
        for true in CONDITIONS
        for predicted in CONDITIONS
    ]
    yield from _table(["test split of fold 0", "report", "here"], rows)
    yield ""
    yield f"![Learning curves of the chosen trial](published/{stage}_curves.png)"


def _folds() -> Iterator[str]:
    folds = {told["fold"]: told for told in map(read_json, (KEPT / "report/metrics/crossval").glob("fold*.json"))}
    if not folds:
        yield NOT_YET
        return
    theirs = pd.DataFrame(published()["folds"]).set_index("fold")
    done = f"{len(folds)} of 10 folds; mean: of {'all' if len(folds) == len(theirs) else 'those that were run'}"
    yield f"{done}. {_duration(sum(_seconds('report', folds)))} passed, with pauses and other work. The report → here."
    yield ""
    scores = {"test_accuracy": "accuracy, test", "test_f1_macro": "macro F1, test"}
    scores |= {"valid_accuracy": "accuracy, valid", "valid_f1_macro": "macro F1, valid"}
    found = pd.DataFrame(
        {
            fold: {score: told[score.split("_", 1)[0]][score.split("_", 1)[1]] for score in scores}
            | {"auroc": told["valid"]["auroc"]}
            for fold, told in folds.items()
        }
    ).T
    rows = []
    for name in [*theirs.index, "mean"]:
        left = theirs.loc[sorted(folds)].mean() if name == "mean" else theirs.loc[name]  # of the same folds
        right = found.mean() if name == "mean" else found.reindex(theirs.index).loc[name]
        rows.append(
            [str(name), *(f"{left[score]:.3f} → {_number(right[score])}" for score in scores), _number(right["auroc"])]
        )
    yield from _table(["fold", *scores.values(), "AUROC, valid"], rows)


def _changes() -> Iterator[str]:
    runs = {name: _predictions(name) for name in RUNS}
    others = [name for name, table in runs.items() if len(table) and name != "report"]
    if runs["report"].empty or not others:
        yield NOT_YET
        return
    yield "Differences to the first run on the folds that both have, on valid, with 95 % intervals of the pairs."
    yield ""
    rows = []
    for name in others:
        folds = sorted(set(runs["report"]["fold"]) & set(runs[name]["fold"]))
        pair = [runs[one][runs[one]["fold"].isin(folds)] for one in ("report", name)]
        found = mean_differences(*pair, seed=SEED, resamples=RESAMPLES).set_index("score")
        cells = []
        for score in ("auroc", "f1_macro"):
            row = found.loc[score]
            cells.append(f"{row['first']:.3f} → {row['second']:.3f}")
            interval = f" [{row['low']:+.3f}, {row['high']:+.3f}]" if isfinite(row["low"]) else ""
            cells.append(f"{row['difference']:+.3f}{interval}")
        times = [_duration(sum(_seconds(one, folds)) / len(folds)) for one in ("report", name)]
        rows.append([RUNS[name], str(len(folds)), *cells, " → ".join(times)])
    yield from _table(["run", "folds", "AUROC", "difference", "macro F1", "difference", "training a fold"], rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield "|" + "---|" * len(header)
    yield from (f"| {' | '.join(row)} |" for row in rows)


def _seconds(name: str, folds: Iterable[int]) -> list[float]:
    """Seconds of training of each fold, all stages."""
    return [read_json(KEPT / name / f"metrics/timing/crossval/fold{fold}.json")["seconds"] for fold in folds]


def _predictions(name: str) -> pd.DataFrame:
    """A run's predictions of valid, with the fold of each; empty where none is kept."""
    files = sorted((KEPT / name / "reports/crossval").glob("fold*/predictions.csv"))
    tables = [read_csv(file).query("split == 'valid'").assign(fold=int(file.parent.name[4:])) for file in files]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def _confusion(stage: str) -> pd.DataFrame:
    table = read_csv(KEPT / f"report/reports/{stage}/confusion_test.csv").set_index("true")
    return table.loc[CONDITIONS, CONDITIONS]


def _ranked(row: Mapping[Hashable, Any], prefix: str) -> list[str]:
    return [_trial(row), f"{row[prefix + 'accuracy']:.3f}", f"{row[prefix + 'f1_macro']:.3f}"]


def _trial(row: Mapping[Any, Any]) -> str:
    return f"{row['optimizer']}, lr {row['lr']:g}, batch {row['batch_size']}, {many(row['epochs'], 'epoch')}"


def _share(counts: pd.Series, predicted: str) -> str:
    return f"{counts[predicted]} of {counts.sum()} ({counts[predicted] / counts.sum():.1%})"


def _number(value: float) -> str:
    return f"{value:.3f}" if value == value else "–"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def draw() -> None:
    """Draw the pictures of the searches."""
    for stage, title in SEARCHES.items():
        if (history := KEPT / f"report/reports/{stage}/history.csv").is_file():
            learning_curves(read_csv(history), KEPT / f"{stage}_curves.png", f"{title}, the chosen trial")


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the page")
    commands = parser.add_subparsers(dest="command")
    one = commands.add_parser("take", help="copy a run's tables")
    one.add_argument("name", choices=RUNS)
    one.add_argument("project", type=Path)
    one.add_argument("--log", type=Path, help="of the run, with a line `started …` and `ended CODE` for each start")
    one.add_argument("--add", action="store_true", help="keep what was taken before")
    one.add_argument("--killed", type=Path, help="a project where stage 1 was killed, with its log, killed.log")
    given = parser.parse_args(words)
    if given.command == "take":
        take(given.name, given.project, given.log, given.killed, add=given.add)
    elif given.write:
        draw()
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text("utf-8") != page():
        print(f"{PAGE.name} is not up to date: python tools/published.py --write", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
