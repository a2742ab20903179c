"""`glaucoma compare`: two runs on the same images, with intervals and tests."""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glaucoma.base import paths
from glaucoma.base.errors import DataError, many

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["add"]

WORKSPACE = "workspace"
FILES = {"valid": paths.SUMMARY / "predictions_valid.csv", "test": paths.SUMMARY / "predictions.csv"}
SHOWN = ("sensitivity", "specificity", "auroc", "sensitivity_at_95_specificity", "f1_macro", "accuracy", "brier", "ece")
TEXTS = dict.fromkeys(("image", "patient", "source", "label", "predicted"), str)


def add(commands: argparse._SubParsersAction) -> None:
    """Register `compare`."""
    about = "compare the scores of two runs on the images they share: differences with intervals and tests"
    more = (
        "A run is a Git revision (HEAD~1, a tag, a branch), a DVC experiment, `workspace`, or a CSV of predictions "
        "with columns image, label, log_odds and optionally fold and patient. Results of a revision come from DVC's "
        "cache (if they are missing: `dvc fetch --all-commits`). Scores are means over the folds of each fold's own. "
        "95 % intervals: paired bootstrap over patients; copies of a photograph, as found by this project's audit, "
        "count as one. They cover the sampling of images, not the variation between seeds. p, only where each run is "
        "one model and all images are independent: DeLong's test for auroc, McNemar's exact test for accuracy."
    )
    compare = commands.add_parser("compare", help=about, description=f"{about[0].upper()}{about[1:]}. {more}")
    compare.add_argument("first", metavar="REV1", help="the first run")
    compare.add_argument(
        "second", metavar="REV2", nargs="?", default=WORKSPACE, help="the second run (default: %(default)s)"
    )
    compare.add_argument(
        "--split",
        choices=tuple(FILES),
        default="valid",
        help="images to compare on; test selects (default: %(default)s)",
    )
    compare.add_argument("--csv", metavar="FILE", help="also write all scores to FILE")
    compare.add_argument(
        "--markdown", action="store_true", help="print it as Markdown, for a comment on a pull request"
    )
    compare.add_argument("--png", metavar="FILE", help="also draw ROC curves and differences into FILE")
    compare.set_defaults(work=_compare)


def _compare(given: argparse.Namespace) -> None:
    """Print the comparison.

    Raises:
        ParamsError: no such revision.
        DataError: a run has no predictions, or the two share no image.
    """
    from glaucoma.base.files import check_place, write_csv
    from glaucoma.dataset.splits import COPIES, read_clusters
    from glaucoma.evaluate.comparison import compare, paired

    first, second, split = given.first, given.second, given.split
    for flag, file in (("--csv", given.csv), ("--png", given.png)):
        check_place(file and Path(file), flag)
    tables = [_predictions(name, split) for name in (first, second)]
    pairs = paired(*tables)
    found = compare(*pairs, clusters=read_clusters() if COPIES.is_file() else None)
    once = pairs[0].drop_duplicates("image")
    abnormal = int((once["label"] == "abnormal").sum())
    of = f"{len(once)} {split} images predicted by both, {abnormal} of them abnormal"
    about = [f"{first} → {second}: {of}"]
    for name, table, pair in zip((first, second), tables, pairs, strict=True):
        left = table["image"].nunique() - len(once)
        if left:
            about.append(f"left out: {left} images predicted only by {name}, or in folds that the other lacks")
        if "fold" not in table and table["image"].duplicated().any():
            several = f"{name} predicts images several times, and has no column fold"
            about.append(f"{several}: their probabilities are averaged")
        about.append(f"{name}: scores are {_of_folds(pair)}")
    if not pairs[0][["fold", "image"]].equals(pairs[1][["fold", "image"]]):
        about.append("the runs' folds differ: each run is scored in its own, and the differences are of their means")
    print(_markdown(found, about) if given.markdown else "\n".join([*about, _readable(found)]))
    if given.csv:
        write_csv(given.csv, found)
    if given.png:
        from glaucoma.report.comparison_figures import comparison_figure

        scores = found.set_index("score").loc[list(SHOWN)].reset_index()
        comparison_figure(scores, pairs, (first, second), given.png, of)


def _of_folds(table: pd.DataFrame) -> str:
    folds = table["fold"].nunique()
    return "of one model" if folds == 1 else f"means over {folds} folds"


