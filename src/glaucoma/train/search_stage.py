"""Run a search stage: stage 1 (head), stage 2 (end of the backbone), stage 3 (every layer)."""

from __future__ import annotations

from dataclasses import asdict

from glaucoma.base import paths
from glaucoma.base.backbone_table import weights_from
from glaucoma.base.files import hash_json, sha256_file, write_csv, write_json
from glaucoma.base.interrupts import held
from glaucoma.base.params import Backbone, Head, Params, views_of
from glaucoma.base.progress import say
from glaucoma.dataset.folds import require_folds
from glaucoma.dataset.splits import Dataset, Split, load_dataset
from glaucoma.evaluate.scores import scores
from glaucoma.model.artifacts import load_model, save_model
from glaucoma.model.backbones import build_backbone
from glaucoma.model.batches import Batches, predicted
from glaucoma.model.cut import cut_of
from glaucoma.model.likeness import learn
from glaucoma.model.network import CLASSES, build_network
from glaucoma.model.runtime import describe, fresh, keras, ready_to_predict
from glaucoma.model.scorer import log_odds, scorer
from glaucoma.model.sidecar import read_sidecar
from glaucoma.train.outputs import images_per_second, write_rungs, write_training
from glaucoma.train.pool import choose
from glaucoma.train.ranking import best_of, rank, tied, timings
from glaucoma.train.search import Searcher
from glaucoma.train.trainer import Snapshot

__all__ = [
    "dataset",
    "free_model",
    "free_network",
    "likeness",
    "model_card",
    "search_stage",
    "stage1",
    "stage2",
    "stage3",
    "with_head",
]

TOP = 5  # trials that are shown


@held()
def stage1(params: Params, jobs: int | None = None) -> None:
    """Search with the whole backbone frozen: only the head is trained."""
    fresh(params.seed)
    network = with_head(load_model(paths.BACKBONE), params.head, params.seed)
    search_stage("stage1", params, network, jobs)


@held()
def stage2(params: Params, jobs: int | None = None) -> None:
    """Search with the last layers of the backbone trained too, from stage 1's winner."""
    fresh(params.seed)
    network = load_model(paths.search_files("stage1")["model"])
    search_stage("stage2", params, network, jobs)


@held()
def stage3(params: Params, jobs: int | None = None) -> None:
    """Search with every layer trained, from stage 2's winner."""
    fresh(params.seed)
    network = load_model(paths.search_files("stage2")["model"])
    search_stage("stage3", params, network, jobs)


def with_head(backbone: keras.Model, head: Head, seed: int) -> keras.Model:
    """A backbone with the configured head."""
    return build_network(backbone, dropout=head.dropout, blocks=head.blocks, seed=seed)


def search_stage(name: str, params: Params, network: keras.Model, jobs: int | None = None) -> Snapshot:
    """Train the grid of stage `name` from `network`, and write its model, metrics, tables and timings.

    Results do not depend on `jobs`, the number of parallel runs; None leaves it to the environment (`train.pool`).

    Returns:
        The winner's final state; `network` has its weights.

    Raises:
        DataError: the search fold is unusable for training.
        TrainingError: every trial failed.
    """
    splits = dataset(params).fold(params.search.fold)
    splits = {split: splits[split] for split in ("train", "test")}
    files = paths.search_files(name)
    trials = params.trials(name)
    searcher = Searcher(
        cut_of(name, network, params),
        dataset().pixels,
        splits,
        seed=params.seed,
        state=paths.STATE,
        augment=params.augment,
        title=name,
        pool=choose(jobs),
    )
    finished = searcher.train(trials)
    test = splits["test"]
    table, best = rank(trials, finished, searcher.errors, test, params.search.metric, params.search.miss_cost)
    winner = finished[best]
    searcher.take(winner)

    write_csv(files["table"], table)
    write_csv(files["timing"], timings(trials, finished))
    write_csv(files["report"] / "top5.csv", table.head(TOP))
    what, stops = f"{best_of(table)} ({best})", best.early_stopping > 0
    found = write_training(winner, splits["train"], {"test": test}, files["report"], name, what, stops=stops)
    result = {"best": best.as_dict(), "test": scores(test.abnormal, log_odds=winner.log_odds["test"])}
    counts = {"trials": len(trials), "failed": len(trials) - len(finished), "tied": tied(table), "warnings": len(found)}
    # Folds depend on this file: with nested selection they search the same grids
    write_json(files["metrics"], {**result, **counts, "grid": hash_json([str(trial) for trial in trials])[:12]})
    about = {"stage": name, "fold": params.search.fold, **result, **likeness(splits["train"])}
    about["warnings"] = [asdict(symptom) for symptom in found]
    save_model(network, files["model"], model_card(params, about, name))
    shown = [
        "param_optimizer",
        "param_lr",
        "param_epochs",
        "param_batch_size",
        "mean_test_sensitivity",
        "mean_test_accuracy",
        "mean_test_f1_macro",
    ]
    shown[4:4] = [name for name in table if name.startswith("param_") and name not in shown]
    top = table.head(TOP)[shown].rename(columns=lambda c: c.removeprefix("param_").removeprefix("mean_test_"))
    say(f"{name}: {best_of(table)} on fold {params.search.fold}, test\n{top.to_string(index=False)}")
    return winner


