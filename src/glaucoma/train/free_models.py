"""The report's free configurations: searches like stage 3, each on a network of its own.

Their heads are not stage 2's, so they start from their backbone's weights, not from stage 2's winner.
"""

from __future__ import annotations

from glaucoma.base import paths
from glaucoma.base.files import write_json
from glaucoma.base.interrupts import held
from glaucoma.base.params import Params, views_of
from glaucoma.model.backbones import build_backbone
from glaucoma.model.batches import Batches
from glaucoma.model.cut import cut_all
from glaucoma.model.runtime import fresh, keras, ready_to_predict
from glaucoma.model.scorer import log_odds, scorer
from glaucoma.train.outputs import images_per_second, write_rungs
from glaucoma.train.search_stage import dataset, search_stage, with_head

__all__ = ["free_model", "free_network"]

BATCH = 16  # images per inference step


@held()
def free_model(params: Params, model: str, jobs: int | None = None) -> None:
    """Search the grid of section `model` with every layer trained, from its backbone's weights.

    The winner's predictions and cost are kept for the summary, which sets them beside the other rungs'.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
    """
    network = free_network(params, model)
    winner = search_stage(model, params, network, cut_all, jobs)
    data = dataset()
    splits = data.fold(params.search.fold)
    scored = scorer(network)
    ready_to_predict(scored)
    held_out = scored.predict(Batches([data.pixels], splits["valid"].rows, None, batch_size=BATCH), verbose=0)
    write_rungs(
        {model: {**winner.log_odds, "valid": log_odds(held_out)}},
        splits,
        params.search.fold,
        paths.search_files(model)["report"],
    )
    rate = images_per_second(network, data.pixels, splits["valid"].rows)
    write_json(paths.cost_file(model), {"seconds": winner.seconds, "images_per_second": rate})


def free_network(params: Params, name: str) -> keras.Model:
    """The untrained network of `model4` or `model5`, its backbone with the weights that its section names.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
    """
    fresh(params.seed)
    own, views = getattr(params, name), len(views_of(params.data.crop))
    backbone = build_backbone(own.backbone.name, params.data.image_size, own.backbone.weights, views)
    return with_head(backbone, own.head, params.seed)
