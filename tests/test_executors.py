from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from small import images, same, splits, tiny_network

from glaucoma.errors import DataError, ParamsError
from glaucoma.model.cut import cut_all, cut_head, cut_last
from glaucoma.search import journal
from glaucoma.search.executors import dispatch
from glaucoma.search.executors.choose import choose
from glaucoma.search.executors.cores import pin, share
from glaucoma.search.executors.local import InProcess
from glaucoma.search.executors.processes import Processes, _map
from glaucoma.search.executors.work import Event, Work, pack, travelling, unpack
from glaucoma.search.grid import Fit, Run, Trial
from glaucoma.search.journal import Journal
from glaucoma.search.search import Searcher
from glaucoma.search.training import Follower, Snapshot

FITS = {1e-2: Fit(), 1e-3: Fit(precise_bn=True)}  # by learning rate
TRIALS = [Trial(lr, "adam", 8, epochs, fit) for lr, fit in FITS.items() for epochs in (1, 4)]


def search(state: Path, executor, cut=cut_all, trials=TRIALS, cached: bool = True, seed: int = 4) -> Searcher:
    """A search on the tiny network; what it finished with is among its attributes."""
    pixels, abnormal = images()
    searcher = Searcher(
        cut(tiny_network()), pixels, splits(abnormal), seed=seed, state=state, cached=cached, executor=executor
    )
    searcher.found = searcher.train(trials)
    return searcher


class Killing(Processes):
    """Processes, of which the first that tells of an epoch is killed then, as often as asked."""

    def __init__(self, jobs: int, times: int):
        super().__init__(jobs)
        self.times, self.killed = times, []

    def run(self, work, arrays, units, follower):
        def epoch(run, row):
            follower.epoch(run, row)
            workers = children()
            if len(self.killed) < self.times and workers:
                self.killed.append(workers[0])
                os.kill(workers[0], signal.SIGKILL)

        super().run(work, arrays, units, dispatch.Follower(epoch, follower.snapshot, follower.failure))


