"""The schema of params.yaml: type and range of each key, and a sentence for each value that does not fit.

Frozen; an unknown key, a wrong type, an empty list, NaN and infinity are refused by name. params.yaml itself explains
the keys to users.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from glaucoma.base.backbone_table import BACKBONES, nearest
from glaucoma.base.errors import ParamsError
from glaucoma.base.yaml12 import read_yaml

__all__ = [
    "VIEWS",
    "Augment",
    "Count",
    "Fit",
    "Fold",
    "Grid",
    "Head",
    "Optimizer",
    "Params",
    "Positive",
    "Regression",
    "Section",
    "check_params",
    "distinct",
    "load_params",
    "refusals",
    "views_of",
]

Optimizer = Literal["adam", "sgd", "adadelta", "adagrad"]
ClassWeight = Literal["none", "balanced"]
Schedule = Literal["constant", "cosine", "plateau"]


def distinct(values: list | None) -> list | None:
    """Refuse a list with a repeated value."""
    if values and len(set(values)) < len(values):
        raise ValueError("lists a value twice")
    return values


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Fold = Annotated[int, Field(ge=0)]
Number = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """Base of all sections: no unknown key, no conversion between types, no change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Fit(Section):
    """Training options, for grids that list no values of their own."""

    class_weight: ClassWeight
    label_smoothing: Share
    early_stopping: Number
    schedule: Schedule
    warmup: Number
    precise_bn: bool


class Augment(Section):
    """Random changes of images in training."""

    flip: Literal["none", "horizontal", "vertical", "both"]
    rotation: Annotated[float, Field(ge=0, le=180)]
    zoom: Share
    brightness: Share
    contrast: Share
    colour: Annotated[float, Field(ge=0, le=0.5)]

    def is_on(self) -> bool:
        """Whether any of it changes an image."""
        return any(value not in (0, "none") for value in self.model_dump().values())


class Grid(Section):
    """Values of each hyperparameter; a grid is their product. Options that it does not list are those of `fit`."""

    lr: Annotated[list[Positive], Field(min_length=1), AfterValidator(distinct)]
    optimizer: Annotated[list[Optimizer], Field(min_length=1), AfterValidator(distinct)]
    batch_size: Annotated[list[Count], Field(min_length=1), AfterValidator(distinct)]
    epochs: Annotated[list[Count], Field(min_length=1), AfterValidator(distinct)]
    class_weight: Annotated[list[ClassWeight] | None, Field(min_length=1), AfterValidator(distinct)] = None
    label_smoothing: Annotated[list[Share] | None, Field(min_length=1), AfterValidator(distinct)] = None
    early_stopping: Annotated[list[Number] | None, Field(min_length=1), AfterValidator(distinct)] = None
    schedule: Annotated[list[Schedule] | None, Field(min_length=1), AfterValidator(distinct)] = None
    warmup: Annotated[list[Number] | None, Field(min_length=1), AfterValidator(distinct)] = None
    precise_bn: Annotated[list[bool] | None, Field(min_length=1), AfterValidator(distinct)] = None


Score = Literal[
    "sensitivity",
    "specificity",
    "auroc",
    "partial_auroc",
    "sensitivity_at_95_specificity",
    "average_precision",
    "accuracy",
    "f1_macro",
    "mcc",
    "brier",
    "log_loss",
    "ece",
    "cost",
]
VIEWS = ("none", "retina", "disc", "wide")  # parts of a photograph that a network may see


def _known_backbone(name: str) -> str:
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone; the known ones, nearest first, are {', '.join(nearest(name))}")
    return name


def views_of(crop: str) -> tuple[str, ...]:
    """The parts that a value of `data.crop` asks for, left to right: `disc+retina` → disc, retina.

    Raises:
        ValueError: an unknown part, one named twice, or `none` beside another.
    """
    views = tuple(crop.split("+"))
    unknown = [view for view in views if view not in VIEWS]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is unknown; give one of {', '.join(VIEWS)}, or several joined by +")
    if len(set(views)) < len(views):
        raise ValueError("names a part twice")
    if "none" in views and len(views) > 1:
        raise ValueError("none cannot be combined; for the whole image without its black border use retina")
    return views


