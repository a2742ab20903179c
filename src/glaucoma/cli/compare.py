"""`glaucoma compare`: two runs on the same images, with intervals and tests."""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import TYPE_CHECKING

from glaucoma.base import paths
from glaucoma.base.errors import DataError, ParamsError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["add"]

WORKSPACE = "workspace"
FILES = {"test": paths.SUMMARY / "predictions.csv", "valid": paths.SUMMARY / "predictions_valid.csv"}
SHOWN = ("sensitivity", "specificity", "auroc", "sensitivity_at_95_specificity", "f1_macro", "accuracy", "brier", "ece")
TEXTS = dict.fromkeys(("image", "patient", "source", "label", "predicted"), str)


def add(commands: argparse._SubParsersAction) -> None:
    """Register `compare`."""
    about = "compare the scores of two runs on the images they share: differences with intervals and tests"
    more = (
        "A run is a Git revision (HEAD~1, a tag, a branch), a DVC experiment, `workspace`, or a CSV of predictions "
        "with columns image, label, log_odds and optionally patient. Results of a revision come from DVC's cache "
        "(if they are missing: `dvc fetch --all-commits`). 95 % intervals: paired bootstrap over patients; copies of a "
        "photograph, as found by this project's audit, count as one. They cover the sampling of images, not the "
        "variation between seeds. p: DeLong's test for auroc, McNemar's exact test for accuracy. An image that "
        "several folds predict counts once, with the mean of its probabilities."
    )
    compare = commands.add_parser("compare", help=about, description=f"{about[0].upper()}{about[1:]}. {more}")
    compare.add_argument("first", metavar="REV1", help="the first run")
    compare.add_argument(
        "second", metavar="REV2", nargs="?", default=WORKSPACE, help="the second run (default: %(default)s)"
    )
    compare.add_argument(
        "--split", choices=tuple(FILES), default="test", help="images to compare on (default: %(default)s)"
    )
    compare.add_argument("--csv", metavar="FILE", help="also write all scores to FILE")
    compare.set_defaults(work=lambda given: _compare(given.first, given.second, given.split, given.csv))


def _compare(first: str, second: str, split: str, file: str | None) -> None:
    """Print the comparison.

    Raises:
        ParamsError: no such revision.
        DataError: a run has no predictions, or the two share no image.
    """
    from glaucoma.base.files import write_csv
    from glaucoma.dataset.splits import COPIES, read_clusters
    from glaucoma.evaluate.comparison import compare, paired

    tables = [_predictions(name, split) for name in (first, second)]
    pairs = paired(*tables)
    found = compare(pairs, clusters=read_clusters() if COPIES.is_file() else None)
    abnormal = int((pairs["label"] == "abnormal").sum())
    print(f"{first} → {second}: {len(pairs)} {split} images predicted by both, {abnormal} of them abnormal")
    for name, table in zip((first, second), tables, strict=True):
        left = table["image"].nunique() - len(pairs)
        if left:
            print(f"left out: {left} images predicted only by {name}")
        if len(table) > table["image"].nunique():
            print(f"{name} predicts images in several folds: their probabilities are averaged")
    print(_readable(found))
    groups = int(found["groups"].iat[0])
    if groups < len(pairs):
        of = f"the {len(pairs)} images are of {groups} patients or photographs"
        print(f"use the intervals: {of}, but p assumes independent images and is too small")
    if file:
        write_csv(file, found)


def _predictions(name: str, split: str) -> pd.DataFrame:
    """A run's predictions: from a CSV file, the workspace, or what DVC knows of a revision."""
    from glaucoma.base.files import read_csv
    from glaucoma.model.log_odds import with_log_odds

    here = Path(name) if name.endswith(".csv") else FILES[split]
    try:
        source = here if name == WORKSPACE or name.endswith(".csv") else io.StringIO(_at_revision(name, here))
        table = read_csv(source, dtype=TEXTS)
        table = table if "patient" in table else table.assign(patient="")
        return with_log_odds(table.fillna({"patient": ""}))[["image", "patient", "label", "log_odds"]]
    except FileNotFoundError:
        raise DataError(f"{here} does not exist", "run `dvc repro`, or restore it with `dvc checkout`") from None
    except (KeyError, ValueError) as error:  # pandas' own reading errors are ValueErrors
        raise DataError(f"{here} of {name} is not a table of predictions: {error}", "run `dvc repro` there") from None


def _at_revision(revision: str, path: Path) -> str:
    """The text of a file that DVC tracks, as it was at a revision."""
    import dvc.api
    from dvc.exceptions import DvcException
    from dvc.scm import RevError
    from scmrepo.exceptions import SCMError

    try:
        return dvc.api.read(path.as_posix(), rev=revision, encoding="utf-8")
    except (RevError, SCMError):
        remedy = "list them with `git log --oneline` and `dvc exp list`"
        raise ParamsError(f"{revision} is not a Git revision, experiment or CSV file", remedy) from None
    except (DvcException, OSError) as error:
        what = f"{path} of {revision} is not available: {error}"
        raise DataError(what, "`dvc fetch --all-commits`, or run `dvc repro` at that revision") from None


def _readable(found: pd.DataFrame) -> str:
    """The headline scores as a table, and the intervals' verdict in words."""
    from glaucoma.evaluate.scores import LOWER_IS_BETTER

    lines = [f"{'':<31}{'first':>8}{'second':>8}{'difference':>12}  95 % interval      p"]
    verdicts: dict[str, list[str]] = {"better": [], "worse": []}
    for row in found.set_index("score").loc[list(SHOWN)].itertuples():
        if row.difference != row.difference:
            lines.append(f"  {row.Index:<29}  not defined: images of one class only")
            continue
        p = "" if row.p != row.p else f"{row.p:.3f} {row.test}" if row.p >= 0.001 else f"< 0.001 {row.test}"
        interval = f"[{row.low:+.3f}, {row.high:+.3f}]"
        cells = f"{row.first:>8.3f}{row.second:>8.3f}{row.difference:>+12.3f}"
        lines.append(f"  {row.Index:<29}{cells}  {interval}   {p}".rstrip())
        if row.low > 0 or row.high < 0:
            verdicts["better" if (row.low > 0) != (row.Index in LOWER_IS_BETTER) else "worse"].append(row.Index)
    said = [f"the second is {word} in {', '.join(names)}" for word, names in verdicts.items() if names]
    if not said:
        return "\n".join([*lines, "no difference beyond chance: every interval includes 0"])
    often = f"of {len(SHOWN)} intervals; by chance alone one in 20 excludes 0"
    return "\n".join([*lines, f"{'; '.join(said)} ({often})"])