def dataset(params: Params | None = None) -> Dataset:
    """The indexed and decoded images of the project.

    Raises:
        ParamsError: the params ask for folds that the index lacks. It was made before they were changed, so each stage
            that trains looks, not only the one that lacks its fold.
        DataError: the files are missing or do not match.
    """
    found = load_dataset(paths.INDEX, paths.PIXELS, paths.PIXELS_TABLE)
    if params:
        require_folds(params, found.folds, f"of {paths.INDEX}")
    return found


def likeness(train: Split) -> dict:
    """Statistics of the training images' appearance, for the model card; empty if there are too few images."""
    found = learn(dataset().pixels, train.rows)
    return {"likeness": found.as_dict()} if found else {}


def model_card(params: Params, about: dict, model: str = "final") -> dict:
    """The metadata needed to use and reproduce a model; `model4` and `model5` have their own sections of params."""
    section = getattr(params, model) if model in paths.FREE else params
    after_stage2 = about.get("stage") in ("stage2", "stage3") or about.get("warm_start", "none") != "none"
    part = "regression" if model == "regression" else "head"
    top = {} if "regression" in about else {part: getattr(section, part).model_dump()}
    after_stage3 = about.get("stage") == "stage3" or (about.get("stage"), model) == ("crossval", "final")
    return {
        "classes": list(CLASSES),
        "positive": "abnormal",
        "input": {"size": params.data.image_size, "crop": params.data.crop, "channels": "RGB", "range": [0, 255]},
        "threshold": 0.5,
        "backbone": _backbone(section.backbone, own=model in paths.FREE),
        **top,
        **({"unfreeze_last": params.stage2.unfreeze_last} if after_stage2 else {}),
        **({"batch_norm": params.stage3.batch_norm} if after_stage3 else {}),
        "seed": params.seed,
        "versions": describe(),
        **about,
    }


def _backbone(backbone: Backbone, *, own: bool) -> dict:
    """Its name, the source of its weights and, where that is a file, the file's hash.

    Args:
        backbone: of the params.
        own: whether the model read the weights itself, instead of those of the stage `backbone`.
    """
    told = backbone.public().model_dump() | weights_from(backbone.name, backbone.weights)
    if backbone.file is None:
        return told
    return told | {
        "weights_sha256": sha256_file(backbone.file) if own else read_sidecar(paths.BACKBONE).get("weights_sha256")
    }


BATCH = 16  # images per inference step


@held()
def free_model(params: Params, model: str, jobs: int | None = None) -> None:
    """Search the grid of section `model` with every layer trained, from its backbone's weights.

    The winner's predictions and cost are written for the summary, which compares them with the other rungs.

    Raises:
        WeightsError: the weights are not available or do not fit.
    """
    network = free_network(params, model)
    winner = search_stage(model, params, network, jobs)
    data = dataset()
    splits = data.fold(params.search.fold)
    scored = scorer(network)
    ready_to_predict(scored)
    held_out = predicted(scored, Batches([data.pixels], splits["valid"].rows, None, batch_size=BATCH))
    write_rungs(
        {model: {**winner.log_odds, "valid": log_odds(held_out)}},
        splits,
        params.search.fold,
        paths.search_files(model)["report"],
    )
    rate = images_per_second(network, data.pixels, splits["valid"].rows)
    write_json(paths.cost_file(model), {"seconds": winner.seconds, "images_per_second": rate})


def free_network(params: Params, name: str) -> keras.Model:
    """The untrained network of `model4` or `model5`, with the backbone weights of its section.

    Raises:
        WeightsError: the weights are not available or do not fit.
    """
    fresh(params.seed)
    own, views = getattr(params, name), len(views_of(params.data.crop))
    backbone = build_backbone(own.backbone.name, params.data.image_size, own.backbone.weights, views)
    return with_head(backbone, own.head, params.seed)
