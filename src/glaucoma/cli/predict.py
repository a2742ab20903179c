"""`glaucoma predict`: predictions of a trained model or an ensemble for photographs, with warnings about each."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glaucoma.base import paths
from glaucoma.base.errors import DataError, ParamsError, WeightsError, listed, many, shown
from glaucoma.model.log_odds import FLIPS, Threshold, expit

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from glaucoma.predict.inference import Classifier

__all__ = ["add", "add_flips", "answering", "by_name", "number", "thresholds_of"]

THRESHOLDS = ("fixed", "youden", "sensitivity_95", "specificity_95", "least_cost")
HOMES = " and ".join(f"models/{home}" for home in paths.DECISIONS)
WANTED = r"(sensitivity|specificity)_\d+(\.\d+)?"  # the per cent are those of `thresholds` in params.yaml
FIXED = Threshold.of(0.5)
JUDGED = ("valid_", "out_of_fold_")  # before a score of one model, and of the mean of several
MODEL = "a .keras or .onnx file, a folder (ensemble), a name in models/, or REVISION:NAME for another revision"


def add(commands: argparse._SubParsersAction) -> None:
    """Register `predict`."""
    about = "predict the probability of glaucoma for photographs; for research, not a medical device"
    more = (
        "An unreadable file, and a picture of a folder that is not read for its suffix, is named and skipped; the "
        "exit code is then 3. Thresholds by name and the calibration (temperature) are fitted by `dvc repro summary` "
        f"for the models in {HOMES}, and for their mean where enough photographs are predicted by two or more that "
        "have not trained on them."
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
    what = "write an overlay of each photograph to DIR: the regions that speak for abnormal (Grad-CAM; ONNX: occlusion)"
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
        WeightsError: no such model.
    """
    import numpy as np

    from glaucoma.base.files import check_place, near

    check_place(given.out, "--out")
    check_place(given.explain, "--explain", folder=True)
    check_place(given.drift, "--drift", folder=True)
    files, lost = _files(given.images)
    limit = given.threshold and number(given.threshold)  # before TensorFlow starts, which takes seconds
    from glaucoma.predict.homes import decision_for, home_of
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
        from glaucoma.predict.heat import heats

        explain = heats(loaded)
    look = None if given.no_quality else lambda image: _quality(image, needed)
    found = predict_files(loaded, files, flips=given.flips, look=look)
    for i in list(found.faults):
        if not files[i].exists():
            found.faults[i] += near(files[i])
    entry, why = decision_for(models)
    if entry is None and (home_of(models) or any(one.card.get("stage") in paths.DECISIONS for one in loaded)):
        print(f"calibration, and scores of the threshold, are left out: {why}", file=sys.stderr)
    table = _table(files, found, entry, limit)
    if not given.no_quality:
        table["warnings"] = _warnings(found)
    if explain:
        rows = [row for row in range(len(files)) if row not in found.faults]
        from glaucoma.report.heat_figures import explain_files

        written = explain_files(loaded, *explain, files, rows, given.explain)
        print(f"{many(len(written), 'overlay')} written to {shown(given.explain)}/", file=sys.stderr)
    judged, where = (None, "") if entry is None else _judged(models, limit)
    for score, (right, of, _) in (judged or {}).items():
        table[f"{JUDGED[len(models) > 1]}{score}"] = right / of if of else np.nan
    said = "" if judged is None else _sentence(judged, where)
    if entry is not None:
        chosen = given.threshold is not None and number(given.threshold) is None
        said += _about(entry, chosen=chosen)
    _show(table, limit, given.format, given.out, said)
    if given.drift:  # may be refused, which takes no prediction away
        _drift(found, given.drift)
    if not found.faults:
        return DataError.exit_code if lost else 0
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


def _files(names: list[str]) -> tuple[list[Path], bool]:
    """The photographs that are named or lie in folders; whether pictures in these are passed over, which is told."""
    from glaucoma.dataset.walk import READ, by_suffix, pictures, walk

    files: list[Path] = []
    others: list[Path] = []
    for name in names:
        if name == "-":
            files += [Path(line) for line in sys.stdin.read().splitlines() if line]
        elif Path(name).is_dir():
            found = walk(Path(name), strict=False)
            files += found.images
            others += found.others
        else:
            files.append(Path(name))
    where = ", ".join(map(shown, names))
    passed = f"{many(len(others), 'file')} passed over for the suffix: {by_suffix(others)} ({READ})"
    lost = pictures(others)
    if not files:
        remedy = "save them as PNG or JPEG" if lost else "give images, or a folder that has some"
        raise DataError(f"no photographs in {where}{f'; {passed}' if others else ''}", remedy)
    if others:
        print(f"{where}: {passed}", file=sys.stderr)
    return files, bool(lost)


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
    from glaucoma.predict.homes import decision_for

    entry, why = decision_for(models)
    if entry and threshold not in entry["thresholds"]:
        remedy = (
            f"give a number, or one of {', '.join(entry['thresholds'])}; for others, set `thresholds` in params.yaml"
        )
        raise ParamsError(f"no threshold {threshold} was fitted", remedy)
    limit = entry["thresholds"][threshold] if entry else None
    if entry is None or limit is None:
        why = why or "one class has no image to fit it on"
        of = "this model" if len(models) == 1 else "the mean of these models"
        raise ParamsError(f"there is no threshold {threshold} for {of}: {why}", "give a number from 0 to 1")
    return Threshold(limit, entry["probabilities"][threshold])


