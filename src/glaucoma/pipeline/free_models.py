"""The report's free configurations: searches like stage 3, each on a network of its own.

Their heads are not stage 2's, so they start from their backbone's weights, not from stage 2's winner.
"""

from __future__ import annotations

from glaucoma.interrupts import held
from glaucoma.model.backbones import build_backbone
from glaucoma.model.cut import cut_all
from glaucoma.model.runtime import fresh, keras
from glaucoma.params import Params, views_of
from glaucoma.pipeline.search_stage import search_stage, with_head
from glaucoma.search.executors.choose import choose

__all__ = ["free_model", "free_network"]


@held()
def free_model(params: Params, model: str, jobs: int | None = None, executor: str | None = None) -> None:
    """Search the grid of section `model` with every layer trained, from its backbone's weights.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
    """
    search_stage(model, params, free_network(params, model), choose(jobs, executor), cut_all)


def free_network(params: Params, name: str) -> keras.Model:
    """The untrained network of `model4` or `model5`, its backbone with the weights that its section names.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
    """
    fresh(params.seed)
    own, views = getattr(params, name), len(views_of(params.data.crop))
    backbone = build_backbone(own.backbone.name, params.data.image_size, own.backbone.weights, views)
    return with_head(backbone, own.head, params.seed)
