"""The study that a fold's model belongs to: its project, the folds asked for there, and what was fitted for them.

A model belongs where its file or a link to it lies, not where links lead in the end (with `cache.type symlink` that is
DVC's cache), and whatever the working folder is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from glaucoma.base import paths
from glaucoma.base.errors import DataError, ParamsError, WeightsError, listed, shown
from glaucoma.base.files import read_csv, read_json
from glaucoma.base.progress import say
from glaucoma.base.yaml12 import read_yaml
from glaucoma.model.log_odds import with_log_odds
from glaucoma.model.sidecar import sidecar_of

__all__ = ["VALID", "Home", "decision_for", "home_of", "of_one_study"]

VALID = {"crossval": paths.SUMMARY / "predictions_valid.csv", "controls": paths.CONTROLS / "predictions.csv"}
LINKS = 40  # that are followed, as Linux does
# What the cards of one study's folds have in common
STUDY = ("input", "backbone", "head", "regression", "configuration", "model", "warm_start", "nested", "seed")
ALL_FOLDS = "or name single folds, e.g. {}/fold0"


@dataclass(frozen=True)
class Home:
    """A folder of models, a network per fold, for which thresholds are fitted.

    Attributes:
        root: the project, or a revision of it below .state/.
        name: of the folder in models/, a key of `paths.DECISIONS`.
    """

    root: Path
    name: str

    @property
    def folder(self) -> Path:
        """Of the models."""
        return self.root / paths.MODELS / self.name

    @property
    def decision(self) -> Path:
        """Thresholds and calibration."""
        return self.root / paths.DECISIONS[self.name]

    @property
    def valid(self) -> Path:
        """Predictions of the folds, those on `valid` among them."""
        return self.root / VALID[self.name]

    def predictions(self, folds: Sequence[int]) -> pd.DataFrame:
        """Predictions of these folds on `test` and `valid`: columns fold, split, image, label, log_odds and others.

        Raises:
            KeyError, ValueError: a file is no table of predictions.
        """
        files = {"valid": self.valid}
        if self.name == "crossval":
            files["test"] = self.root / paths.SUMMARY / "predictions.csv"
        dtype = {"image": str, "patient": str}
        tables = {split: read_csv(file, dtype=dtype) for split, file in files.items() if file.is_file()}
        if self.name == "controls":
            found = tables["valid"][tables["valid"]["control"] == paths.REGRESSION]
        else:
            found = pd.concat([table.assign(split=split) for split, table in tables.items()], ignore_index=True)
        return with_log_odds(found[found["fold"].isin(folds)])


def home_of(models: Sequence[Path]) -> Home | None:
    """The one home of all these models; None of others."""
    homes = {_home(Path(model)) for model in models}
    return homes.pop() if len(homes) == 1 else None


def _home(model: Path) -> Home | None:
    for place in _places(model):
        for folder in (*_places(place.parent), Path(os.path.realpath(place.parent))):
            folder = Path(os.path.abspath(folder))  # noqa: PTH100 - links are not followed
            if folder.name in paths.DECISIONS and folder.parent.name == paths.MODELS.name:
                root = Path(os.path.relpath(folder.parent.parent))
                return Home(folder.parent.parent if os.pardir in root.parts else root, folder.name)
            for name in paths.DECISIONS:  # models/ may be a link to a larger disk
                ours = paths.MODELS / name
                if ours.is_dir() and folder.is_dir() and ours.samefile(folder):
                    return Home(Path(), name)
    return None


def _places(path: Path) -> Iterator[Path]:
    """The path, and what it links to, link by link."""
    for _ in range(LINKS):
        yield path
        if not path.is_symlink():
            return
        path = path.parent / path.readlink()


def of_one_study(folder: Path, models: Sequence[Path]) -> list[Path]:
    """Of the models in a folder, those of the folds that its project asks for; all of them where it is no home.

    Models of folds that left crossval.folds stay on disk: DVC does not remove them. They are named, and left out.

    Raises:
        WeightsError: a fold that is asked for is missing, or folds were not trained alike.
    """
    home = home_of([folder / "fold0.keras"])
    asked = _asked_folds(home.root / paths.PARAMS) if home else None
    if home is None or asked is None:
        return list(models)
    wanted = {f"fold{fold}" for fold in asked}
    kept = [model for model in models if model.stem in wanted]
    strange = [model.name for model in models if model not in kept]
    if strange:
        say(f"{shown(folder)}: crossval.folds does not ask for {', '.join(map(shown, strange))}: left out")
    missing = sorted(wanted - {model.stem for model in kept}, key=lambda stem: int(stem.removeprefix("fold")))
    if missing:
        what = f"{shown(folder)} lacks {', '.join(missing)}, which crossval.folds asks for"
        raise WeightsError(what, f"run `dvc repro`, {ALL_FOLDS.format(home.name)}")
    differing = _trained_otherwise(kept)
    if differing:
        what = f"{shown(folder)} holds models of different trainings:{listed(differing)}"
        raise WeightsError(what, f"bring all of them up to date with `dvc repro`, {ALL_FOLDS.format(home.name)}")
    return kept


def _asked_folds(params: Path) -> list[int] | None:
    """crossval.folds of a project, perhaps of another release; None where there is none that can be read."""
    try:
        folds = read_yaml(params)["crossval"]["folds"]
    except (ParamsError, KeyError, TypeError):
        return None
    return folds if isinstance(folds, list) and folds else None


def _trained_otherwise(models: Sequence[Path]) -> list[str]:
    """What sets models apart from the first, by their sidecars; damaged ones are refused where models are loaded."""
    cards: list[dict[str, Any]] = []
    for model in models:
        try:
            card = read_json(sidecar_of(model))
        except (OSError, ValueError):
            card = {}
        cards.append(card if isinstance(card, dict) else {})
    first, found = cards[0], []
    for model, card in zip(models[1:], cards[1:], strict=True):
        for key in STUDY:
            if card and first and card.get(key) != first.get(key):
                theirs, ours = shown(str(card.get(key))), shown(str(first.get(key)))
                found.append(f"{model.name}: {key} {theirs}; {models[0].name}: {ours}")
                break
    return found


def decision_for(models: Sequence[Path]) -> tuple[dict[str, Any] | None, str]:
    """The thresholds and calibration fitted for these models: of the fold, or of the mean of all folds' models.

    Returns:
        An ENTRY of decision.json (see glaucoma.evaluate.decisions), of a mean with `ensemble_of`, and ""; or None and
        why there is none.

    Raises:
        DataError: they are of an older release.
    """
    home = home_of(models)
    if home is None:
        return None, "they are fitted by `dvc repro summary` for the models of " + " and ".join(
            f"{paths.MODELS / name}" for name in paths.DECISIONS
        )
    if not home.decision.is_file():
        return None, f"{shown(home.decision)} does not exist; it is made by `dvc repro summary`"
    found = read_json(home.decision)
    if "ensemble_of" not in found:
        raise DataError(f"{shown(home.decision)} is of an older release", "run `dvc repro summary`")
    folds = {model.stem.removeprefix("fold") for model in models}
    there = set(found["folds"])
    if not folds <= there or (len(folds) > 1 and folds != there):
        has, wants = (", ".join(sorted(some, key=lambda fold: (len(fold), fold))) for some in (there, folds))
        what = f"{shown(home.decision)} is of folds {has}, and these are {shown(wants)}"
        return None, f"{what}; `dvc repro summary` brings it up to date"
    if len(folds) == 1:
        return found["folds"][folds.pop()], ""
    if found["ensemble"] is None:
        return None, found["ensemble_of"]
    return {**found["ensemble"], "ensemble_of": found["ensemble_of"]}, ""