def _predictions(name: str, split: str) -> pd.DataFrame:
    """A run's predictions: from a CSV file, the workspace, or what DVC knows of a revision."""
    from glaucoma.base.files import read_csv
    from glaucoma.model.log_odds import with_log_odds
    from glaucoma.predict.revisions import read_at

    here = Path(name) if name.endswith(".csv") else FILES[split]
    try:
        source = here if name == WORKSPACE or name.endswith(".csv") else io.StringIO(read_at(name, here))
        # A file of the user's may have been saved elsewhere, with CR LF at the ends of lines
        ends = {"lineterminator": None} if name.endswith(".csv") else {}
        table = read_csv(source, dtype=TEXTS, **ends)
        table = table if "patient" in table else table.assign(patient="")
        fold = ["fold"] if "fold" in table else []
        return with_log_odds(table.fillna({"patient": ""}))[[*fold, "image", "patient", "label", "log_odds"]]
    except FileNotFoundError:
        raise DataError(f"{here} does not exist", "run `dvc repro`, or restore it with `dvc checkout`") from None
    except (KeyError, ValueError) as error:  # pandas' own reading errors are ValueErrors
        raise DataError(f"{here} of {name} is not a table of predictions: {error}", "run `dvc repro` there") from None


def _readable(found: pd.DataFrame) -> str:
    """The headline scores as a table, and the intervals' verdict in words."""
    lines = [f"{'':<31}{'first':>8}{'second':>8}{'difference':>12}  95 % interval      p"]
    for row in found.set_index("score").loc[list(SHOWN)].itertuples():
        if row.difference != row.difference:
            lines.append(f"  {row.Index:<29}  not defined: images of one class only")
            continue
        p = "" if row.p != row.p else f"{row.p:.3f} {row.test}" if row.p >= 0.001 else f"< 0.001 {row.test}"
        cells = f"{row.first:>8.3f}{row.second:>8.3f}{row.difference:>+12.3f}"
        lines.append(f"  {row.Index:<29}{cells}  {_interval(row)}   {p}".rstrip())
    return "\n".join([*lines, *_said(found)])


def _markdown(found: pd.DataFrame, about: Sequence[str]) -> str:
    """The same for a comment: the verdict, the table, and what it is about."""
    *notes, verdict = _said(found)
    lines = [f"**{verdict[0].upper()}{verdict[1:]}.**", "", "| | first | second | difference | 95 % interval |"]
    lines += ["|---|---|---|---|---|"]
    for row in found.set_index("score").loc[list(SHOWN)].itertuples():
        cells = [f"{row.first:.3f}", f"{row.second:.3f}", f"{row.difference:+.3f}", _interval(row)]
        cells = cells if row.difference == row.difference else ["not defined: images of one class only", "", "", ""]
        lines.append(f"| {' | '.join([row.Index, *cells])} |")
    # Names of runs are their owners': nothing in them is to be read as Markdown
    told = [re.sub(r"([\\`*_{}\[\]<>()#|!~@])", r"\\\1", line) for line in (*about, *notes)]
    return "\n".join([*lines, "", *(f"- {line}" for line in told)])


def _interval(row: Any) -> str:
    from glaucoma.evaluate.intervals import WITHOUT

    if row.low == row.low:
        return f"[{row.low:+.3f}, {row.high:+.3f}]"
    agree = row.difference == 0 and row.Index not in WITHOUT
    return "none: all resamples agree" if agree else "none: too few cases that differ, or no method holds its level"


def _said(found: pd.DataFrame) -> list[str]:
    """What limits the table, and at the end the intervals' verdict."""
    from glaucoma.evaluate.scores import LOWER_IS_BETTER

    lines = []
    verdicts: dict[str, list[str]] = {"better": [], "worse": []}
    for row in found.set_index("score").loc[list(SHOWN)].itertuples():
        if row.low > 0 or row.high < 0:
            verdicts["better" if (row.low > 0) != (row.Index in LOWER_IS_BETTER) else "worse"].append(row.Index)
    if why := next((reason for reason in found["withheld"] if reason), ""):
        lines.append(f"no p by DeLong or McNemar: {why}; the intervals take it into account")
    few, most = int(found.set_index("score").at["auroc", "resamples"]), int(found["resamples"].max())
    if few < most:
        lines.append(f"{most - few} of {most} resamples lack a class in a fold: intervals of AUROC leave them out")
    said = [f"the second is {word} in {', '.join(names)}" for word, names in verdicts.items() if names]
    printed = int(found[found["score"].isin(SHOWN)]["low"].notna().sum())
    if not printed:
        return [*lines, "no difference is shown: no score has an interval"]
    if not said:
        return [*lines, "no difference beyond chance: every interval includes 0"]
    often = f"of {many(printed, 'interval')}; by chance alone one in 20 excludes 0"
    return [*lines, f"{'; '.join(said)} ({often})"]
