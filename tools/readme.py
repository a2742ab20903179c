"""Write the generated parts of README.md and docs/: the graph of the stages, scores and benchmarks of the last run.

    python tools/readme.py            say whether they are up to date; exit 1 if not
    python tools/readme.py --write    update them

The graph is DVC's own, with the folds as one node and without arrows that a longer path implies. Scores come from
metrics/ and docs/published/, seconds from benchmarks/results.json: no figure is typed by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from statistics import mean

import networkx
from dvc.repo import Repo
from sklearn.metrics import f1_score

from glaucoma.base.files import read_json
from glaucoma.base.yaml12 import read_yaml
from glaucoma.evaluate.published import published
from glaucoma.evaluate.summary import HEADLINE, SPLITS

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("stage 1,", "stage 2,", "a fold,")  # how the benchmarks that README.md shows begin; the first of each
NAMES = {
    "auroc": "AUROC",
    "sensitivity_at_95_specificity": "sensitivity at 95 % specificity",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "f1_macro": "macro F1",
    "brier": "Brier score (0 is best)",
}


def dag() -> str:
    """The pipeline as a Mermaid flowchart."""
    graph = networkx.DiGraph()
    with Repo(str(ROOT)) as repo:
        for stage, needed in repo.index.graph.edges:
            graph.add_edge(_title(needed.addressing), _title(stage.addressing))
    graph.remove_edges_from(list(networkx.selfloop_edges(graph)))
    reduced = networkx.transitive_reduction(graph)
    order = list(networkx.lexicographical_topological_sort(reduced))
    lines = ["```mermaid", "flowchart LR"]
    lines += [f'  {_node(title)}["{title}"]' for title in order]
    lines += [f"  {_node(a)} --> {_node(b)}" for a in order for b in order if reduced.has_edge(a, b)]
    return "\n".join([*lines, "```"])


def scores() -> str:
    """The means over folds of the committed run, `valid` first: no model has seen it, and `test` selects."""
    folds = [read_json(path) for path in sorted((ROOT / "metrics/crossval").glob("fold*.json"))]
    intervals = read_json(ROOT / "metrics/intervals.json")["mean_over_folds"]
    splits = SPLITS[::-1]
    titles = {"valid": "valid (held out) [95 % interval]", "test": "test (selects)"}
    lines = [f"| mean over folds | {' | '.join(titles[split] for split in splits)} |", "|---" * (len(splits) + 1) + "|"]
    for score in HEADLINE:
        cells = [_cell(intervals[split][score], interval=split == "valid") for split in splits]
        lines.append(f"| {NAMES[score]} | {' | '.join(cells)} |")
    worst = [max(fold[split]["contamination"] for fold in folds) for split in splits]
    lines.append("| contamination, highest of a fold | " + " | ".join(f"{share:.3f}" for share in worst) + " |")
    warned = sum(fold.get("warnings", 0) > 0 for fold in folds)
    name, images = read_yaml(ROOT / "params.yaml")["backbone"]["name"], read_json(ROOT / "metrics/index.json")["images"]
    regression = read_json(ROOT / "metrics/controls.json")["regression_average"]["test_auroc"]
    source = (
        f"The shipped `params.yaml` on the synthetic sample: {name}, fine-tuned on {images} rendered eyes in "
        f"{len(folds)} folds (`metrics/intervals.json`). A logistic regression on the frozen backbone's features "
        f"reaches an AUROC of {regression:.3f} on test (`metrics/controls.json`), the networks "
        f"{_cell(intervals['test']['auroc'])}."
        + (f" **{warned} folds have warnings: see `glaucoma results`.**" if warned else "")
    )
    return "\n".join([*lines, "", source])


def _cell(of: dict[str, float | None], interval: bool = False) -> str:
    """A score, and its interval where there is one."""
    if of["value"] is None:
        return "not defined"
    around = f" [{of['low']:.3f}, {of['high']:.3f}]" if interval and of["low"] is not None else ""
    return f"{of['value']:.3f}{around}"


def bench() -> str:
    """A few lines of the benchmarks' table, from the file that their run wrote."""
    file = ROOT / "benchmarks/results.json"
    if not file.is_file():
        return "`make bench` has not been run on this code."
    found = read_json(file)
    columns = ("", "obvious way", "here", "ratio")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for start in SHOWN:
        cells = next((row["cells"] for row in found["rows"] if row["cells"][""].startswith(start)), None)
        if cells:
            lines.append("| " + " | ".join(cells[column] for column in columns) + " |")
    machine = found["machine"]
    where = f"{machine['cores']} cores of {machine['processor']}, TensorFlow {machine['versions']['tensorflow']}"
    return "\n".join(
        [*lines, "", f"{where}. All of them, with what is measured and what extrapolated: `benchmarks/results.md`."]
    )


