"""The schema of params.yaml: type and range of each key, and a sentence for each invalid value.

Values are frozen; unknown keys, wrong types, empty lists, NaN and infinity are rejected by name. The comments of
params.yaml explain the keys.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_args, get_type_hints

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError, create_model

from glaucoma.base.backbone_table import BACKBONES, nearest
from glaucoma.base.errors import ParamsError
from glaucoma.base.paths import FREE, public
from glaucoma.base.yaml12 import read_yaml

__all__ = [
    "VIEWS",
    "WEIGHTS",
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
    "Trial",
    "check_params",
    "columns",
    "distinct",
    "expand",
    "group",
    "load_params",
    "refusals",
    "views_of",
]

Optimizer = Literal["adam", "sgd", "adadelta", "adagrad"]
ClassWeight = Literal["none", "balanced"]
Schedule = Literal["constant", "cosine", "plateau"]


def distinct(values: list | None) -> list | None:
    """Reject a list with a repeated value."""
    if values and len(set(values)) < len(values):
        raise ValueError("lists a value twice")
    return values


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Fold = Annotated[int, Field(ge=0)]
Number = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """Base of all sections: no unknown keys, no type conversion, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Trial(Section):
    """A training configuration. A field with a default is an option of `fit`; the default is the report's.

    To add an option, add a field here, a key to params.yaml (and shipped.yaml), and the code that uses it: `Grid` and
    `Fit` are derived from these fields.

    Attributes:
        lr: learning rate.
        optimizer: its name.
        batch_size: images per batch.
        epochs: passes over the train split.
        class_weight: `none`, or `balanced`: images / (2 · images of the class).
        label_smoothing: share of each label that is spread over both classes.
        early_stopping: epochs without a lower test loss until training stops, with the best epoch's weights; 0: never.
        schedule: of the learning rate: `constant`, `cosine` or `plateau`.
        warmup: initial epochs in which the learning rate rises.
        precise_bn: whether trained batch normalisation uses the train split's statistics instead of moving averages.
    """

    lr: Positive
    optimizer: Optimizer
    batch_size: Count
    epochs: Count
    class_weight: ClassWeight = "none"
    label_smoothing: Share = 0.0
    early_stopping: Number = 0
    schedule: Schedule = "constant"
    warmup: Number = 0
    precise_bn: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The configuration as plain values, in the report's order; only options that differ from the defaults."""
        return self.model_dump(exclude_defaults=True)

    def options(self) -> tuple:
        """The values of all options, in the order of the fields."""
        return tuple(getattr(self, name) for name in OPTIONS)

    def knows_the_end(self) -> bool:
        """Whether training depends on the planned number of epochs, so a shorter training is not part of a longer."""
        return self.schedule == "cosine" or self.early_stopping > 0

    def __str__(self) -> str:
        own = f"{self.optimizer} lr {self.lr:g} batch {self.batch_size} epochs {self.epochs}"
        return " ".join([own, *(f"{name} {value}" for name, value in self.as_dict().items() if name in OPTIONS)])


_TYPES: dict[str, Any] = get_type_hints(Trial, include_extras=True)
OPTIONS = tuple(name for name, field in Trial.model_fields.items() if not field.is_required())


if TYPE_CHECKING:  # classes that are made of a trial's fields
    Fit: TypeAlias = Any
    Grid: TypeAlias = Any
else:

    def _values_of(name: str) -> tuple[Any, Any]:
        """The grid field for a field of `Trial`: a list of values; None takes an option from `fit`."""
        listed = list[_TYPES[name]]
        kind = listed | None if name in OPTIONS else listed
        return Annotated[kind, Field(min_length=1), AfterValidator(distinct)], None if name in OPTIONS else ...

    Fit = create_model(
        "Fit",
        __base__=Section,
        __doc__="Training options, for grids that list no values of their own.",
        **{name: (_TYPES[name], ...) for name in OPTIONS},
    )
    Grid = create_model(
        "Grid",
        __base__=Section,
        __doc__="Values of each field of a trial, whose product it is. Options it does not list are those of `fit`.",
        **{name: _values_of(name) for name in Trial.model_fields},
    )