def children() -> list[int]:
    """Processes that train for this one, oldest first."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            parent = next(line for line in status.read_text().splitlines() if line.startswith("PPid:"))
            command = (status.parent / "cmdline").read_bytes()
        except (OSError, StopIteration):
            continue
        if int(parent.split()[1]) == os.getpid() and b"popen_loky" in command:
            found.append(int(status.parent.name))
    return sorted(found)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Searcher:
    return search(tmp_path_factory.mktemp("alone"), InProcess())


def test_processes_find_what_one_finds_bit_for_bit_even_if_one_is_killed(alone, tmp_path, capsys):
    executor = Killing(2, times=1)
    searcher = search(tmp_path, executor)
    assert len(executor.killed) == 1
    assert f"a worker died (process {executor.killed[0]}, killed" in capsys.readouterr().err
    assert searcher.errors == {}
    assert list(searcher.found) == TRIALS
    for trial in TRIALS:
        same(searcher.found[trial], alone.found[trial])
        same(searcher.journal.read(searcher.identity(trial)), alone.found[trial])
    assert children() == []


@pytest.mark.parametrize(
    ("cut", "cached"), [(cut_head, True), (lambda whole: cut_last(whole, 4), True), (cut_head, False), (cut_all, True)]
)
def test_work_that_travelled_ends_as_work_that_stayed(cut, cached, tmp_path):
    pixels, abnormal = images()
    searcher = Searcher(cut(tiny_network()), pixels, splits(abnormal), seed=4, state=tmp_path, cached=cached)
    arrays = searcher._arrays()
    work = Work(searcher.cut, searcher.splits, 4, cached, searcher._heads_only)
    packed, found = pack(work), []  # before training changes it
    for one in (unpack(packed), work):
        follower = Follower(lambda run, row: None, lambda run, reached: found.append(reached), None)
        InProcess().run(one, arrays, [[Run(1e-2, "adam", 8, (2,))]], follower)
    same(*found)


def test_an_error_that_is_no_runs_own_crosses_processes_and_ends_the_search(tmp_path):
    trials = [Trial(lr, "nosuch", 8, 1) for lr in (1e-2, 1e-3)]
    with pytest.raises(KeyError, match="nosuch") as caught:
        search(tmp_path, Processes(2), trials=trials)
    assert "Traceback" in str(caught.value.__cause__)
    assert children() == []


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="this system does not list processes in /proc")
def test_workers_end_when_the_driver_is_killed(tmp_path):
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_executors import *
def epoch(run, row):
    print(*children(), flush=True)
class Telling(Processes):
    def run(self, work, arrays, units, follower):
        super().run(work, arrays, units, Follower(epoch, follower.snapshot, follower.failure))
search(Path({str(tmp_path)!r}), Telling(2), trials=[Trial(lr, "adam", 8, 400) for lr in (1e-2, 1e-3)])
"""
    driver = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    workers = [int(word) for word in driver.stdout.readline().split()]
    driver.kill()
    driver.communicate()
    assert len(workers) == 2
    deadline = time.monotonic() + 60
    while any(map(runs, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def runs(pid: int) -> bool:
    """Whether a process exists and is no zombie, which nobody has asked yet how it ended."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


class Fragile:
    """A worker that trains nothing: it tells each run's epochs, and dies at the runs and epochs it is told to."""

    def __init__(self, dies_at: dict[tuple[float, int], int], started: list[Fragile]):
        self.dies_at, self.given = dies_at, []
        started.append(self)

    def ready(self) -> None:
        """Needs no time to start."""

    def stop(self) -> None:
        """Holds nothing to give back."""

    def train(self, runs):
        for run in runs:
            self.given.append(run)
            for epoch in range(1, run.epochs[-1] + 1):
                if self.dies_at.get((run.lr, epoch), 0) > 0:
                    self.dies_at[run.lr, epoch] -= 1
                    raise dispatch.WorkerDiedError("a fault")
                yield Event("epoch", run, {"epoch": epoch})
                if epoch in run.epochs:
                    yield Event("snapshot", run, Snapshot(epoch, [], {}, None, 0.0))


def dispatched(units, workers: int, dies_at) -> tuple[list[tuple], list[Fragile]]:
    """What a follower is told, and the workers that were started."""
    told, started = [], []
    follower = Follower(
        epoch=lambda run, row: told.append((run, "epoch", row["epoch"])),
        snapshot=lambda run, reached: told.append((run, "snapshot", reached.epochs)),
        failure=lambda run, error: told.append((run, "failure", str(error.found))),
    )
    dispatch.dispatch(units, lambda slot: Fragile(dies_at, started), workers, follower)
    return told, started


ONE, OTHER = Run(0.1, "adam", 8, (2, 4)), Run(0.2, "adam", 8, (1,))


def test_what_was_told_before_a_death_is_neither_trained_nor_told_again():
    told, started = dispatched([[OTHER, ONE]], 1, {(0.1, 4): 1})
    assert told == [
        (OTHER, "epoch", 1),
        (OTHER, "snapshot", 1),
        *[(ONE, "epoch", 1), (ONE, "epoch", 2), (ONE, "snapshot", 2), (ONE, "epoch", 3)],
        *[(ONE, "epoch", 4), (ONE, "snapshot", 4)],
    ]
    assert [worker.given for worker in started] == [[OTHER, ONE], [Run(0.1, "adam", 8, (4,))]]


def test_a_run_that_kills_every_worker_fails_and_the_others_go_on():
    told, started = dispatched([[ONE], [OTHER]], 1, {(0.1, 3): 9})
    assert (ONE, "failure", "3 workers died of it, the last one: a fault") in told
    assert (OTHER, "snapshot", 1) in told
    assert (ONE, "snapshot", 2) in told
    assert len(started) == 1 + 3


def test_a_worker_gets_trials_of_the_optimizer_that_it_has_compiled():
    units = [[Run(lr, name, 8, (50,))] for lr in (0.1, 0.2, 0.3) for name in ("adam", "sgd")]
    _, started = dispatched(units, 2, {})
    changes = [sum(a.optimizer != b.optimizer for a, b in zip(w.given, w.given[1:], strict=False)) for w in started]
    assert sum(changes) <= 1  # the one who is done first may help the other


def test_cores_are_shared_out_without_overlap_as_long_as_there_are_enough():
    assert [share(i, 2, [0, 1]) for i in range(2)] == [{0}, {1}]
    assert [share(i, 3, [1, 2, 4, 5, 7]) for i in range(3)] == [{1}, {2, 4}, {5, 7}]
    assert [share(i, 3, [0, 1]) for i in range(3)] == [{0}, {1}, {0}]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system keeps no process on a core")
def test_a_process_inherits_the_cores_of_the_thread_that_starts_it_and_the_others_keep_theirs():
    import threading

    before, seen = os.sched_getaffinity(0), []

    def start() -> None:
        pin(0, len(before))
        code = "import os; print(*os.sched_getaffinity(0))"
        seen.append(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    assert seen == [f"{min(before)}\n"]
    assert os.sched_getaffinity(0) == before


def test_a_memory_map_is_opened_where_it_lies_and_only_a_part_of_it_copied(tmp_path):
    np.save(tmp_path / "pixels.npy", np.arange(60, dtype="uint8").reshape(5, 3, 4))
    whole = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    mapped = _map(whole, tmp_path / "copy.npy")
    assert Path(mapped.file) == tmp_path / "pixels.npy"
    assert len(pickle.dumps(mapped)) < 1000
    np.testing.assert_array_equal(mapped.open(), whole)
    for part in (whole[2:], np.array(whole), whole.transpose(2, 0, 1)):
        mapped = _map(part, tmp_path / "copy.npy")
        assert Path(mapped.file) == tmp_path / "copy.npy"
        np.testing.assert_array_equal(mapped.open(), part)


def test_an_error_keeps_its_remedy_on_the_way_and_one_that_cannot_travel_its_message():
    error = pickle.loads(pickle.dumps(travelling(DataError("found", "remedy"))))
    assert (type(error), error.found, error.remedy) == (DataError, "found", "remedy")
    local = type("Local", (Exception,), {})
    assert str(travelling(local("what"))) == "Local: what"


@pytest.mark.parametrize(
    ("environment", "chosen"),
    [
        ({}, InProcess),
        ({"GLAUCOMA_JOBS": "3"}, Processes),
        ({"GLAUCOMA_JOBS": "3", "GLAUCOMA_EXECUTOR": "local"}, InProcess),
    ],
)
def test_the_environment_chooses_where_trials_are_trained(environment, chosen, monkeypatch):
    for name in ("GLAUCOMA_JOBS", "GLAUCOMA_EXECUTOR", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert type(choose()) is chosen
    assert choose(jobs=2, executor="processes").workers() == 2


@pytest.mark.parametrize(
    ("name", "value"), [("GLAUCOMA_JOBS", "two"), ("GLAUCOMA_JOBS", "0"), ("GLAUCOMA_EXECUTOR", "slurm")]
)
def test_an_environment_that_cannot_be_used_is_named(name, value, monkeypatch):
    monkeypatch.setenv(name, value)
    with pytest.raises(ParamsError, match=name):
        choose()


def test_ray_that_is_not_installed_is_an_error_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ParamsError, match="Ray is not installed") as caught:
        choose(executor="ray")
    assert "[ray]" in caught.value.remedy


def test_threads_that_are_no_number_are_a_sentence():
    code = "import sys; from glaucoma.stage import guarded; from glaucoma.model.runtime import fresh;"
    code += "sys.exit(guarded(lambda: fresh(0)))"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "GLAUCOMA_THREADS": "all"},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2
    assert "error: the environment's GLAUCOMA_THREADS is 'all'" in ran.stderr


def test_an_entry_that_another_process_is_writing_is_not_pruned(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "GIGABYTES", 0.0)
    made = tmp_path / "made"
    made.mkdir()
    (made / "weights.npz").write_bytes(b"half")
    Journal(tmp_path).prune(set())
    assert made.is_dir()
    os.utime(made, (0, 0))
    Journal(tmp_path).prune(set())
    assert not made.exists()