def published_run() -> str:
    """A few lines of docs/published_run.md: the searches as far as they were run, and the folds."""
    kept, report = ROOT / "docs/published/report/metrics", published()
    images, theirs = read_json(kept / "index.json")["images"], report["protocol"]["index"]["images"]
    pairs = []
    for number in (1, 2, 3):
        if (found := kept / f"stage{number}.json").is_file():
            here, there = read_json(found)["test"]["f1_macro"], _macro_f1(report["searches"][f"stage{number}"])
            pairs.append(f"model {number} {there:.3f} → {here:.3f}")
    folds = {told["fold"]: told for told in map(read_json, (kept / "crossval").glob("fold*.json"))}
    if folds:
        there = mean(fold["valid_f1_macro"] for fold in report["folds"] if fold["fold"] in folds)
        here = mean(told["valid"]["f1_macro"] for told in folds.values())
        pairs.append(f"mean over folds on valid ({len(folds)} of 10 run) {there:.3f} → {here:.3f}")
    return (
        f"On {images} of its {theirs} photographs ([a run of it](docs/published_run.md)), macro F1, the report's → "
        f"here: {', '.join(pairs)}.\nHigh scores say little about glaucoma on these photographs: "
        "[a regression on 7 × 7 pixels](benchmarks/recipe.md) nearly separates the classes."
    )


def _macro_f1(search: dict) -> float:
    """Of the confusion matrix of the report's chosen trial."""
    cells = [(true, called, count) for true, row in search["confusion"].items() for called, count in row.items()]
    labels, predicted, counts = zip(*cells, strict=True)
    return f1_score(labels, predicted, average="macro", sample_weight=counts)


BLOCKS = {"README.md": {"scores": scores, "published": published_run, "bench": bench}, "docs/pipeline.md": {"dag": dag}}


def rendered(file: str, text: str) -> str:
    """The text of a file with its generated blocks updated."""
    for name, make in BLOCKS[file].items():
        pattern = rf"(<!-- {name}: [^>]*-->\n).*?(<!-- end {name} -->)"
        text, found = re.subn(
            pattern, lambda match, make=make: f"{match[1]}{make()}\n{match[2]}", text, flags=re.DOTALL
        )
        if found != 1:
            raise SystemExit(f"{file} has {found} blocks named {name}, expected one")
    return text


def main() -> int:
    """Compare, or write with --write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="update the files instead of complaining")
    write = parser.parse_args().write
    texts = {file: (ROOT / file).read_text(encoding="utf-8") for file in BLOCKS}
    stale = {file: new for file, text in texts.items() if (new := rendered(file, text)) != text}
    for file, new in stale.items():
        if write:
            (ROOT / file).write_text(new, encoding="utf-8")
        else:
            sources = "dvc.yaml, metrics/, docs/published/ or benchmarks/results.json"
            print(f"{file} differs from {sources}: run `make docs`", file=sys.stderr)
    return int(bool(stale) and not write)


def _title(address: str) -> str:
    return address.rpartition(":")[2].partition("@")[0].replace("crossval", "crossval, a stage per fold")


def _node(title: str) -> str:
    return title.partition(",")[0]


if __name__ == "__main__":
    sys.exit(main())
