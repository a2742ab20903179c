"""The figures of photographs in reports/explore/, each drawn if there is something to draw."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from glaucoma import paths
from glaucoma.files import read_csv
from glaucoma.params import Params
from glaucoma.report.crops import crops_chart
from glaucoma.report.mosaic import mosaic, mosaic_by
from glaucoma.report.sources import named_sources, sources_chart

__all__ = ["write_crops", "write_mosaics"]


def write_mosaics(index: pd.DataFrame, root: Path, folder: Path, params: Params) -> None:
    """Draw mosaic.png and mosaic_split.png; where there are several sources mosaic_source.png, sizes_by_source.png."""
    how = {"seed": params.seed, "max_megapixels": params.data.max_megapixels}
    mosaic(index, root, folder / "mosaic.png", **how)
    mosaic_by(index, "split", root, folder / "mosaic_split.png", **how)
    if len(named_sources(index)) > 1:
        mosaic_by(index, "source", root, folder / "mosaic_source.png", **how)
        sources_chart(index, folder / "sizes_by_source.png")


def write_crops(index: pd.DataFrame, root: Path, folder: Path, params: Params) -> None:
    """Draw crops.png, the boxes of `data.crop`; without a crop, that of an earlier run is removed."""
    if params.data.crop == "none" or not paths.CROPS.is_file():
        (folder / "crops.png").unlink(missing_ok=True)
        return
    how = {"crop": params.data.crop, "seed": params.seed, "max_megapixels": params.data.max_megapixels}
    crops_chart(read_csv(paths.CROPS), index, root, folder / "crops.png", **how)
