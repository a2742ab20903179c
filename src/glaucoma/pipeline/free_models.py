"""The report's free configurations: searches like stage 3, each on a network of its own.

Their heads are not stage 2's, so they start from their backbone's weights, not from stage 2's winner.
"""

from __future__ import annotations

from glaucoma.interrupts import held
from glaucoma.model.backbones import build_backbone
from glaucoma.model.cut import cut_all
from glaucoma.model.runtime import fresh, keras
from glaucoma.params import Params
from glaucoma.pipeline.search_stage import search_stage, with_head

__all__ = ["free_model", "free_network"]


@held()
def free_model(params: Params, model: str, jobs: int | None = None) -> None:
    """Search the grid of section `model` with every layer trained, from its backbone's weights.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
    """
    search_stage(model, params, free_network(params, model), cut_all, jobs)


def free_network(params: Params, name: str) -> keras.Model:
    """The untrained network of `model4` or `model5`, its backbone with the weights that its section names.

    Raises:
        WeightsError: the weights cannot be had or do not fit.
    """
    fresh(params.seed)
    section = getattr(params, name)
    backbone = build_backbone(section.backbone.name, params.data.image_size, section.backbone.weights)
    return with_head(backbone, section.head, params.seed)
