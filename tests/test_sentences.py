"""Each sentence that depends on the data is shown where it holds, and nowhere else."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run_glaucoma
from ruamel.yaml import YAML
from test_summary import fold
from trees import probes

from glaucoma.base import paths
from glaucoma.base.files import write_csv, write_json
from glaucoma.base.params import load_params
from glaucoma.evaluate.controls import check_lines, control_lines
from glaucoma.evaluate.scores import SCORES
from glaucoma.evaluate.summary import lacking
from glaucoma.report.front import verdict
from glaucoma.report.page import write_pages

PAGE, CARD, LIST = paths.PAGE, paths.MODEL_CARD, paths.CHECKLIST
INDEX = {"images": 24, "normal": 12, "abnormal": 12, "files": 48, "folds": 3}
AUDIT = {
    "images": 24,
    "dropped": 0,
    "errors": 0,
    "waived": 0,
    "warnings": 0,
    "waived_findings": "",
    "label_conflict": 0,
}
WAIVED = AUDIT | {"waived": 1, "waived_findings": "label_conflict", "label_conflict": 1}
SEARCH = {"trials": 8, "failed": 0, "tied": 1, "best": {"lr": 0.1}}
HEAT = {"fold": 0, "images": 30, "without_heat": 0, "heat_on_disc": 0.4, "disc_area": 0.3}


def listed(*sources: str) -> pd.DataFrame:
    """data/index.csv of two splits, the second with the first source alone."""
    rows = [("train", one) for one in sources] + [("test", sources[0])]
    return pd.DataFrame(rows, columns=["split", "source"]).assign(fold=0)


def intervals(low: float | None = 0.8, few: int = 200, value: float = 0.9) -> pd.DataFrame:
    rows = [
        (
            "mean over folds",
            split,
            score,
            value,
            low,
            None if low is None else low + 0.15,
            few if score == "auroc" else 200,
        )
        for split in ("valid", "test")
        for score in SCORES
    ]
    return pd.DataFrame(rows, columns=["estimand", "split", "score", "value", "low", "high", "resamples"])


SUMMARY, INTERVALS, AUDITED = paths.SUMMARY_METRICS, paths.SUMMARY / "intervals.csv", paths.METRICS / "audit.json"
FOUND = paths.search_files("stage1")["metrics"]
EXPLAINED, SLICES = paths.METRICS / "explain.json", paths.SUMMARY / "slices.csv"
ERRORS = {
    paths.SUMMARY / "predictions.csv": pd.DataFrame({"label": ["normal"], "predicted": ["abnormal"]}),
    paths.SUMMARY / "worst.csv": pd.DataFrame(columns=["error", "image", "fold", "label", "predicted", "probability"]),
}
SHOWN = {  # sentence: the page that has it; parameters and files with which it holds; with which it does not
    "Starting weights had seen none": (
        PAGE,
        {},
        {SUMMARY: {"contamination": 0}},
        {},
        {SUMMARY: {"contamination": 0.4}},
    ),
    "seen up to 40 % of a fold's images": (
        *(PAGE, {}, {SUMMARY: {"contamination": 0.4}}, {}, {SUMMARY: {"contamination": 0}}),
    ),
    "what else they have seen is not known": (
        *(PAGE, {"backbone.weights": "own.h5"}, {SUMMARY: {"contamination": 0}}, {}, {SUMMARY: {"contamination": 0}}),
    ),
    "Selection was not nested": (PAGE, {}, {}, {"search.nested": True}, {}),
    "selected by each fold within its own train split": (PAGE, {"search.nested": True}, {}, {}, {}),
    "synthetic eyes drawn by this project's own renderer": (PAGE, {}, {}, {"data.root": "mine"}, {}),
    "No finding was waived": (PAGE, {"audit.waive": ["label_conflict"]}, {AUDITED: AUDIT}, {}, {AUDITED: WAIVED}),
    "Waived: label_conflict": (PAGE, {}, {AUDITED: WAIVED}, {"audit.waive": ["label_conflict"]}, {AUDITED: AUDIT}),
    "; 3 tie in log loss": (PAGE, {}, {FOUND: SEARCH | {"tied": 3}}, {}, {FOUND: SEARCH}),
    "(2 failed)": (PAGE, {}, {FOUND: SEARCH | {"failed": 2}}, {}, {FOUND: SEARCH}),
    "of the heat lies on the optic disc": (
        *(PAGE, {}, ERRORS | {EXPLAINED: HEAT}, {}, ERRORS | {EXPLAINED: {"skipped": "unknown"}}),
    ),
    "In 2 of them nothing speaks for abnormal": (
        *(PAGE, {}, ERRORS | {EXPLAINED: HEAT | {"without_heat": 2}}, {}, ERRORS | {EXPLAINED: HEAT}),
    ),
    "there is no heat to measure": (
        *(PAGE, {}, ERRORS | {EXPLAINED: {"fold": 0, "images": 3}}, {}, ERRORS | {EXPLAINED: HEAT}),
    ),
    "share of heat on the disc was not measured: unknown": (
        *(PAGE, {}, ERRORS | {EXPLAINED: {"skipped": "unknown"}}, {}, ERRORS | {EXPLAINED: HEAT}),
    ),
    "0 missed abnormal photographs, 1 false alarm on test": (PAGE, {}, ERRORS, {}, {}),
    "No trait splits the photographs": (
        *(PAGE, {}, {SLICES: pd.DataFrame(columns=["slice"])}, {}, {SLICES: pd.DataFrame({"slice": ["a"]})}),
    ),
    "intervals where a method holds its level. <code": (
        *(PAGE, {}, {INTERVALS: intervals(None)}, {}, {INTERVALS: intervals()}),
    ),
    "150 of 200 resamples of valid lack a class in a fold": (
        *(PAGE, {}, {INTERVALS: intervals(few=50)}, {}, {INTERVALS: intervals()}),
    ),
    "scores do not carry over to real ones": (CARD, {}, {}, {"data.root": "mine"}, {}),
    "1 waived error (label_conflict)": (
        CARD,
        {},
        {AUDITED: WAIVED},
        {"audit.waive": ["label_conflict"]},
        {AUDITED: AUDIT},
    ),
    "One collection of images, cross-validated": (
        *(CARD, {}, {paths.INDEX: listed("a")}, {}, {paths.INDEX: listed("a", "b")}),
    ),
    "2 sources, not all of them in every split, cross-validated": (
        *(
            CARD,
            {},
            {paths.INDEX: listed("a", "b")},
            {},
            {paths.INDEX: pd.concat([listed("a", "b"), listed("b", "a")])},
        ),
    ),
    "none by design: both are splits of one collection": (
        *(LIST, {}, {paths.INDEX: listed("a")}, {}, {paths.INDEX: listed("a", "b")}),
    ),
    "the sources of the photographs: both are splits of 2 sources": (
        *(LIST, {}, {paths.INDEX: listed("a", "b")}, {}, {paths.INDEX: listed("a")}),
    ),
    "every image that can be read and has one label": (LIST, {}, {AUDITED: AUDIT}, {}, {AUDITED: WAIVED}),
    "1 image under both labels, waived": (LIST, {}, {AUDITED: WAIVED}, {}, {AUDITED: AUDIT}),
    "all trials in metrics/search/": (LIST, {}, {FOUND: SEARCH}, {}, {}),
    "none was searched": (LIST, {}, {}, {}, {FOUND: SEARCH}),
    "known by construction of the synthetic eye": (LIST, {}, {}, {"data.root": "mine"}, {}),
    "no groups of images are known": (
        *(LIST, {}, {}, {}, {paths.SUMMARY / "subgroups.csv": pd.DataFrame({"by": ["source"]})}),
    ),
    "the whole photograph": (LIST, {"data.crop": "none"}, {}, {}, {}),
}


def shown(page: Path, given: Mapping, files: Mapping) -> str:
    """A page of the working folder, of changed parameters and these files alone."""
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    if given.get("search.nested"):
        given = given | {"crossval.warm_start": "fold"}
    for key, value in given.items():
        section, name = key.split(".")
        params[section][name] = value
    params["crossval"]["warm_start"] = given.get("crossval.warm_start", "fold")
    yaml.dump(params, Path("params.yaml"))
    for file, content in ({paths.METRICS / "index.json": INDEX} | files).items():
        (write_csv if isinstance(content, pd.DataFrame) else write_json)(file, content)
    write_pages(load_params("params.yaml"))
    return " ".join(page.read_text().replace("&#39;", "'").split())


@pytest.mark.parametrize("sentence", SHOWN)
def test_pages_say_it_where_it_holds_and_nowhere_else(tmp_path, monkeypatch, sentence):
    page, *both = SHOWN[sentence]
    for side, holds in enumerate((True, False)):
        (folder := tmp_path / str(side)).mkdir()
        monkeypatch.chdir(folder)
        assert (sentence in shown(page, both[2 * side], both[2 * side + 1])) is holds, holds


@pytest.mark.parametrize(
    ("low", "value", "apart", "words"),
    [
        (0.8, 0.9, (0.1, 0.3), ("better than chance", "it beats it")),
        (0.4, 0.5, (-0.3, -0.1), ("not distinguishable from chance", "it is worse than it")),
        (0.2, 0.3, (-0.1, 0.1), ("worse than chance", "it is not shown to beat it")),
        (None, 0.9, (None, None), ("or its interval, is not defined", "")),
        (0.8, 0.9, (None, None), ("better than chance", "define no interval")),
        (0.8, 0.9, None, ("better than chance", "the controls have not been run")),
    ],
)
def test_the_verdict_says_what_the_intervals_say(tmp_path, monkeypatch, low, value, apart, words):
    monkeypatch.chdir(tmp_path)
    write_csv(INTERVALS, intervals(low, value=value))
    classes = pd.DataFrame({"class": ["abnormal", "normal"], "recall": [0.75, 0.5], "support": [4, 6]})
    write_csv(paths.SUMMARY / "report_valid.csv", classes)
    write_csv(paths.PROBES, probes())
    if apart:
        row = {"control": "thumbnail", "split": "valid", "score": "auroc", "value": 0.7, "difference": 0.2}
        write_csv(paths.SUMMARY / "controls.csv", pd.DataFrame([row | dict(zip(("low", "high"), apart, strict=True))]))
    said = " ".join(verdict())
    assert "3 of 4 abnormal photographs and 3 of 6 normal photographs" in said
    for word in words:
        assert word in said
    others = {"better than chance", "worse than chance", "not distinguishable from", "it beats it"} - set(words)
    assert not [other for other in others if other in said and not any(other in word for word in words)]


def told(auroc: float | None = 0.5, at_chance: bool = True, pairs: int = 0, below: float | None = 0.6) -> str:
    shuffled = {"test_auroc": auroc, "standard_error": 0.01, "at_chance": at_chance, "alarm_from": 0.55}
    copies = {"pairs": pairs, "images": 24, "alarm_below": below}
    return " ".join(check_lines({"permuted_average": shuffled, "near_copies": copies}))


def test_checks_and_controls_say_what_was_found():
    assert "check passed" in told()
    assert "check FAILED" in told(0.7, at_chance=False)
    assert "trust no score" not in told()
    assert "not defined, too few images" in told(None)
    assert "none among 24 photographs" in told()
    assert "1 pair of photographs may be such" in told(pairs=1)
    assert "not looked for, 24 photographs are too few" in told(below=None)
    row = {"control": "c", "split": "valid", "score": "auroc", "value": 0.7, "networks": 0.8, "difference": 0.1}
    for low, word in ((0.05, ": beaten"), (-0.05, "NOT BEATEN"), (np.nan, "NOT BEATEN")):
        said = control_lines(pd.DataFrame([row | {"low": low, "high": low + 0.2}]))
        assert word in said
        assert ("[" in said) is (low == low)
    assert "not defined" in control_lines(pd.DataFrame([row | {"difference": np.nan, "low": np.nan, "high": np.nan}]))
    assert control_lines(pd.DataFrame([row]).iloc[:0]) == "controls: not run"
    assert lacking(intervals()) == []


def test_results_name_ties_and_warnings_only_where_there_are_some(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["crossval"]["folds"] = [0, 1]
    yaml.dump(params, Path("params.yaml"))
    write_csv(INTERVALS, intervals())
    for constant in (False, True):
        for number in range(2):
            fold(number, constant=constant)
        best = {name: params[name] for name in ("lr", "optimizer", "batch_size", "epochs")}
        write_json(FOUND, SEARCH | {"best": best, "tied": 1 + constant, "test": {"f1_macro": 0.5}})
        assert run_glaucoma("results") == 0
        said = capsys.readouterr().out
        assert ("WARNING: 2 of 2 folds" in said) is constant
        assert ("of 2 that tie the one of lowest log loss" in said) is constant