def expand(grid: Grid, fit: Fit | None = None) -> list[Trial]:
    """The product of a grid's values, learning rate slowest, epochs fastest; other options come from `fit`."""
    rest = fit.model_dump() if fit else {}
    listed = {name: values for name, values in grid if values}
    names = [name for name in listed if name != "epochs"] + ["epochs"]
    products = itertools.product(*(listed[name] for name in names))
    return [Trial(**{**rest, **dict(zip(names, values, strict=True))}) for values in products]


def columns(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """`as_dict` of each trial, with the union of their keys."""
    trials = list(trials)
    named = {name for trial in trials for name in trial.as_dict()}
    shown = [name for name in OPTIONS if name in named]
    return [trial.as_dict() | {name: getattr(trial, name) for name in shown} for trial in trials]


def group(trials: Iterable[Trial]) -> list[tuple[Trial, ...]]:
    """Group trials that differ only in epochs into runs, ascending: the last is trained, the others are its snapshots.

    If training depends on the planned number of epochs, a run is one trial. Runs are ordered so that a compiled model
    is reused as often as possible.
    """
    runs: dict[tuple, list[Trial]] = {}
    for trial in trials:
        alone = trial.epochs if trial.knows_the_end() else 0
        key = trial.optimizer, trial.batch_size, trial.lr, trial.options(), alone
        runs.setdefault(key, []).append(trial)
    return [tuple(sorted(runs[key], key=lambda trial: trial.epochs)) for key in sorted(runs)]


class Augment(Section):
    """Random augmentation of images in training."""

    flip: Literal["none", "horizontal", "vertical", "both"]
    rotation: Annotated[float, Field(ge=0, le=180)]
    zoom: Share
    brightness: Share
    contrast: Share
    colour: Annotated[float, Field(ge=0, le=0.5)]

    def is_on(self) -> bool:
        """Whether any augmentation is enabled."""
        return any(value not in (0, "none") for value in self.model_dump().values())


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
WEIGHTS = ("none", "imagenet")  # of a backbone, which are no file
VIEWS = ("none", "retina", "disc", "wide")  # crops of a photograph for the network


def _known_backbone(name: str) -> str:
    if name not in BACKBONES:
        raise ValueError(f"unknown backbone; the known ones, nearest first, are {', '.join(nearest(name))}")
    return name


def views_of(crop: str) -> tuple[str, ...]:
    """The views of a value of `data.crop`, left to right: `disc+retina` → disc, retina.

    Raises:
        ValueError: an unknown view, a repeated view, or `none` combined with another.
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


class Backbone(Section):
    """The pretrained part of the network."""

    name: KnownBackbone
    weights: Annotated[str, Field(min_length=1)]

    @property
    def file(self) -> Path | None:
        """Of the weights; None where a word stands for them."""
        return None if self.weights in WEIGHTS else Path(self.weights).expanduser()

    def public(self) -> Backbone:
        """The same without anybody's folders."""
        return self.model_copy(update={"weights": public(self.weights)})


class Head(Section):
    """The trained top of the network: `blocks` times (pooling, batch normalisation, dropout), then softmax."""

    blocks: Annotated[int, Field(ge=1, le=10)]
    dropout: Annotated[float, Field(ge=0, lt=1)]


class Regression(Section):
    """The logistic regression on the frozen backbone's features, one possible model of a fold."""

    flips: Literal["none", "horizontal", "both"]
    C: Positive


class Search(Section):
    """The data and the metric on which every search selects."""

    fold: Fold
    metric: Score
    miss_cost: Positive
    nested: bool


class Stage(Section):
    """A search stage."""

    grid: Grid


class Stage2(Stage):
    """The search that also trains the end of the backbone."""

    unfreeze_last: Annotated[int | str, PlainValidator(_freeze_point)]


class Stage3(Stage):
    """The search that trains every layer; folds of `crossval.model: final` are trained like it."""

    batch_norm: Literal["frozen", "trained"]


class FreeModel(Stage):
    """A search with every layer trained, with its own backbone and head."""

    backbone: Backbone
    head: Head


class Crossval(Section):
    """Folds and model of the cross-validation, its starting weights, and how folds are drawn if there are none."""

    model: Literal["final", "regression", "model4", "model5"]
    folds: Annotated[list[Fold], Field(min_length=1), AfterValidator(distinct)]
    warm_start: Literal["fold", "stage2", "none"]
    flips: Literal["none", "horizontal", "both"]
    seed: Annotated[int, Field(ge=0, lt=2**16)]
    n_folds: Annotated[int, Field(ge=2, le=100)]
    held_out: Annotated[float, Field(gt=0, lt=0.5)]


class Thresholds(Section):
    """Targets for choosing thresholds, beside 0.5, Youden's J and the least cost."""

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
    stage3: Stage3
    free_models: Annotated[list[Literal["model4", "model5"]], AfterValidator(distinct)]
    model4: FreeModel
    model5: FreeModel
    crossval: Crossval
    thresholds: Thresholds
    audit: Audit

    def final(self) -> Trial:
        """The final configuration, used for every fold."""
        own = {name: getattr(self, name) for name in Trial.model_fields if name not in OPTIONS}
        return Trial(**own, **self.fit.model_dump())

    def public(self) -> Params:
        """The same without anybody's folders, for what is published: paths as `paths.public` gives them."""
        data = self.data.model_copy(update={"root": public(self.data.root)})
        free = {name: getattr(self, name) for name in FREE}
        return self.model_copy(
            update={
                "data": data,
                "backbone": self.backbone.public(),
                **{name: one.model_copy(update={"backbone": one.backbone.public()}) for name, one in free.items()},
            }
        )

    def trials(self, name: str) -> list[Trial]:
        """The trials of a search: of stage1, stage2, stage3, model4 or model5."""
        return expand(getattr(self, name).grid, self.fit)


def load_params(path: Path | str) -> Params:
    """Read and check params.yaml.

    Raises:
        ParamsError: the file cannot be read, or see `check_params`.
    """
    return check_params(read_yaml(path), str(path))


def check_params(raw: Any, name: str) -> Params:
    """Check parameters read from a YAML file; `name` is the file in messages.

    Raises:
        ParamsError: a value is invalid; it names every such key, its value and the valid ones.
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
    """The values of a key as a list: a single value, a grid's list, or none."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _conflicts(params: Params) -> list[str]:
    """A sentence for each pair of incompatible values."""
    name, size, end = params.backbone.name, params.data.image_size, params.stage2.unfreeze_last
    row = BACKBONES[name]
    used = dict.fromkeys([name, params.model4.backbone.name, params.model5.backbone.name])
    lines = [
        f"data.image_size is {size}: {used_name} needs {BACKBONES[used_name].smallest_size} or more"
        for used_name in used
        if size < BACKBONES[used_name].smallest_size
    ]
    if params.crossval.model != "final" and params.crossval.warm_start != "none":
        lines.append(
            f"crossval.warm_start is {params.crossval.warm_start!r}: crossval.model is {params.crossval.model}, which "
            "starts from its backbone's weights; set crossval.warm_start to none"
        )
    if params.crossval.model == "regression" and params.crossval.flips != "none":
        lines.append(
            f"crossval.flips is {params.crossval.flips!r}: crossval.model is regression, which averages over "
            "regression.flips itself; set crossval.flips to none"
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
    """The valid keys at a location of the schema."""
    for part in location:
        annotation = schema.model_fields[part].annotation if part in schema.model_fields else None
        models = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
        if not models:
            return []
        schema = models[0]
    return list(schema.model_fields)
