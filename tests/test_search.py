import numpy as np
import pytest
import small

from glaucoma.base.errors import TrainingError
from glaucoma.base.params import Trial
from glaucoma.model.artifacts import load_model, save_model
from glaucoma.model.cut import cut_all, cut_head, cut_last
from glaucoma.model.network import values
from glaucoma.train.ranking import rank
from glaucoma.train.search import Searcher

PIXELS, ABNORMAL = small.images()
SPLITS = small.splits(ABNORMAL)

TRIALS = [
    Trial(lr=lr, optimizer=name, batch_size=16, epochs=epochs)
    for lr in (0.01, 0.001)
    for name in ("adam", "sgd")
    for epochs in (1, 3)
]
EXPLODING = [Trial(lr=1e38, optimizer="sgd", batch_size=16, epochs=epochs) for epochs in (2, 3)]


def searcher(state, network=None, cut=cut_head, **options) -> Searcher:
    return Searcher(cut(network or small.tiny_network()), PIXELS, SPLITS, seed=7, state=state, title="test", **options)


def records(state) -> dict[str, int]:
    """The journal's records with their times of writing."""
    return {path.parent.name: path.stat().st_mtime_ns for path in state.glob("trials/*/record.json")}


def all_same(found: dict, expected: dict) -> None:
    assert found.keys() == expected.keys()
    for trial, snapshot in found.items():
        small.same(snapshot, expected[trial])


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """An uninterrupted search over the head, and its state folder."""
    state = tmp_path_factory.mktemp("state")
    return searcher(state).train(TRIALS), state


def test_each_trial_ends_with_weights_of_its_own(searched):
    finished, _ = searched
    assert list(finished) == TRIALS
    assert len({snapshot.weights[0].tobytes() for snapshot in finished.values()}) == len(TRIALS)
    for trial, snapshot in finished.items():
        assert snapshot.epochs == len(snapshot.history) == trial.epochs
        assert snapshot.log_odds.keys() == SPLITS.keys()


def test_training_from_pixels_gives_the_same(searched, tmp_path):
    some = [TRIALS[1], TRIALS[3]]
    all_same(searcher(tmp_path, cached=False).train(some), {trial: searched[0][trial] for trial in some})


def test_a_trial_ends_as_it_would_in_other_company_and_in_any_order(searched, tmp_path):
    mixed = [
        *TRIALS[::-1],
        Trial(lr=0.01, optimizer="adam", batch_size=38, epochs=1),
        Trial(lr=0.5, optimizer="adadelta", batch_size=16, epochs=2),
        Trial(lr=0.1, optimizer="adagrad", batch_size=16, epochs=1),
    ]
    found = searcher(tmp_path).train(mixed)
    assert list(found) == mixed
    all_same({trial: found[trial] for trial in TRIALS}, searched[0])


def test_a_second_search_trains_nothing_and_finds_the_same(searched):
    finished, state = searched
    before = records(state)
    assert len(before) == len(TRIALS)
    all_same(searcher(state).train(TRIALS), finished)
    assert records(state) == before


def test_a_search_that_was_stopped_goes_on_with_what_is_missing_or_damaged(searched, tmp_path):
    stopped = searcher(tmp_path)
    stopped.train(TRIALS[:3])
    damaged = stopped.identity(TRIALS[0])
    (tmp_path / "trials" / damaged / "weights.npz").write_bytes(b"half")
    before = {name: written for name, written in records(tmp_path).items() if name != damaged}
    all_same(searcher(tmp_path).train(TRIALS), searched[0])
    after = records(tmp_path)
    assert len(after) == len(TRIALS)
    assert {name: after[name] for name in before} == before


def test_a_fold_finds_what_the_search_trained_on_the_network_before_it_was_saved(searched, tmp_path):
    finished, state = searched
    network = small.tiny_network()
    save_model(network, tmp_path / "network.keras", {})
    before = records(state)
    all_same(searcher(state, network=load_model(tmp_path / "network.keras")).train(TRIALS), finished)
    assert records(state) == before


def test_the_next_stage_finds_its_trials_whether_the_winner_was_taken_or_loaded(searched, tmp_path):
    """The warm start of a fold continues in memory, the search stages via a file."""
    finished, state = searched
    network = small.tiny_network()
    first = searcher(state, network=network)
    first.take(finished[TRIALS[1]])
    save_model(network, tmp_path / "winner.keras", {})
    cut = lambda whole: cut_last(whole, 3)  # noqa: E731
    taken = searcher(state, network=network, cut=cut)
    loaded = searcher(state, network=load_model(tmp_path / "winner.keras"), cut=cut)
    assert taken.identity(TRIALS[0]) == loaded.identity(TRIALS[0])


def test_the_network_predicts_what_the_trial_did_once_its_weights_are_taken(searched):
    finished, state = searched
    network = small.tiny_network()
    search = searcher(state, network=network)
    for trial in (TRIALS[1], TRIALS[2]):
        search.take(finished[trial])
        for name, split in SPLITS.items():
            found = network.predict(PIXELS[split.rows].astype("float32"), verbose=0)[:, 1]
            np.testing.assert_allclose(found, finished[trial].probability[name], rtol=1e-5)


@pytest.mark.parametrize("cut", [cut_head, lambda network: cut_last(network, 3), cut_all])
def test_a_trial_that_diverges_is_ranked_last_with_its_reason_and_the_others_go_on(cut, tmp_path):
    trials = [*EXPLODING, Trial(lr=0.001, optimizer="adam", batch_size=16, epochs=2)]
    search = searcher(tmp_path, cut=cut)
    finished = search.train(trials)
    assert list(finished) == trials[2:]
    assert list(search.errors) == EXPLODING
    table, best = rank(trials, finished, search.errors, SPLITS["test"], "f1_macro")
    assert best == trials[2]
    assert table["status"].tolist() == ["ok", "failed", "failed"]
    assert table["error"].str.contains("diverged").tolist() == [False, True, True]
    assert len(records(tmp_path)) == 1
    untrained = searcher(tmp_path, cut=cut).cut.tail
    small.same_arrays(values(search.cut.tail.variables), values(untrained.variables))


def test_a_search_of_which_no_trial_survives_is_an_error_that_says_why(tmp_path):
    with pytest.raises(TrainingError, match="all 2 trials failed") as caught:
        searcher(tmp_path).train(EXPLODING)
    assert "diverged" in caught.value.found
    assert "learning rate" in caught.value.remedy


def test_what_came_before_the_divergence_is_kept(tmp_path):
    """Weights overflow in the second epoch or later; the trial that ends before is complete."""
    trials = [Trial(lr=3e18, optimizer="sgd", batch_size=38, epochs=epochs) for epochs in (1, 30)]
    search = searcher(tmp_path)
    finished = search.train(trials)
    if trials[1] in finished:
        pytest.fail(f"the learning rate is too low to diverge: {finished[trials[1]].history}")
    assert list(finished) == trials[:1]
    assert list(search.errors) == trials[1:]


def test_a_bug_is_no_failed_trial(tmp_path):
    search = searcher(tmp_path)
    with pytest.raises(KeyError):
        search.train([Trial.model_construct(lr=0.001, optimizer="rmsprop", batch_size=16, epochs=1)])
    assert not search.errors
