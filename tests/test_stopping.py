"""A search that is stopped or killed: nothing that was finished is lost, and the end is the same."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

from conftest import TINY, Project
from test_pipeline import PATIENCE, ran, trials


def wait_for_a_trial(project: Project, process: subprocess.Popen) -> None:
    """Return as soon as a running search has finished its first trial."""
    end = time.monotonic() + PATIENCE
    while not trials(project):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "no trial was finished"
        time.sleep(0.002)


def enlarge(project: Project) -> int:
    """Give the first search two batch sizes, so that a test can interrupt it; return its number of trials."""
    grid = TINY["stage1.grid"] | {"batch_size": [16, 8]}
    project.set({"stage1.grid": grid})
    return math.prod(map(len, grid.values()))


def test_ctrl_c_during_a_search_is_a_sentence_and_the_last_results_can_be_had_back(finished: Project, project: Project):
    shutil.rmtree(project / ".state")
    planned = enlarge(project)
    process = project.start("dvc", "repro", "--force", "--single-item", "stage1")
    wait_for_a_trial(project, process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    out, err = process.communicate(timeout=PATIENCE)

    assert process.returncode != 0
    assert "stopped by Ctrl-C" in err
    assert re.search(r"stage1.py, exited with (130|-2)", err)  # -2: a shell in between, like dash, dies of Ctrl-C
    assert "Traceback" not in out + err
    assert 0 < len(trials(project)) < planned

    project.dvc("checkout")
    project.git("checkout", "metrics", "params.yaml")
    assert project.metrics() == finished.metrics()
    assert (project / "models/stage1.keras").read_bytes() == (finished / "models/stage1.keras").read_bytes()
    assert ran(project.dvc("repro").stdout) == []


def test_a_search_killed_outright_goes_on_where_it_was_and_ends_the_same(project: Project, tmp_path: Path):
    shutil.rmtree(project / ".state")
    for name in ("metrics/stage1.json", "metrics/search/stage1.csv"):
        (project / name).unlink()
    planned = enlarge(project)
    undisturbed = project.copy(tmp_path / "undisturbed")
    process = project.start("python", "stages/stage1.py")
    wait_for_a_trial(project, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    kept = {record: record.read_bytes() for record in trials(project)}
    assert 0 < len(kept) < planned
    assert not (project / "metrics/stage1.json").exists()

    again = project.script("stage1")

    assert f"{len(kept)} of {planned} trials are known" in again.stderr
    assert {record: record.read_bytes() for record in kept} == kept
    assert len(trials(project)) == planned
    undisturbed.script("stage1")
    assert project.metrics() == undisturbed.metrics()
    for name in ("models/stage1.keras", "reports/stage1/history.csv", "reports/stage1/predictions.csv"):
        assert (project / name).read_bytes() == (undisturbed / name).read_bytes(), name
