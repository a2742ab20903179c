"""Paths of all results, relative to the project's root. `dvc.yaml` lists the same names; a test compares them."""

from __future__ import annotations

from pathlib import Path

PARAMS = Path("params.yaml")

SAMPLE = Path("data/sample")  # the synthetic photographs, made when data.root points there
TRUTH = "truth.csv"  # beside them: the exact measures of each eye

INDEX = Path("data/index.csv")  # one row per listed file
FOLDS = Path("data/folds.csv")  # the split of each image in each fold; a copy beside the photographs freezes the folds
LEFT_OUT = Path("data/left_out.csv")  # every file below data.root that the index does not list, and why
PIXELS = Path("data/pixels.npy")  # uint8, (images, size, size, 3), one row per distinct image
PIXELS_TABLE = Path("data/pixels.csv")  # image id of each row of PIXELS
CROPS = Path("data/crops.csv")  # crop boxes of each image of PIXELS, if data.crop is set
BACKBONE = Path("models/backbone/backbone.keras")

METRICS = Path("metrics")
TIMING = METRICS / "timing"
SEARCH_TABLES = METRICS / "search"
FOLD_METRICS = METRICS / "crossval"
SUMMARY_METRICS = METRICS / "summary.json"
INTERVALS = METRICS / "intervals.json"
CONTROLS_METRICS = METRICS / "controls.json"
CONTROLS_TIMING = TIMING / "controls.json"

REPORTS = Path("reports")
EXPLORE = REPORTS / "explore"
AUDIT = REPORTS / "audit"
PROBES = AUDIT / "probes.csv"  # how well traits other than the eye predict the label
SHORTCUT = AUDIT / "shortcut.csv"  # the best of these traits, image by image
EXPLAIN = REPORTS / "explain"
CONTROLS = REPORTS / "controls"
NEIGHBOURS = CONTROLS / "neighbours.csv"  # the photographs nearest to each in the frozen backbone's feature space
REGRESSION = "regression_average"  # the control that is also a model: models/controls/
FOLD_REPORTS = REPORTS / "crossval"
SUMMARY = REPORTS / "summary"
DECISIONS = {  # files that a prediction needs beside the models of a folder in MODELS
    "crossval": SUMMARY / "decision.json",
    "controls": SUMMARY / "decision_controls.json",
}
COST_QUALITY = SUMMARY / "cost_quality.csv"  # of every rung of the ladder
FIGURES = REPORTS / "figures"  # all of them; drawn by the report
DATA_FIGURES = FIGURES / "data"  # of the photographs, and of what the audit found
PAGE = REPORTS / "index.html"
MODEL_CARD = REPORTS / "MODEL_CARD.md"
CHECKLIST = REPORTS / "CHECKLIST.md"

MODELS = Path("models")
STATE = Path(".state")  # caches and finished trials; safe to delete
LOOKS = STATE / "looks.npz"  # measurements of each image, shared by index and audit

FREE = ("model4", "model5")  # searches outside `dvc repro`, each with its own backbone and head


def public(path: str) -> str:
    """A path as it may be published: in the project as it is, elsewhere the last name, without anybody's folders."""
    elsewhere = path.startswith(("/", "~")) or ".." in Path(path).parts
    return Path(path).name if elsewhere else path


def search_files(stage: str) -> dict[str, Path]:
    """The files of a search stage (`stage1` …): model, sidecar, metrics, table, report folder, timing."""
    return {
        "model": MODELS / f"{stage}.keras",
        "metrics": METRICS / f"{stage}.json",
        "table": SEARCH_TABLES / f"{stage}.csv",
        "report": REPORTS / stage,
        "timing": TIMING / f"{stage}.csv",
    }


def cost_file(model: str) -> Path:
    """The cost of the winner of a search in `FREE`."""
    return TIMING / f"{model}.json"


def control_file(fold: int) -> Path:
    """The model of a fold's regression on the frozen backbone's features."""
    return MODELS / "controls" / f"fold{fold}.keras"


def fold_files(fold: int) -> dict[str, Path]:
    """The files of one cross-validation fold."""
    return {
        "model": MODELS / "crossval" / f"fold{fold}.keras",
        "metrics": FOLD_METRICS / f"fold{fold}.json",
        "report": FOLD_REPORTS / f"fold{fold}",
        "timing": TIMING / "crossval" / f"fold{fold}.json",
    }
