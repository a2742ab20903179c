"""Traits that may predict the label without the eye itself (file, pixels, name, folder), and their descriptions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from sklearn.tree import DecisionTreeClassifier

from glaucoma.base.errors import shown
from glaucoma.base.index import CONDITIONS, SPLITS
from glaucoma.dataset.probes import LEAF
from glaucoma.photos.images import SUFFIXES
from glaucoma.photos.looks import Look

__all__ = ["BY_NAME", "SEEN", "Trait", "in_words", "traits_of"]

# Traits that a model can see, if only through rescaling or compression, and traits that only people see
SEEN = (
    "width",
    "height",
    "aspect",
    "resolution",
    "format",
    "file_size",
    "jpeg_quality",
    "border",
    "colour",
    "thumbnail",
    "source",
)
BY_NAME = ("name", "folder")
COMMON = 5  # least images of a category
MOST = 40  # categories
# Names of classes in file and folder names, beside data.classes: not a trait, but the label itself
CLASS_WORDS = {*CONDITIONS, "glaucoma", "healthy", "g", "n", "rg", "nrg", "non", "no", "suspect"}
FOLD = re.compile(r"fold[ _-]?\d+")


@dataclass(frozen=True)
class Trait:
    """A trait of some images.

    Attributes:
        values: float64, (images, features).
        words: per feature, a function that describes images with values between two; empty if there is none.
    """

    values: np.ndarray
    words: Sequence[Callable[[float, float], str]] = ()


def traits_of(images: pd.DataFrame, looks: Sequence[Look], sources: Sequence[str]) -> Mapping[str, Trait | None]:
    """The trait of each probe, by name; None if the data do not have it.

    Args:
        images: a row per image: path, width and height.
        looks: from `look_at`, in the same order.
        sources: the source of each image; "" if unknown.
    """
    if not looks:
        return dict.fromkeys((*SEEN, *BY_NAME))
    width, height = (images[side].to_numpy(dtype=float)[:, None] for side in ("width", "height"))
    paths = [PurePosixPath(path) for path in images["path"]]
    jpeg = np.array([one.jpeg for one in looks])[:, None]
    thumbnails = np.stack([one.thumbnail for one in looks]).astype(float)
    sizes = [f"{w}×{h} px" for w, h in zip(images["width"], images["height"], strict=True)]
    suffixes = [path.suffix.lower() if path.suffix.lower() in SUFFIXES else ".dcm" for path in paths]
    suffixes = [suffix.replace(".jpeg", ".jpg").replace(".tiff", ".tif") for suffix in suffixes]
    quality = Trait(
        np.hstack([np.nan_to_num(jpeg), np.isnan(jpeg)]),  # being a JPEG or not is a trait too
        (_range("JPEGs of quality {}"), lambda low, high: "no JPEGs" if low else "JPEGs"),
    )
    return {
        "width": Trait(width, [_range("{} px wide")]),
        "height": Trait(height, [_range("{} px high")]),
        "aspect": Trait(width / height, [_range("{} times as wide as high", "{:.2f}")]),
        "resolution": _categories(sizes, "{}"),
        "format": _categories(suffixes, "{} files"),
        "file_size": Trait(
            np.array([one.bytes / 1000 for one in looks])[:, None], [_range("files of {} kB", "{:.4g}")]
        ),
        "jpeg_quality": None if np.isnan(jpeg).all() else quality,
        "border": Trait(np.array([100 * one.quality.border for one in looks])[:, None], [_range("black by {} %")]),
        "colour": Trait(thumbnails.mean(axis=(1, 2))),
        "thumbnail": Trait(thumbnails.reshape(len(looks), -1)),
        "source": _categories(sources, "from {}") if len(set(sources)) > 1 else None,
        "name": _names([path.stem for path in paths]),
        "folder": _categories([_folder(path) for path in paths], "in {}"),
    }


def in_words(trait: Trait, abnormal: np.ndarray) -> str:
    """Describe the category or range that separates the classes best, with counts; "" if there is no description.

    Args:
        trait: of some images.
        abnormal: bool, (images,).
    """
    best, told = 0.0, ""
    sums = {"abnormal": int(abnormal.sum()), "normal": int((~abnormal).sum())}
    for column, words in zip(trait.values.T, trait.words, strict=False):
        tree = DecisionTreeClassifier(max_depth=2, min_samples_leaf=LEAF, class_weight="balanced", random_state=0)
        leaves = tree.fit(column[:, None], abnormal).apply(column[:, None])
        for leaf in np.unique(leaves):
            inside = leaves == leaf
            counts = {"abnormal": int((inside & abnormal).sum()), "normal": int((inside & ~abnormal).sum())}
            most, least = sorted(counts, key=lambda name: counts[name] / sums[name], reverse=True)
            apart = counts[most] / sums[most] - counts[least] / sums[least] + 1e-6 * (most == "abnormal")
            # Of a category, describe its members rather than the others
            if apart > best + 1e-9 and (column[inside].max() > 0 or len(trait.words) == 1):
                rest = f"{_count(counts[least])} of {_count(sums[least])} {least} are" if counts[least] else ""
                first = f"{_count(counts[most])} of {_count(sums[most])} {most} are "
                what = words(float(column[inside].min()), float(column[inside].max()))
                best, told = apart, f"{first}{what}, {rest or f'no {least} is'}"
    return told


def _range(words: str, number: str = "{:.6g}") -> Callable[[float, float], str]:
    """A description of values between two."""

    def told(low: float, high: float) -> str:
        ends = dict.fromkeys(number.format(end) for end in (low, high))
        return words.format(" to ".join(ends))

    return told


def _categories(values: Sequence[str], words: str) -> Trait:
    """One feature per common value."""
    counts = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    names = [name for name, count in counts if count >= COMMON][:MOST]
    told = [words.format(shown(name) or "an unknown place") for name in names]
    features = np.array([[value == name for name in names] for value in values], dtype=float).reshape(len(values), -1)
    return Trait(features, [_either(text) for text in told])


def _either(text: str) -> Callable[[float, float], str]:
    return lambda low, high: text if low else f"not {text}"


def _names(stems: Sequence[str]) -> Trait:
    """File names without class names: length, digits, number and first word."""
    parts = [re.findall(r"\d+|[^\W\d_]+", stem) for stem in stems]
    parts = [[part for part in some if part.casefold() not in CLASS_WORDS] for some in parts]
    numbers = [[part for part in some if part.isdecimal()] for some in parts]
    lengths = [sum(map(len, some)) for some in parts]
    digits = [sum(map(len, some)) for some in numbers]
    last = [min(float(some[-1]), 1e9) if some else -1.0 for some in numbers]
    starts = [some[0].casefold() if some and not some[0].isdecimal() else "" for some in parts]
    begins = _categories(starts, "named {}…")
    words = [_range("named with {} letters and digits"), _range("named with {} digits"), _range("numbered {}")]
    return Trait(np.column_stack([lengths, digits, last, begins.values]), [*words, *begins.words])


def _folder(path: PurePosixPath) -> str:
    """A file's folder, without parts named after a class, a split or a fold."""
    kept = []
    for part in path.parts[:-1]:
        words = set(re.findall(r"[^\W\d_]+", part.casefold()))
        if not (words & CLASS_WORDS or part.casefold() in SPLITS or FOLD.fullmatch(part.casefold()) or part in "01"):
            kept.append(part)
    return "/".join(kept) or "the top folder"


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ")
