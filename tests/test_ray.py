"""A search on a real cluster: two nodes on this machine, of which one is killed in the middle."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from small import images, same, splits, tiny_network

from glaucoma.base.errors import ParamsError, TrainingError
from glaucoma.model.cut import cut_all, cut_head
from glaucoma.search.executors.choose import choose
from glaucoma.search.executors.cluster import Actor, Cluster
from glaucoma.search.executors.local import InProcess
from glaucoma.search.executors.work import Work, pack
from glaucoma.train.grid import Trial
from glaucoma.train.identity import code_version
from glaucoma.train.search import Searcher
from glaucoma.train.trainer import Follower

ray = pytest.importorskip("ray", reason="Ray is not installed (pip install -e '.[ray]')")
from ray.cluster_utils import Cluster as Nodes  # noqa: E402

pytestmark = pytest.mark.slow  # a cluster of two nodes takes a minute to start, train and lose one

NODE = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
TRIALS = [Trial(lr, "adam", 8, epochs) for lr in (1e-2, 1e-3, 1e-4) for epochs in (2, 12)]


@pytest.fixture(scope="module")
def nodes():
    """A head and a second node, of a CPU each."""
    cluster = Nodes(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    cluster.second = cluster.add_node(**NODE)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture
def on_cluster(nodes, monkeypatch) -> Cluster:
    monkeypatch.setenv("RAY_ADDRESS", nodes.address)
    executor = choose()
    assert isinstance(executor, Cluster)
    return executor


class Interrupted:
    """An executor during which something happens as soon as two runs are under way."""

    def __init__(self, executor: Cluster, happens):
        self.executor, self.happens, self.workers = executor, happens, executor.workers

    def run(self, work, arrays, units, follower):
        under_way = set()

        def epoch(run, row):
            follower.epoch(run, row)
            under_way.add(run)
            if row["epoch"] == run.epochs[-1]:
                under_way.discard(run)
            if len(under_way) == 2 and self.happens:
                happens, self.happens = self.happens, None
                happens()

        self.executor.run(work, arrays, units, Follower(epoch, follower.snapshot, follower.failure))


class Watched(Actor):
    """An actor that says what it holds."""

    def owns_its_arrays(self) -> list[bool]:
        return [array.flags.owndata or array.flags.writeable for array in self.trainer.arrays]


def search(state: Path, executor, cut=cut_all, trials=TRIALS) -> Searcher:
    pixels, abnormal = images()
    searcher = Searcher(cut(tiny_network()), pixels, splits(abnormal), seed=4, state=state, executor=executor)
    searcher.found = searcher.train(trials)
    return searcher


def same_as_alone(searcher: Searcher, alone: Searcher) -> None:
    assert searcher.errors == {}
    assert list(searcher.found) == list(alone.found)
    for trial, snapshot in alone.found.items():
        same(searcher.found[trial], snapshot)
        same(searcher.journal.read(searcher.identity(trial)), snapshot)


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Searcher:
    return search(tmp_path_factory.mktemp("alone"), InProcess())


def test_heads_are_shared_out_to_both_nodes_and_come_out_the_same(on_cluster, tmp_path):
    assert on_cluster.workers() == 2
    trials = [Trial(lr, "sgd", 8, 2) for lr in (1e-2, 1e-3)]
    there = search(tmp_path / "there", on_cluster, cut_head, trials)
    same_as_alone(there, search(tmp_path / "here", InProcess(), cut_head, trials))


def test_arrays_lie_in_the_object_store_not_in_the_actor(on_cluster):
    pixels, abnormal = images()
    packed = pack(Work(cut_all(tiny_network()), splits(abnormal), 4, cached=True, together=False))
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the actor can't import a test
    actor = ray.remote(Watched).remote({}, code_version(), packed, ray.put(pixels))
    assert ray.get(actor.owns_its_arrays.remote()) == [False]
    ray.kill(actor)


def test_nodes_with_other_code_are_refused_before_they_train(on_cluster, tmp_path, monkeypatch):
    monkeypatch.setattr("glaucoma.train.identity.code_version", lambda: "another")
    with pytest.raises(TrainingError, match=r"no worker can start on the cluster: .* in another version than here"):
        search(tmp_path, on_cluster, cut_head)


def test_a_node_killed_in_the_middle_costs_no_trial(on_cluster, nodes, alone, tmp_path, capsys):
    killing = Interrupted(on_cluster, lambda: nodes.remove_node(nodes.second, allow_graceful=False))
    searcher = search(tmp_path, killing)
    assert "a worker died (Actor" in capsys.readouterr().err
    same_as_alone(searcher, alone)


def test_more_gpus_than_any_node_has_are_refused(on_cluster, monkeypatch):
    monkeypatch.setenv("GLAUCOMA_GPUS_PER_TRIAL", "1")
    with pytest.raises(ParamsError, match="no node of the Ray cluster has room for a trial of 1 GPUs") as caught:
        choose()
    assert "GLAUCOMA_GPUS_PER_TRIAL" in caught.value.remedy


def test_an_address_where_nothing_answers_is_refused_at_once(nodes, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ParamsError, match=r"no Ray cluster answers at 127\.0\.0\.1:1: .*refused"):
        Cluster("127.0.0.1:1", None, 0)
