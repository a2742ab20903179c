"""Folds side by side under the real DVC, with stages that take no time to learn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glaucoma.pipeline import parallel_folds

pytestmark = pytest.mark.slow  # DVC is started some twenty times

WORK = """
import json, os, pathlib, sys, time
fold = sys.argv[1]
begin = time.time()
pathlib.Path(f"running{fold}").touch()
if pathlib.Path(f"fail{fold}").exists():
    print("error: fold", fold, "has one class", file=sys.stderr)
    sys.exit(3)
time.sleep(float(os.environ.get("SECONDS_EACH", "0")))
print(f"WARNING: fold {fold}, tried: says nothing", file=sys.stderr)
print(f"fold {fold}: learnt", file=sys.stderr)
cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
pathlib.Path(f"times{fold}").write_text(json.dumps([begin, time.time(), cores, os.environ["GLAUCOMA_THREADS"]]))
pathlib.Path(f"fold{fold}.json").write_text(pathlib.Path("made").read_text())
"""
STAGES = """
stages:
  before:
    cmd: cp given made && echo . >> befores
    deps: [given]
    outs: [made]
  crossval:
    matrix:
      fold: [0, 1, 2]
    cmd: python work.py ${item.fold}
    deps: [made, work.py]
    outs:
      - fold${item.fold}.json
  summary:
    cmd: cat fold0.json fold1.json fold2.json > all && echo . >> summaries
    deps: [fold0.json, fold1.json, fold2.json]
    outs: [all]
"""
CALL = "import sys; from glaucoma.pipeline.parallel_folds import crossval; from glaucoma.base.stage import guarded;"
CALL += "sys.exit(guarded(lambda: crossval([0, 1, 2], int(sys.argv[1]))))"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    Path("work.py").write_text(WORK)
    Path("dvc.yaml").write_text(STAGES)
    Path("given").write_text("1\n")
    subprocess.run([*parallel_folds.DVC, "init", "--no-scm", "-q"], check=True)
    return tmp_path


def run(jobs: int = 2) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", CALL, str(jobs)], capture_output=True, text=True, timeout=120)


def up_to_date() -> bool:
    told = subprocess.run([*parallel_folds.DVC, "status"], capture_output=True, text=True, check=True).stdout
    return "up to date" in told


def test_folds_run_side_by_side_and_leave_nothing_to_do(folder, monkeypatch):
    monkeypatch.setenv("SECONDS_EACH", "4")
    ran = run(3)
    assert ran.returncode == 0, ran.stderr
    for fold in range(3):
        assert ran.stderr.count(f"fold {fold}: learnt") == 1
        assert ran.stderr.count(f"WARNING: fold {fold}, tried: says nothing") == 1
    times = [json.loads(Path(f"times{fold}").read_text()) for fold in range(3)]
    assert max(begin for begin, *_ in times) < min(end for _, end, *_ in times)  # all at once
    assert {threads for *_, threads in times} == {str(parallel_folds.cpu_count())}
    assert up_to_date()
    assert Path("all").read_text() == "1\n1\n1\n"

    again = run(3)
    assert again.returncode == 0
    assert again.stderr.count("was up to date") == 3
    assert (Path("befores").read_text(), Path("summaries").read_text()) == (".\n", ".\n")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system keeps no process on a core")
@pytest.mark.skipif(parallel_folds.cpu_count() < 2, reason="one core can't be shared out")
def test_two_at_a_time_share_out_the_cores(folder):
    assert run(2).returncode == 0
    used = [set(json.loads(Path(f"times{fold}").read_text())[2]) for fold in range(3)]
    everything = os.sched_getaffinity(0)
    assert all(cores < everything for cores in used)
    assert set.union(*used) <= everything


def test_a_fold_that_fails_is_named_and_stops_no_other(folder):
    Path("fail1").touch()
    ran = run()
    assert ran.returncode == 6
    assert "error: 1 of 3 folds failed: fold 1: fold 1 has one class" in ran.stderr
    assert ".state/crossval/fold1.log" in ran.stderr
    assert Path("fold0.json").is_file()
    assert Path("fold2.json").is_file()
    assert not Path("summaries").exists()

    Path("fail1").unlink()
    again = run()
    assert again.returncode == 0
    assert again.stderr.count("was up to date") == 2
    assert up_to_date()


def test_a_fold_waits_for_a_lock_that_another_dvc_holds(folder, monkeypatch, tmp_path):
    assert run().returncode == 0
    Path("given").write_text("2\n")
    subprocess.run([*parallel_folds.DVC, "repro", "-q", "before"], check=True)
    hold = "import sys, time; from dvc.repo import Repo; lock = Repo().lock; lock.lock(); print('held', flush=True);"
    holder = subprocess.Popen([sys.executable, "-c", f"{hold} time.sleep(6)"], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    assert parallel_folds._Folds(1).run([0]) == {}
    assert holder.wait() == 0
    assert Path("fold0.json").read_text() == "2\n"


def test_ctrl_c_ends_all_folds(folder, monkeypatch):
    monkeypatch.setenv("SECONDS_EACH", "60")
    process = subprocess.Popen([sys.executable, "-c", CALL, "2"], stderr=subprocess.PIPE, text=True)
    while len(list(folder.glob("running*"))) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped by Ctrl-C" in told
    assert not [link for link in Path("/proc").glob("[0-9]*/cwd") if works_in(link, folder)]


def works_in(link: Path, folder: Path) -> bool:
    if link.parent.name == str(os.getpid()):
        return False
    try:
        return link.readlink() == folder
    except OSError:
        return False
