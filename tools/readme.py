"""Write the parts of README.md that come from elsewhere: the picture of the DAG, scores and benchmarks of the last run.

    python tools/readme.py            say whether they are up to date; exit 1 if not
    python tools/readme.py --write    write them anew

The picture is DVC's own graph, with the folds as one node and without arrows that a longer way implies. The scores are
those of metrics/, the seconds those of benchmarks/results.json, so that no figure is typed by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

import networkx
from dvc.repo import Repo

from glaucoma.evaluate.summary import HEADLINE, SPLITS
from glaucoma.files import read_json

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
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
    """The means over folds of the committed run, from each fold's own metrics."""
    folds = [read_json(path) for path in sorted((ROOT / "metrics/crossval").glob("fold*.json"))]
    lines = ["| mean over folds | " + " | ".join(SPLITS) + " |", "|---|" + "---|" * len(SPLITS)]
    for score in HEADLINE:
        cells = [_mean([fold[split][score] for fold in folds]) for split in SPLITS]
        lines.append(f"| {NAMES[score]} | {' | '.join(cells)} |")
    worst = [max(fold[split]["contamination"] for fold in folds) for split in SPLITS]
    lines.append("| contamination, highest of a fold | " + " | ".join(f"{share:.3f}" for share in worst) + " |")
    warned = sum(fold.get("warnings", 0) > 0 for fold in folds)
    source = (
        f"{len(folds)} folds, from `metrics/crossval/`; the run is the shipped `params.yaml` on the synthetic sample."
        + (f" **{warned} of them are warned of: see `glaucoma results`.**" if warned else "")
    )
    return "\n".join([*lines, "", source])


def _mean(values: list[float | None]) -> str:
    """The mean over the folds that define a score."""
    known = [value for value in values if value is not None]
    return f"{sum(known) / len(known):.3f}" if known else "not defined"


def bench() -> str:
    """The benchmarks' table, shortened, from the file that their run wrote."""
    file = ROOT / "benchmarks/results.json"
    if not file.is_file():
        return "`make bench` has not been run on this code."
    found = read_json(file)
    columns = ("", "obvious way", "here", "ratio", "aim")
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    lines += ["| " + " | ".join(row["cells"][column] for column in columns) + " |" for row in found["rows"]]
    machine = found["machine"]
    where = f"{machine['cores']} cores of {machine['processor']}, TensorFlow {machine['versions']['tensorflow']}"
    return "\n".join([*lines, "", f"{where}. What is measured and what extrapolated: `benchmarks/results.md`."])


BLOCKS = {"dag": dag, "scores": scores, "bench": bench}


def rendered(text: str) -> str:
    """`text` with every generated block made anew."""
    for name, make in BLOCKS.items():
        pattern = rf"(<!-- {name}: [^>]*-->\n).*?(<!-- end {name} -->)"
        text, found = re.subn(
            pattern, lambda match, make=make: f"{match[1]}{make()}\n{match[2]}", text, flags=re.DOTALL
        )
        if found != 1:
            raise SystemExit(f"README.md has {found} blocks named {name}, expected one")
    return text


def main() -> int:
    """Compare, or write where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="write README.md instead of complaining")
    text = README.read_text(encoding="utf-8")
    new = rendered(text)
    if parser.parse_args().write:
        README.write_text(new, encoding="utf-8")
        return 0
    if new != text:
        print("README.md differs from dvc.yaml, metrics/ or benchmarks/results.json: run `make docs`", file=sys.stderr)
    return int(new != text)


def _title(address: str) -> str:
    return address.rpartition(":")[2].partition("@")[0].replace("crossval", "crossval, a stage per fold")


def _node(title: str) -> str:
    return title.partition(",")[0]


if __name__ == "__main__":
    sys.exit(main())
