"""The figures of photographs in reports/explore/, each drawn where there is something to draw."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from glaucoma import paths
from glaucoma.files import read_csv
from glaucoma.params import Params
from glaucoma.report.crops import crops_chart
from glaucoma.report.mosaic import mosaic, mosaic_by
from glaucoma.report.offenders import duplicates_sheet, offenders, offenders_sheet
from glaucoma.report.probes import probes_chart
from glaucoma.report.sources import named_sources, sources_chart

__all__ = ["write_found", "write_mosaics"]


def write_mosaics(index: pd.DataFrame, root: Path, folder: Path, params: Params) -> None:
    """Draw mosaic.png and mosaic_split.png; where there are several sources mosaic_source.png, sizes_by_source.png."""
    how = {"seed": params.seed, "max_megapixels": params.data.max_megapixels}
    mosaic(index, root, folder / "mosaic.png", **how)
    mosaic_by(index, "split", root, folder / "mosaic_split.png", **how)
    if len(named_sources(index)) > 1:
        mosaic_by(index, "source", root, folder / "mosaic_source.png", **how)
        sources_chart(index, folder / "sizes_by_source.png")


def write_found(index: pd.DataFrame, root: Path, folder: Path, params: Params) -> None:
    """Draw offenders.png, duplicates.png, probes.png and crops.png from what the audit and the crop left, if anything.

    Those that do not apply, as an earlier run may have left them, are removed.
    """
    most = {"max_megapixels": params.data.max_megapixels}
    names = ("offenders", "duplicates", "probes", "crops")
    tables = dict.fromkeys(names, pd.DataFrame())
    files = dict(zip(names, (paths.AUDIT / "findings.csv", paths.AUDIT / "duplicates.csv", paths.PROBES), strict=False))
    files |= {"crops": paths.CROPS} if params.data.crop != "none" else {}
    tables |= {name: read_csv(file) for name, file in files.items() if file.is_file()}
    if len(tables["offenders"]):
        tables["offenders"] = offenders(tables["offenders"], index)
    for name in names:
        if tables[name].empty:
            (folder / f"{name}.png").unlink(missing_ok=True)
    if len(tables["offenders"]):
        offenders_sheet(tables["offenders"], root, folder / "offenders.png", **most)
    if len(tables["duplicates"]):
        duplicates_sheet(tables["duplicates"], root, folder / "duplicates.png", **most)
    if len(tables["probes"]):
        probes_chart(tables["probes"], folder / "probes.png")
    if len(tables["crops"]):
        about = {"crop": params.data.crop, "seed": params.seed}
        crops_chart(tables["crops"], index, root, folder / "crops.png", **about, **most)