def _known_crop(crop: str) -> str:
    views_of(crop)
    return crop


KnownBackbone = Annotated[str, AfterValidator(_known_backbone)]


def _freeze_point(value: Any) -> int | str:
    if (isinstance(value, str) and value) or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError("should be a whole number ≥ 1, or the name of a block")


class Data(Section):
    """Where the photographs are and how they are read."""

    root: Annotated[str, Field(min_length=1)]
    layout: Literal["auto", "folds", "labels", "classes", "collection", "sources"]
    image_size: Annotated[int, Field(ge=32, le=1024)]
    crop: Annotated[str, AfterValidator(_known_crop)]
    classes: Annotated[dict[str, Literal["normal", "abnormal", "ignore"]], Field(min_length=2)]
    patients: Annotated[str, Field(min_length=1)]
    unreadable: Literal["stop", "drop"]
    max_megapixels: Positive


class Sample(Section):
    """The synthetic photographs."""

    images: Annotated[int, Field(ge=40, le=5000)]
    size: Annotated[int, Field(ge=96, le=1024)]


class Pretrain(Section):
    """The pretraining of backbones on rendered eyes, a pipeline of its own."""

    backbones: Annotated[list[KnownBackbone], AfterValidator(distinct)]
    images: Annotated[int, Field(ge=40, le=1_000_000)]
    image_size: Annotated[int, Field(ge=64, le=512)]
    lr: Positive
    batch_size: Count
    epochs: Count


class Backbone(Section):
    """The pretrained part of the network."""

    name: KnownBackbone
    weights: Annotated[str, Field(min_length=1)]


class Head(Section):
    """The trained top of the network: `blocks` times (pooling, batch normalisation, dropout), then softmax."""

    blocks: Annotated[int, Field(ge=1, le=10)]
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Regression(Section):
    """The logistic regression on the frozen backbone's features, one possible model of a fold."""

    flips: Literal["none", "horizontal", "both"]
    C: Positive


class Search(Section):
    """Data and metric by which every search selects."""

    fold: Fold
    metric: Score
    miss_cost: Positive
    cache: bool
    nested: bool


class Stage(Section):
    """A search stage."""

    grid: Grid


class Stage2(Stage):
    """The search that also trains the end of the backbone."""

    unfreeze_last: Annotated[int | str, PlainValidator(_freeze_point)]


class FreeModel(Stage):
    """A search with every layer trained, on a backbone and with a head of its own."""

    backbone: Backbone
    head: Head


class Crossval(Section):
    """Folds and model of the cross-validation, its starting weights, and how folds are drawn if there are none."""

    model: Literal["final", "regression", "model4", "model5"]
    folds: Annotated[list[Fold], Field(min_length=1), AfterValidator(distinct)]
    warm_start: Literal["fold", "stage2", "none"]
    n_folds: Annotated[int, Field(ge=2, le=100)]
    held_out: Annotated[float, Field(gt=0, lt=0.5)]


class Thresholds(Section):
    """Targets of the chosen thresholds, beside 0.5, Youden's J and the least cost."""

    sensitivity: Annotated[float, Field(gt=0, le=1)]
    specificity: Annotated[float, Field(gt=0, le=1)]


class Audit(Section):
    """Findings that the user accepts, by name."""

    waive: list[str]


