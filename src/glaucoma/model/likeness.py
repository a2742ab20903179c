"""Whether a picture looks like those that a model was trained on: the Mahalanobis distance of its appearance.

It looks at colour, light and sharpness only. What is near may still be another camera or population.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_laplace
from scipy.stats import t as student

from glaucoma.base.confidence import wilson_interval

__all__ = ["NOTABLE", "TRAITS", "Likeness", "appearance", "drift", "drift_line", "learn", "traits"]

SIDE = 64  # pixels that an image is squashed to
GRAIN = 1.0  # pixels that the Laplacian is smoothed by
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
GRID = 4  # cells a side
FEWEST = 20  # images from which an appearance is learnt: fewer do not show how much it varies
USUAL = 99  # per cent of the training images that are no farther than `usual`
ALLOWANCE = 1.25  # times `usual`, the limit: new images lie a little farther than training images
NAMES = ("mid_red", "mid_green", "mid_blue", "rim_red", "rim_green", "rim_blue", "sd_red", "sd_green", "sd_blue")
LEVEL = 0.95  # of all intervals of a drift together
NOTABLE = 0.5  # standard deviations of the training images by which a mean may differ and pass for the same
TRAITS = (*NAMES, "sharpness", "left_right", "top_bottom")


@dataclass(frozen=True)
class Likeness:
    """The appearance of the images that a model was trained on.

    Attributes:
        mean: float64 (12,), of `traits`.
        precision: float64 (12, 12), the inverse of their covariance.
        limit: distance from which an image is unlike them, > 0.
    """

    mean: np.ndarray
    precision: np.ndarray
    limit: float

    @classmethod
    def of(cls, card: dict[str, Any]) -> Likeness | None:
        """As `as_dict` wrote it into a model's card; None of a card that has none.

        Raises:
            ValueError: it is no such description.
        """
        told = card.get("likeness")
        if told is None:
            return None
        try:
            found = cls(np.array(told["mean"], float), np.array(told["precision"], float), float(told["limit"]))
        except (TypeError, KeyError) as error:
            raise ValueError("its likeness is no mean, precision and limit") from error
        n = len(TRAITS)
        if (found.mean.shape, found.precision.shape) != ((n,), (n, n)) or not found.limit > 0:
            raise ValueError(f"its likeness is not of {n} traits")
        return found

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"mean": self.mean.tolist(), "precision": self.precision.tolist(), "limit": self.limit}

    def distance(self, found: np.ndarray) -> np.ndarray:
        """How far images are from the training images, in shares of the limit: above 1 is unlike them.

        Args:
            found: float64 (n, 12), as `traits` gives it.

        Returns:
            float64 (n,), ≥ 0.
        """
        off = found - self.mean
        return np.sqrt(np.einsum("ij,jk,ik->i", off, self.precision, off).clip(0)) / self.limit


def traits(pixels: Iterable[np.ndarray]) -> np.ndarray:
    """What images look like, float64 (n, 12), of n times uint8 (size, size, 3), as a network sees them; see `TRAITS`.

    Mean colour of the middle and of the rim, standard deviation of each colour, all 0–1; the logarithm of the variance
    of the Laplacian over that of the grey levels; how much brighter left is than right, either way round, and top than
    bottom: a disc lies left in one eye and right in the other.
    """
    return np.array([_traits(one) for one in pixels]).reshape(-1, len(TRAITS))


def drift(likenesses: Sequence[Likeness], found: np.ndarray) -> pd.DataFrame:
    """How the mean appearance of images differs from that of the images which models were trained on.

    Args:
        likenesses: of the models, one at least; their means and covariances are averaged.
        found: float64 (n, 12), as `traits` gives it; rows of NaN, which could not be read, are left out.

    Returns:
        A row per trait: trait, training, training_sd, here, here_sd, shift (of the mean, in standard deviations of the
        training images), low, high (its interval; all twelve hold together at 95 %, by Bonferroni), drifted (shift
        beyond ± 0.5, and the interval excludes 0); then a row `unlike`: the share of images out of distribution, of
        which the training images have 1 % at most (`drifted` if its 95 % interval lies above). No rows for fewer than
        two images.
    """
    found = found[~np.isnan(found).any(axis=1)]
    n, columns = len(found), ["trait", "training", "training_sd", "here", "here_sd", "shift", "low", "high", "drifted"]
    if n < 2:
        return pd.DataFrame(columns=columns)
    mean = np.mean([one.mean for one in likenesses], axis=0)
    spread = np.sqrt(np.mean([np.diag(np.linalg.inv(one.precision)) for one in likenesses], axis=0))
    here, sd = found.mean(axis=0), found.std(axis=0, ddof=1)
    shift = (here - mean) / spread
    error = student.ppf(1 - (1 - LEVEL) / 2 / len(TRAITS), n - 1) * sd / np.sqrt(n) / spread
    parts = (TRAITS, mean, spread, here, sd, shift, shift - error, shift + error)
    table = pd.DataFrame(dict(zip(columns[:-1], parts, strict=True)))
    table["drifted"] = (table["shift"].abs() > NOTABLE) & ((table["low"] > 0) | (table["high"] < 0))
    far = np.median([one.distance(found) for one in likenesses], axis=0) > 1
    low, high = wilson_interval(float(far.mean()), n)
    row = ("unlike", 1 - USUAL / 100, np.nan, float(far.mean()), np.nan, np.nan, low, high, low > 1 - USUAL / 100)
    return pd.concat([table, pd.DataFrame([row], columns=columns)], ignore_index=True)


def drift_line(table: pd.DataFrame) -> str:
    """What `drift` found, in a sentence."""
    rows = table[table["trait"] != "unlike"]
    names = rows.loc[rows["drifted"].astype(bool), "trait"].str.replace("_", " ")
    far = float(table.loc[table["trait"] == "unlike", "here"].iloc[0])
    what = f"drift from the training images: {', '.join(names) or 'no trait for certain'}"
    return f"{what}; {far:.0%} of the photographs are out of distribution"


def learn(pixels: np.ndarray, rows: np.ndarray) -> Likeness | None:
    """The appearance of training images, as `appearance` gives it.

    Args:
        pixels: uint8 (images, size, size, 3), possibly memory-mapped: they are looked at one by one.
        rows: int (n,), which of them.
    """
    return appearance(traits(pixels[row] for row in rows)) if len(rows) >= FEWEST else None


def appearance(found: np.ndarray) -> Likeness | None:
    """The appearance of training images, of their `traits`, float64 (n, 12); None of too few.

    The covariance is shrunk (Ledoit & Wolf, J Multivariate Anal 88:365, 2004), so that it can be inverted however few
    and alike the images are.
    """
    if len(found) < FEWEST:
        return None
    from sklearn.covariance import ledoit_wolf  # prediction does without

    mean, scale = found.mean(axis=0), found.std(axis=0) + 1e-3
    covariance, _ = ledoit_wolf((found - mean) / scale)
    precision = np.linalg.inv(covariance) / np.outer(scale, scale)
    near = Likeness(_short(mean), _short(precision), 1.0)
    return Likeness(near.mean, near.precision, float(_short(ALLOWANCE * np.percentile(near.distance(found), USUAL))))


def _traits(pixels: np.ndarray) -> list[float]:
    small = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)) / 255
    cells = small.reshape(GRID, SIDE // GRID, GRID, SIDE // GRID, 3).mean(axis=(1, 3))
    inner = cells[1:-1, 1:-1]
    middle = inner.mean(axis=(0, 1))
    rim = (cells.sum(axis=(0, 1)) - inner.sum(axis=(0, 1))) / (GRID**2 - (GRID - 2) ** 2)
    grey, half = small @ LUMA, GRID // 2
    sharp = np.log10(gaussian_laplace(grey, GRAIN).var() / max(grey.var(), 1e-6) + 1e-6)
    across = abs(cells[:, :half].mean() - cells[:, half:].mean())
    return [*middle, *rim, *small.std(axis=(0, 1)), sharp, across, cells[:half].mean() - cells[half:].mean()]


def _short(values: np.ndarray | float) -> np.ndarray:
    """To six digits: more would not tell pictures apart, and would fill the sidecar."""
    return np.array([float(f"{value:.6g}") for value in np.ravel(values)]).reshape(np.shape(values))
