"""docs/published_run.md: written from the kept files of runs, as far as these have got."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import Project

from glaucoma.base.files import read_json, write_json

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script tools/published.py, with an empty folder to keep runs in."""
    spec = importlib.util.spec_from_file_location("published_tool", ROOT / "tools/published.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "KEPT", tmp_path / "published")
    return module


def test_the_page_is_up_to_date_and_its_files_are_small():
    ran = subprocess.run([sys.executable, "tools/published.py"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert sum(file.stat().st_size for file in (ROOT / "docs/published").rglob("*") if file.is_file()) < 1e6


def test_a_runs_own_figures_are_beside_the_reports_and_nothing_says_where_its_photographs_are(
    tool: ModuleType, finished: Project, tmp_path: Path
):
    log = tmp_path / "run.log"
    log.write_text("started a\nkilled\nstarted b\nended 0\n")
    tool.take("report", finished.root, log)
    text = tool.page()
    assert "killed and resumed 1 time." in text
    for fold, published in ((0, 0.874), (1, 0.943)):
        found = finished.json(f"metrics/crossval/fold{fold}.json")["test"]["accuracy"]
        assert f"| {fold} | {published} → {found:.3f} |" in text
    assert "| 2 | 0.902 → – |" in text
    best = finished.json("metrics/stage1.json")["test"]
    assert f"abnormal, predicted abnormal | 74 of 82 (90.2%) | {best['tp']} of {best['tp'] + best['fn']} (" in text
    assert text.rstrip().endswith("Not run yet.")  # nothing to compare with
    kept = b"".join(file.read_bytes() for file in tool.KEPT.rglob("*") if file.is_file())
    assert b".jpg" not in kept
    assert str(finished.root).encode() not in kept

    tool.take("leak", finished.root, None)
    assert tool.page().count("| +0.000 |") == 2  # the same run, in AUROC and macro F1


def test_what_ran_on_another_machine_is_added_to_what_was_taken_before(
    tool: ModuleType, finished: Project, tmp_path: Path
):
    tool.take("report", finished.root, None)
    about = tool.KEPT / "report/about.json"
    for folder in ("metrics/crossval", "metrics/timing/crossval"):
        fold = tool.KEPT / "report" / folder / "fold0.json"
        write_json(fold.with_name("fold7.json"), {**read_json(fold), "fold": 7})
    write_json(about, {**read_json(about), "killed": 2, "machines": [{"commit": "a", "processor": "b", "cores": 1}]})
    log = tmp_path / "run.log"
    log.write_text("started a\nstarted b\nended 0\n")

    tool.take("report", finished.root, log, add=True)

    text = tool.page()
    assert "killed and resumed 3 times." in text
    assert "Machines: b, 1 core, no GPU, code of commit a; " in text
    assert "3 of 10 folds" in tool.page()


def test_a_project_without_results_of_its_own_is_refused_and_what_is_kept_stays(tool: ModuleType, tmp_path: Path):
    kept = tool.KEPT / "report/about.json"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}")
    (tmp_path / "params.yaml").write_text("")
    with pytest.raises(SystemExit, match="no result is younger"):
        tool.take("report", tmp_path, None)
    assert kept.read_text() == "{}"