class Params(Section):
    """Everything that affects a result. `lr` … `epochs` are the final configuration, used for every fold."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    lr: Positive
    optimizer: Optimizer
    batch_size: Count
    epochs: Count
    fit: Fit
    augment: Augment
    data: Data
    sample: Sample
    backbone: Backbone
    head: Head
    regression: Regression
    search: Search
    stage1: Stage
    stage2: Stage2
    stage3: Stage
    free_models: Annotated[list[Literal["model4", "model5"]], AfterValidator(distinct)]
    model4: FreeModel
    model5: FreeModel
    pretrain: Pretrain
    crossval: Crossval
    thresholds: Thresholds
    audit: Audit


def load_params(path: Path | str) -> Params:
    """Read and check params.yaml.

    Raises:
        ParamsError: the file cannot be read, or as `check_params`.
    """
    return check_params(read_yaml(path), str(path))


def check_params(raw: Any, name: str) -> Params:
    """Check parameters read from a YAML file; `name` is the file in messages.

    Raises:
        ParamsError: names every key that does not fit, its value and what would fit.
    """
    if not isinstance(raw, dict):
        raise ParamsError(f"{name} has no keys", "restore the shipped version with `git checkout` and edit that")
    try:
        params = Params.model_validate(raw)
    except ValidationError as error:
        lines = refusals(error, Params)
    else:
        lines = _conflicts(params)
        if not lines:
            return params
    raise ParamsError(f"{name}: " + "\n  ".join(lines), "the comments of params.yaml explain each key")


def _listed(value: Any) -> list:
    """The values of a key as a list: one value, a grid's list, or none."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _conflicts(params: Params) -> list[str]:
    """Values that do not go together."""
    name, size, end = params.backbone.name, params.data.image_size, params.stage2.unfreeze_last
    row = BACKBONES[name]
    used = dict.fromkeys([name, params.model4.backbone.name, params.model5.backbone.name])
    lines = [
        f"data.image_size is {size}: {used_name} needs {BACKBONES[used_name].smallest_size} or more"
        for used_name in used
        if size < BACKBONES[used_name].smallest_size
    ]
    if params.search.cache and params.augment.is_on():
        lines.append(
            "augment changes images during training, but search.cache is true: activations of frozen layers are "
            "computed once, from unchanged images; set search.cache to false"
        )
    if params.crossval.model != "final" and params.crossval.warm_start != "none":
        lines.append(
            f"crossval.warm_start is {params.crossval.warm_start!r}: crossval.model is {params.crossval.model}, which "
            "starts from its backbone's weights; set crossval.warm_start to none"
        )
    if params.search.nested and params.crossval.warm_start != "fold":
        lines.append(
            f"search.nested is true, but crossval.warm_start is {params.crossval.warm_start!r}: only fold searches "
            "within each fold; set it to fold, or search.nested to false"
        )
    followed = [params.fit, params.stage1.grid, params.stage2.grid]
    stops = any(stop for one in followed for stop in _listed(one.early_stopping))
    if params.search.nested and (stops or any("plateau" in _listed(one.schedule) for one in followed)):
        lines.append(
            "search.nested is true: early_stopping and the schedule plateau follow the loss on the fold's test split, "
            "which nested selection must not use; set them to 0 and constant, or search.nested to false"
        )
    if isinstance(end, str) and end not in row.blocks:
        near = difflib.get_close_matches(end, row.blocks, n=1)
        meant = f"did you mean {near[0]}? " if near else ""
        lines.append(f"stage2.unfreeze_last is {end!r}: {meant}the blocks of {name} are {', '.join(row.blocks)}")
    return lines


def refusals(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    """One sentence per problem; for an unknown key, with the most similar known one."""
    return [_sentence(problem, schema) for problem in error.errors()]


def _sentence(problem: Any, schema: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        parent = problem["loc"][:-1]
        near = difflib.get_close_matches(str(problem["loc"][-1]), _keys(parent, schema), n=1)
        hint = f"; did you mean {'.'.join([*map(str, parent), near[0]])}?" if near else ""
        return f"{where} is not a known key{hint}"
    if problem["type"] == "missing":
        return f"{where} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{where} is {problem['input']!r}: {message}"


def _keys(location: tuple, schema: Any) -> list[str]:
    """The keys known at a location of the schema."""
    for part in location:
        annotation = schema.model_fields[part].annotation if part in schema.model_fields else None
        models = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
        if not models:
            return []
        schema = models[0]
    return list(schema.model_fields)
