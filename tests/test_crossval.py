"""`glaucoma crossval`: folds in parallel, then one `dvc repro` with nothing left to train."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from conftest import Project

pytestmark = pytest.mark.slow  # trains folds and starts DVC a dozen times

ANOTHER = {"lr": 0.0005, "epochs": 2}


def test_folds_side_by_side_end_as_one_after_the_other_and_dvc_trains_nothing_more(project: Project, tmp_path: Path):
    project.set(ANOTHER)
    shutil.rmtree(project / ".state/trials")
    other = project.copy(tmp_path / "other/glaucoma")

    ran = project.run("glaucoma", "crossval", "--jobs", "2")

    assert "2/2 folds" in ran.stderr
    for fold in (0, 1):  # by a worker; if DVC's stage had trained it too, there would be two
        assert len(re.findall(rf"^fold {fold}, training: 2/2 epochs", ran.stderr, re.MULTILINE)) == 1
        assert len(re.findall(rf"^fold {fold}, warm start, stage2: ", ran.stderr, re.MULTILINE)) == 1
    assert "up to date" in project.dvc("status").stdout

    other.dvc("repro")
    assert project.metrics() == other.metrics()
    for name in ("models/crossval/fold1.keras", "reports/crossval/fold1/history.csv"):
        assert (project / name).read_bytes() == (other / name).read_bytes(), name

    again = project.run("glaucoma", "crossval", "--jobs", "-1")
    assert "epochs" not in again.stderr


def test_a_fold_that_fails_stops_no_other_and_is_named(project: Project, tmp_path: Path):
    project.set(ANOTHER)
    alone = project.copy(tmp_path / "alone/glaucoma")
    shutil.rmtree(alone / ".state/trials")
    alone.script("crossval", "--fold", "1")
    for trial in (alone / ".state/trials").iterdir():  # a fault of the disk: what fold 1 trains cannot be written
        shutil.rmtree(project / ".state/trials" / trial.name, ignore_errors=True)
        (project / ".state/trials" / trial.name / "record.json").mkdir(parents=True)

    ran = project.run("glaucoma", "crossval", "--jobs", "2", ok=False)

    assert re.search(
        r"1 of 2 folds failed: fold 1: \S+record.json cannot be opened or written: Is a directory", ran.stderr
    )
    assert "Traceback" not in ran.stderr
    assert set(json.loads(project.dvc("status", "--json", "crossval@0", "crossval@1").stdout)) == {"crossval@1"}


def test_a_fold_that_is_not_there_is_refused_before_any_is_trained(project: Project):
    project.set({**ANOTHER, "crossval.folds": [77, 0, 1]})

    ran = project.run("glaucoma", "crossval", "--jobs", "2", ok=False)

    assert ran.returncode == 2
    assert "crossval.folds asks for 77, but the folds are 0–9" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "epochs" not in ran.stderr


def test_ctrl_c_ends_all_folds(project: Project):
    project.set({"epochs": 100_000})
    process = project.start("glaucoma", "crossval", "--jobs", "2")
    for line in process.stderr:
        if re.match(r"fold \d, training: \d+/100000 epochs", line):
            break
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped by Ctrl-C" in told
    assert "Traceback" not in told
    deadline = time.monotonic() + 60
    while [link for link in Path("/proc").glob("[0-9]*/cwd") if works_in(link, project.root)]:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def works_in(link: Path, folder: Path) -> bool:
    try:
        return link.readlink() == folder
    except OSError:
        return False