def _table(files: Sequence[Path | str], found: Any, entry: dict[str, Any] | None, limit: Threshold) -> pd.DataFrame:
    import numpy as np
    import pandas as pd

    from glaucoma.evaluate.decisions import calibrated

    log_odds = found.log_odds
    table = pd.DataFrame({"image": [str(file) for file in files], "probability": expit(log_odds)})
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


def _judged(models: list[Path], limit: Threshold) -> tuple[dict[str, tuple[int, int, str]], str]:
    """Count correct decisions on images that taught these models nothing.

    Of one model these are its fold's `valid`; of several, images that two or more of them have not trained on, decided
    by the mean of those.

    Returns:
        By score: correct ones, their total, and their class; empty if there are no predictions. And where, in words.
    """
    from glaucoma.evaluate.decisions import out_of_fold
    from glaucoma.evaluate.scores import ABNORMAL, NORMAL
    from glaucoma.predict.homes import home_of

    home = home_of(models)
    if home is None or not home.valid.is_file():
        return {}, ""
    folds = [int(model.stem.removeprefix("fold")) for model in models]
    try:
        told = home.predictions(folds)
    except (KeyError, ValueError) as error:  # pandas' own reading errors are ValueErrors
        what = f"{shown(home.valid)} is no table of predictions: {error}"
        raise DataError(what, "make it again: `dvc repro -f summary controls`") from None
    if set(told["fold"]) != set(folds):
        return {}, ""
    if len(models) == 1:
        told, where = told[told["split"] == "valid"], "on valid at this threshold, this model"
    else:
        told = out_of_fold(told)
        counts = f"{told['models'].min()} to {told['models'].max()}" if len(told) else "none"
        where = f"at this threshold, the mean of those models that have not trained on a photograph ({counts} of them)"
    abnormal, called = told["label"] == ABNORMAL, told["log_odds"] >= limit.log_odds
    return {
        "sensitivity": (int((abnormal & called).sum()), int(abnormal.sum()), ABNORMAL),
        "specificity": (int((~abnormal & ~called).sum()), int((~abnormal).sum()), NORMAL),
    }, where


def _sentence(judged: dict[str, tuple[int, int, str]], where: str) -> str:
    if not judged:
        return "scores of this threshold are not known: run `dvc repro summary`\n"
    shares = [
        f"{score} {right / of:.3f} ({right} of {of} {what})" if of else f"{score} not defined (no {what} image)"
        for score, (right, of, what) in judged.items()
    ]
    return f"{where}: {', '.join(shares)}\n"


def _about(entry: dict[str, Any], *, chosen: bool) -> str:
    """What is to be known of thresholds and calibration, a line each."""
    from glaucoma.evaluate.decisions import bound_note

    notes = [bound_note(entry)]
    if "ensemble_of" in entry:
        notes[:0] = [f"calibration fitted on {entry['ensemble_of']}"]
        notes[:0] = ["the threshold was chosen on these photographs, which flatters it a little"] if chosen else []
    return "".join(f"{note}\n" for note in notes if note)


def _show(table: pd.DataFrame, limit: Threshold, form: str, out: Path | None, judged: str) -> None:
    """Print or write the table. Names are those of the files in CSV and JSON, and printable in the table for people."""
    from glaucoma.base.files import atomic_path

    if form == "csv":
        content = os.fsencode(table.to_csv(index=False, lineterminator="\n"))
    elif form == "json":
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        text = json.dumps(rows, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        # Stray bytes of names, which UTF-8 has no place for, as the escapes that every JSON reader knows
        content = re.sub("[\udc80-\udcff]", lambda found: f"\\u{ord(found[0]):x}", text).encode()
    else:
        told = ["threshold", *(name for name in table if name.startswith(JUDGED))]  # below the table, once
        table = table.assign(image=table["image"].map(shown)).drop(columns=told)
        text = table.round(3).fillna("").to_string(index=False) + "\n"
        text += f"decision: abnormal where the probability is at least {limit.probability:.3g}"
        text += f" (log-odds {limit.log_odds:.3g})\n{judged}"
        content = text.encode()
        if out is None:
            sys.stdout.write(text)
            return
    if out is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    with atomic_path(out) as temporary:
        temporary.write_bytes(content)


def thresholds_of(models: list[Path], loaded: Sequence[Classifier]) -> dict[str, Threshold]:
    """The thresholds that these models have, by name; the first decides where nobody chooses.

    Raises:
        DataError: those that `summary` fitted are of an older release.
    """
    from glaucoma.predict.homes import decision_for

    entry = decision_for(models)[0] or {"thresholds": {}}
    own = {"own": loaded[0].threshold} if len(loaded) == 1 else {}
    fitted = {name: by_name(name, models) for name, limit in entry["thresholds"].items() if limit is not None}
    return {**own, "fixed": FIXED, **fitted}


def answering(
    models: list[Path], loaded: Sequence[Classifier], max_megapixels: float
) -> Callable[[Sequence[tuple[str, bytes]], Threshold], list[dict[str, Any]]]:
    """What tells of photographs held in memory, given with their names, what `--format json` does (not valid_…)."""
    from glaucoma.predict.homes import decision_for
    from glaucoma.predict.inference import predict_files

    entry, needed = decision_for(models)[0], max(one.size for one in loaded)

    def answer(photographs: Sequence[tuple[str, bytes]], limit: Threshold) -> list[dict[str, Any]]:
        contents = [content for _, content in photographs]
        look = partial(_quality, needed=needed)
        found = predict_files(loaded, contents, max_megapixels=max_megapixels, look=look)
        table = _table([name for name, _ in photographs], found, entry, limit)
        table["warnings"] = _warnings(found)
        return json.loads(table.to_json(orient="records", double_precision=15))

    return answer
