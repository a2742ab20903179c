"""`glaucoma predict`: predictions of a trained model or an ensemble for photographs, with warnings about each."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glaucoma.base import paths
from glaucoma.base.errors import DataError, ParamsError, WeightsError, listed, many, shown
from glaucoma.model.log_odds import FLIPS, Threshold, expit

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

__all__ = ["add", "add_flips", "by_name", "number"]

THRESHOLDS = ("fixed", "youden", "sensitivity_95", "specificity_95", "least_cost")
HOMES = " and ".join(f"models/{home}" for home in paths.DECISIONS)
WANTED = r"(sensitivity|specificity)_\d+(\.\d+)?"  # the per cent are those of `thresholds` in params.yaml
FIXED = Threshold.of(0.5)
MODEL = "a .keras or .onnx file, a folder (ensemble), a name in models/, or REVISION:NAME for another revision"


def add(commands: argparse._SubParsersAction) -> None:
    """Register `predict`."""
    about = "predict the probability of glaucoma for photographs; for research, not a medical device"
    more = (
        "An unreadable file is named and skipped; the exit code is then 3. Thresholds by name and the calibration "
        f"(temperature) are fitted by `dvc repro summary` for the models in {HOMES}."
    )
    predict = commands.add_parser("predict", help=about, description=f"{about[0].upper()}{about[1:]}. {more}")
    predict.add_argument("model", metavar="MODEL", help=MODEL)
    predict.add_argument(
        "images", nargs="+", metavar="IMAGE|DIR|-", help="photographs, folders, or - (names from stdin)"
    )
    predict.add_argument("--format", choices=("table", "csv", "json"), default="table", help="default: %(default)s")
    predict.add_argument("--out", type=Path, metavar="FILE", help="write to FILE instead of the terminal")
    names = ", ".join(THRESHOLDS)
    what = f"a number, 0–1, or one of {names} (default: the model's own, or fixed, i.e. {FIXED.probability})"
    predict.add_argument("--threshold", metavar="T", help=what)
    predict.add_argument("--no-quality", action="store_true", help="skip the quality checks of the photographs")
    what = "write an overlay of each photograph to DIR: the regions that speak for abnormal (Grad-CAM)"
    predict.add_argument("--explain", type=Path, metavar="DIR", help=what)
    add_flips(predict)
    what = "write drift.csv and drift.png to DIR: how the photographs differ from those the model was trained on"
    predict.add_argument("--drift", type=Path, metavar="DIR", help=what)
    predict.set_defaults(work=_predict)


def add_flips(command: argparse.ArgumentParser) -> None:
    """Register `--flips`."""
    what = "average each prediction over flips of the photograph (default: as the model was scored, crossval.flips)"
    command.add_argument("--flips", choices=tuple(FLIPS), help=what)


def _predict(given: argparse.Namespace) -> int:
    """Predict, and name the files that could not be read.

    Raises:
        ParamsError: an invalid threshold, or one that these models do not have.
        DataError: no photographs.
        WeightsError: no such model, or one that cannot be explained.
    """
    import numpy as np

    files = _files(given.images)
    limit = given.threshold and number(given.threshold)  # before TensorFlow starts, which takes seconds
    from glaucoma.predict.inference import find_models, load_classifier, predict_files, warned

    models = find_models(given.model)
    if limit is None and given.threshold:
        limit = by_name(given.threshold, models)
    loaded = [load_classifier(path) for path in models]
    if told := warned(loaded):
        print(f"WARNING: {told}", file=sys.stderr)
    if limit is None:
        limit = loaded[0].threshold if len(loaded) == 1 else FIXED
    needed = max(one.size for one in loaded)
    explain = None
    if given.explain:
        if given.explain.exists() and not given.explain.is_dir():
            raise ParamsError(f"--explain is {shown(given.explain)}, which is not a folder", "give a folder")
        from glaucoma.report.explain import explain_files, explainers

        explain = explainers(loaded)  # before the work, since other heads are refused
    look = None if given.no_quality else lambda image: _quality(image, needed)
    found = predict_files(loaded, files, flips=given.flips, look=look)
    entry = _entry(models)
    table = _table(files, found, entry, limit)
    if not given.no_quality:
        table["warnings"] = _warnings(found)
    if explain:
        rows = [row for row in range(len(files)) if row not in found.faults]
        written = explain_files(loaded, explain, files, rows, given.explain)
        print(f"{many(len(written), 'overlay')} written to {shown(given.explain)}/", file=sys.stderr)
    if given.drift:
        _drift(found, given.drift)
    judged = {} if entry is None else _judged(models, limit)
    for score, (right, of, _) in judged.items():
        table[f"valid_{score}"] = right / of if of else np.nan
    _show(table, limit, given.format, given.out, "" if entry is None else _sentence(len(models), judged))
    if not found.faults:
        return 0
    faults = [f"{shown(files[i])}: {why}" for i, why in sorted(found.faults.items())]
    print(f"{many(len(faults), 'file')} of {len(files)} cannot be read:{listed(faults, most=20)}", file=sys.stderr)
    return DataError.exit_code


def _drift(found: Any, folder: Path) -> None:
    """Write how photographs differ from the training images.

    Raises:
        WeightsError: the models' cards do not say what these look like.
        DataError: fewer than two photographs can be read.
    """
    from glaucoma.base.files import write_csv
    from glaucoma.model.likeness import drift, drift_line
    from glaucoma.report.review_figures import drift_figure

    if not found.likenesses:
        what = "the model's card does not say what its training images look like"
        raise WeightsError(what, "leave out --drift, or train the model again")
    table = drift(found.likenesses, found.traits)
    if table.empty:
        raise DataError("a drift needs two photographs that can be read", "give more, or leave out --drift")
    write_csv(folder / "drift.csv", table)
    drift_figure(table, folder / "drift.png", "These photographs and the training images")
    print(f"{drift_line(table)}: written to {shown(folder)}/", file=sys.stderr)


def _files(names: list[str]) -> list[Path]:
    from glaucoma.dataset.walk import walk

    files: list[Path] = []
    for name in names:
        if name == "-":
            files += [Path(line) for line in sys.stdin.read().splitlines() if line]
        elif Path(name).is_dir():
            files += walk(Path(name), strict=False).images
        else:
            files.append(Path(name))
    if not files:
        raise DataError(f"no photographs in {', '.join(map(shown, names))}", "give images, or a folder that has some")
    return files


def number(threshold: str) -> Threshold | None:
    """A threshold given as a number, or `fixed`; None for any other name.

    Raises:
        ParamsError: neither a number from 0 to 1 nor a name.
    """
    if threshold == "fixed":
        return FIXED
    if threshold in THRESHOLDS or re.fullmatch(WANTED, threshold):
        return None
    try:
        probability = float(threshold)
    except ValueError:
        probability = -1.0
    if not 0 <= probability <= 1:
        what = f"--threshold is {shown(threshold)}"
        raise ParamsError(what, f"give a number from 0 to 1, or one of {', '.join(THRESHOLDS)}")
    return Threshold.of(probability)


def by_name(threshold: str, models: list[Path]) -> Threshold:
    """The threshold of that name that `summary` fitted for these models.

    Raises:
        ParamsError: there is none.
    """
    entry = _entry(models)
    limit = entry and entry["thresholds"].get(threshold)
    if entry and threshold not in entry["thresholds"]:
        remedy = (
            f"give a number, or one of {', '.join(entry['thresholds'])}; for others, set `thresholds` in params.yaml"
        )
        raise ParamsError(f"no threshold {threshold} was fitted", remedy)
    if limit is None:
        remedy = f"give a number; names need `dvc repro summary` and a model in {HOMES}"
        raise ParamsError(f"there is no threshold {threshold} for this model", remedy)
    return Threshold(limit, entry["probabilities"][threshold])


def _entry(models: list[Path]) -> dict[str, Any] | None:
    """The thresholds and calibration fitted for these models: of the fold, or of all folds pooled; else None.

    Raises:
        DataError: they are of an older release.
    """
    from glaucoma.base.files import read_json

    home = _home(models)
    if home is None or not paths.DECISIONS[home].is_file():
        return None
    decisions = read_json(paths.DECISIONS[home])
    if "probabilities" not in decisions["pooled"]:
        what = f"{paths.DECISIONS[home]} is of an older release, whose thresholds are no log-odds"
        raise DataError(what, "run `dvc repro summary`")
    if len(models) > 1:
        return decisions["pooled"]
    return decisions["folds"].get(models[0].stem.removeprefix("fold"))


def _home(models: list[Path]) -> str | None:
    """The folder in models/ that contains all of them, if thresholds are fitted for it."""
    homes = {model.resolve().parent for model in models}
    return next((home for home in paths.DECISIONS if homes == {(paths.MODELS / home).resolve()}), None)


def _table(files: list[Path], found: Any, entry: dict[str, Any] | None, limit: Threshold) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    from glaucoma.evaluate.decisions import calibrated

    log_odds = found.log_odds
    table = pd.DataFrame({"image": [shown(file) for file in files], "probability": expit(log_odds)})
    table["log_odds"] = log_odds
    if entry is not None:
        whole = ~np.isnan(log_odds)
        table["calibrated"] = np.nan
        table.loc[whole, "calibrated"] = calibrated(log_odds[whole], entry, "temperature")
    if len(found.each) > 1:
        table["spread"] = expit(found.each).std(axis=0, ddof=1)  # of the models' probabilities
    table["threshold"] = limit.probability
    decided = np.where(log_odds >= limit.log_odds, "abnormal", "normal").astype(object)
    decided[np.isnan(log_odds)] = ""
    table["decision"] = decided
    table["fault"] = [found.faults.get(i, "") for i in range(len(files))]
    return table


def _warnings(found: Any) -> list[str]:
    """The faults of each photograph; out of distribution by the median of the models."""
    import numpy as np

    known = ~np.isnan(found.unlike).all(axis=0)
    far = np.zeros(len(known))
    far[known] = np.nanmedian(found.unlike[:, known], axis=0)
    unlike = [f"out of distribution: {x:.1f} × the training set's limit" if x > 1 else "" for x in far]
    return ["; ".join(filter(None, both)) for both in zip(found.notes, unlike, strict=True)]


def _quality(image: Image.Image, needed: int) -> str:
    from glaucoma.photos.quality import complaints, quality_of

    return "; ".join(complaints(quality_of(image), *image.size, needed).values())


def _judged(models: list[Path], limit: Threshold) -> dict[str, tuple[int, int, str]]:
    """Count correct decisions on `valid`, on which neither the folds' models nor their thresholds were fitted.

    Returns:
        By score: correct ones, their total, and their class; empty if there are no predictions.
    """
    from glaucoma.evaluate.controls import read_controls
    from glaucoma.evaluate.scores import ABNORMAL, NORMAL
    from glaucoma.evaluate.summary import read_folds

    try:
        folds = [int(model.stem.removeprefix("fold")) for model in models]
        if _home(models) == "controls":
            told = read_controls(folds)
            valid = told[(told["control"] == paths.REGRESSION) & (told["split"] == "valid")]
        else:
            valid = read_folds(folds).pooled("valid")
    except (DataError, ValueError):
        return {}
    abnormal, called = valid["label"] == ABNORMAL, valid["log_odds"] >= limit.log_odds
    return {
        "sensitivity": (int((abnormal & called).sum()), int(abnormal.sum()), ABNORMAL),
        "specificity": (int((~abnormal & ~called).sum()), int((~abnormal).sum()), NORMAL),
    }


def _sentence(models: int, judged: dict[str, tuple[int, int, str]]) -> str:
    if not judged:
        return "scores of this threshold on valid are not known: run `dvc repro summary`\n"
    shares = [
        f"{score} {right / of:.3f} ({right} of {of} {what})" if of else f"{score} not defined (no {what} image)"
        for score, (right, of, what) in judged.items()
    ]
    whose = "this model" if models == 1 else f"the {models} models separately, pooled (not their mean)"
    return f"on valid at this threshold, {whose}: {', '.join(shares)}\n"


def _show(table: pd.DataFrame, limit: Threshold, form: str, out: Path | None, judged: str) -> None:
    from glaucoma.base.files import atomic_path

    if form == "csv":
        text = table.to_csv(index=False, lineterminator="\n")
    elif form == "json":
        text = table.to_json(orient="records", indent=2, force_ascii=False, double_precision=15) + "\n"
    else:
        told = ["threshold", *(name for name in table if name.startswith("valid_"))]  # below the table, once
        text = table.drop(columns=told).round(3).fillna("").to_string(index=False) + "\n"
        text += f"decision: abnormal where the probability is at least {limit.probability:.3g}"
        text += f" (log-odds {limit.log_odds:.3g})\n{judged}"
    if out is None:
        sys.stdout.write(text)
        return
    with atomic_path(out) as temporary:
        temporary.write_text(text, encoding="utf-8")
