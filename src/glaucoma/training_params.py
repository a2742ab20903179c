"""The sections of params.yaml for training, and the types that all sections share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

__all__ = ["Augment", "Count", "Fit", "Fold", "Grid", "Optimizer", "Positive", "Section", "distinct"]

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
