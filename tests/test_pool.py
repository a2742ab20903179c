"""Parallel trials in processes and on a real Ray cluster: equal results despite dead workers and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from small import images, same, splits, tiny_network

from glaucoma.base.errors import DataError, ParamsError, TrainingError
from glaucoma.base.params import Trial
from glaucoma.model.cut import cut_all, cut_head, cut_last
from glaucoma.train.pool import Cluster, Processes, choose, cpu_count, share
from glaucoma.train.search import Searcher, pack, unpack
from glaucoma.train.trainer import Follower

# Twice as many runs as workers: when the first finishes, every worker is in the middle of another
PRECISE = {1e-1: False, 1e-2: True, 1e-3: False, 1e-4: True}  # by learning rate
TRIALS = [
    Trial(lr=lr, optimizer="adam", batch_size=8, epochs=epochs, precise_bn=precise)
    for lr, precise in PRECISE.items()
    for epochs in (1, 8)
]
needs_proc = pytest.mark.skipif(not Path("/proc").is_dir(), reason="this system does not list processes in /proc")


def search(state: Path, pool, cut=cut_all, trials=TRIALS) -> Searcher:
    """A search on the tiny network; its results are among its attributes."""
    pixels, abnormal = images()
    searcher = Searcher(cut(tiny_network()), pixels, splits(abnormal), seed=4, state=state, pool=pool)
    searcher.found = searcher.train(trials)
    return searcher


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Searcher:
    return search(tmp_path_factory.mktemp("alone"), Processes(1))


def same_as_alone(searcher: Searcher, alone: Searcher) -> None:
    assert searcher.errors == {}
    assert list(searcher.found) == list(alone.found)
    for trial, snapshot in alone.found.items():
        same(searcher.found[trial], snapshot)
        same(searcher.journal.read(searcher.identity(trial)), snapshot)


def once_a_trial_is_finished(state: Path, happens: Callable[[], object]) -> None:
    """Call `happens` as soon as the journal has a trial, while a search runs in this thread."""

    def wait() -> None:
        while not list(state.glob("trials/*/record.json")):
            time.sleep(0.005)
        happens()

    threading.Thread(target=wait, daemon=True).start()


def workers_of(parent: int) -> list[int]:
    """Child processes of a process, oldest first."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            is_child = f"\nPPid:\t{parent}\n" in status.read_text()
            is_worker = b"popen_loky" in (status.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if is_child and is_worker:
            found.append(int(status.parent.name))
    return sorted(found)


def is_running(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


# In processes


@needs_proc
@pytest.mark.workflow
@pytest.mark.slow
def test_processes_find_what_one_finds_bit_for_bit_even_if_one_is_killed(alone, tmp_path, capsys):
    once_a_trial_is_finished(tmp_path, lambda: os.kill(workers_of(os.getpid())[0], signal.SIGKILL))
    searcher = search(tmp_path, Processes(2))
    assert capsys.readouterr().err.count("a worker died") == 1
    same_as_alone(searcher, alone)
    assert workers_of(os.getpid()) == []


@pytest.mark.parametrize(
    ("cut", "cached"), [(cut_head, True), (lambda whole: cut_last(whole, 4), True), (cut_head, False), (cut_all, True)]
)
def test_a_network_that_travelled_ends_as_one_that_stayed(cut, cached, tmp_path):
    pixels, abnormal = images()
    searcher = Searcher(cut(tiny_network()), pixels, splits(abnormal), seed=4, state=tmp_path, cached=cached)
    settings = {"seed": 4, "cached": cached, "together": searcher._heads_only, "augment": None}
    packed, found = pack(searcher.cut, settings), []  # before training changes it
    here = searcher.train([Trial(lr=1e-2, optimizer="adam", batch_size=8, epochs=2)])
    trainer, _ = unpack(packed, searcher._arrays())
    follower = Follower(lambda run, row: None, lambda trial, reached: found.append(reached), None)
    trainer.train([list(here)], searcher.splits, follower)
    same(*found, *here.values())


def test_an_error_that_is_no_runs_own_ends_the_search_and_its_workers(tmp_path):
    with pytest.raises(KeyError, match="nosuch"):
        search(
            tmp_path,
            Processes(2),
            trials=[Trial.model_construct(lr=lr, optimizer="nosuch", batch_size=8, epochs=1) for lr in (1e-2, 1e-3)],
        )
    assert workers_of(os.getpid()) == []


def test_a_task_whose_worker_dies_is_done_again_twice_and_no_more(tmp_path):
    def dies(times: int, task: int) -> int:
        (tmp_path / f"{task}-{len(list(tmp_path.glob(f'{task}-*')))}").touch()
        if task == 1 and len(list(tmp_path.glob("1-*"))) <= times:
            os.kill(os.getpid(), signal.SIGKILL)
        return -task

    assert sorted(Processes(2).run(dies, (2,), [1, 2, 3])) == [(1, -1), (2, -2), (3, -3)]
    with pytest.raises(TrainingError, match="workers died 3 times") as caught:
        list(Processes(2).run(dies, (99,), [1, 2, 3]))
    assert "fewer" in caught.value.remedy


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system keeps no process on a core")
def test_workers_share_out_cores_and_gpus_and_compute_with_equal_threads(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")

    def told(task: int) -> tuple:
        time.sleep(1)  # so that each worker takes one
        return tuple(os.sched_getaffinity(0)), *map(os.environ.get, ("CUDA_VISIBLE_DEVICES", "GLAUCOMA_THREADS", "X"))

    cores, gpus, threads, given = zip(*(got for _, got in Processes(2, {"X": "y"}).run(told, (), [1, 2])), strict=True)
    assert sorted(gpus) == ["2", "5"]
    assert len(set(cores)) == 2 or cpu_count() == 1
    assert len(set(threads)) == 1
    assert set(given) == {"y"}


def test_things_are_shared_out_without_overlap_as_long_as_there_are_enough():
    assert [share(i, 2, [0, 1]) for i in range(2)] == [[0], [1]]
    assert [share(i, 3, [1, 2, 4, 5, 7]) for i in range(3)] == [[1], [2, 4], [5, 7]]
    assert [share(i, 3, [0, 1]) for i in range(3)] == [[0], [1], [0]]
    assert share(0, 2, []) == []


def test_a_worker_that_has_grown_stays():
    def grow(task: int) -> int:
        time.sleep(1.5)  # loky checks once a second
        os.held = [*getattr(os, "held", []), np.ones(50_000_000)]  # 400 MB, for as long as the process lives
        return os.getpid()

    assert len({pid for _, pid in Processes(2).run(grow, (), range(4))}) == 2


def test_an_error_keeps_its_remedy_on_the_way():
    def fails(task: int) -> None:
        raise DataError("found", "remedy")

    with pytest.raises(DataError, match="found") as caught:
        list(Processes(2).run(fails, (), [1, 2]))
    assert caught.value.remedy == "remedy"


SLEEPING = """
import sys, time
from pathlib import Path
from glaucoma.base import interrupts
from glaucoma.base.stage import guarded
from glaucoma.train.pool import Processes

def sleep(task):
    Path(sys.argv[1], str(task)).touch()
    time.sleep(600)

@interrupts.held()
def work():
    list(Processes(2).run(sleep, (), [1, 2]))

interrupts.install()
sys.exit(guarded(work))
"""


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_on_ctrl_c_and_when_their_parent_is_killed(number, tmp_path):
    script = tmp_path / "sleeping.py"
    script.write_text(SLEEPING)
    parent = subprocess.Popen(
        [sys.executable, script, tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while len(list(tmp_path.glob("[12]"))) < 2:
        assert parent.poll() is None, parent.communicate()
        time.sleep(0.1)
    workers = workers_of(parent.pid)
    assert len(workers) == 2
    if number == signal.SIGINT:
        os.killpg(parent.pid, number)  # as a terminal does: workers get it too
    else:
        parent.send_signal(number)
    printed, _ = parent.communicate(timeout=60)
    if number == signal.SIGINT:
        assert parent.returncode == 130
        assert "stopped by Ctrl-C" in printed
        assert "Traceback" not in printed
    deadline = time.monotonic() + 60
    while any(map(is_running, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ("environment", "workers"), [({}, 1), ({"GLAUCOMA_JOBS": "3"}, 3), ({"GLAUCOMA_JOBS": "-1"}, 0)]
)
def test_the_environment_says_how_many_trials_at_a_time(environment, workers, monkeypatch):
    for name in ("GLAUCOMA_JOBS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert choose().workers == (workers or cpu_count())
    assert choose(jobs=2).workers == 2


@pytest.mark.parametrize("value", ["two", "0", "-2"])
def test_jobs_that_cannot_be_are_refused_by_name(value, monkeypatch):
    monkeypatch.setenv("GLAUCOMA_JOBS", value)
    with pytest.raises(ParamsError) as caught:
        choose()
    assert "GLAUCOMA_JOBS" in str(caught.value)


def test_threads_that_are_no_number_are_a_sentence():
    code = "import sys; from glaucoma.base import environment, stage; sys.exit(stage.guarded(environment.threads))"
    environment = {**os.environ, "GLAUCOMA_THREADS": "all"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ran.returncode == 2
    assert "error: the environment's GLAUCOMA_THREADS is 'all'" in ran.stderr


# On a Ray cluster


def test_ray_that_is_not_installed_is_an_error_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ParamsError, match="Ray is not installed") as caught:
        choose()
    assert "[ray]" in caught.value.remedy


@pytest.fixture(scope="module")
def nodes() -> Iterator:
    """A head and a second node on this machine, with one CPU each."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install -e '.[ray]')")
    from ray.cluster_utils import Cluster as Nodes

    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - Ray's name; else its workers wait for all other processes
    node = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
    cluster = Nodes(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.second = cluster.add_node(**node)
    yield cluster
    ray.shutdown()
    cluster.shutdown()
    del os.environ["RAY_worker_niceness"]  # noqa: SIM112


@pytest.fixture
def cluster(nodes, monkeypatch) -> Cluster:
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    pool = choose()
    assert isinstance(pool, Cluster)
    return pool


@pytest.mark.slow  # as the others: a cluster takes a minute to start, train and lose a node
def test_more_gpus_than_any_node_has_are_refused(cluster, monkeypatch):
    monkeypatch.setenv("GLAUCOMA_GPUS_PER_TRIAL", "1")
    with pytest.raises(ParamsError, match=r"no node of the Ray cluster .* 1 GPUs") as caught:
        choose()
    assert "GLAUCOMA_GPUS_PER_TRIAL" in caught.value.remedy


@pytest.mark.slow
def test_an_address_where_nothing_answers_is_refused_at_once(nodes, monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with pytest.raises(ParamsError, match=r"no Ray cluster answers at 127\.0\.0\.1:1: .*refused"):
        Cluster("127.0.0.1:1", None)


@pytest.mark.slow
def test_nodes_with_other_code_are_refused(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("glaucoma.train.search.code_version", lambda: "another")
    with pytest.raises(TrainingError, match="another version than here"):
        search(tmp_path, cluster, cut_head)


@pytest.mark.slow
def test_a_single_trial_runs_on_the_cluster_too(cluster):
    assert list(cluster.run(lambda here, task: os.getppid() == here, (os.getpid(),), [0])) == [(0, False)]


@pytest.mark.slow
def test_two_nodes_find_what_one_process_finds_even_if_one_is_killed(cluster, nodes, alone, tmp_path):
    assert cluster.workers == 2
    once_a_trial_is_finished(tmp_path, lambda: nodes.remove_node(nodes.second, allow_graceful=False))
    searcher = search(tmp_path, cluster)
    same_as_alone(searcher, alone)
    deadline = time.monotonic() + 60
    while [node["Alive"] for node in cluster.ray.nodes()].count(True) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
