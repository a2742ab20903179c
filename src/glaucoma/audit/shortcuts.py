"""Checks of the audit on what a model could learn instead of the disease, and on who brings which class."""

from __future__ import annotations

from collections.abc import Callable

from glaucoma.audit.checks import Case, Finding
from glaucoma.base.index import CONDITIONS
from glaucoma.base.names import many, shown

__all__ = ["SHORTCUT_CHECKS"]

TOLD = 0.6  # AUROC; above, more than a weak hint
# The disease itself changes the colours of the disc: on synthetic eyes that differ in nothing else, thumbnails reach
# 0.75. From the file or the camera's border, nothing of the disease can be told.
TOLD_BY_PIXELS = 0.75
WORDS = {
    "width": "image width",
    "height": "image height",
    "aspect": "the ratio of width to height",
    "file_size": "file size",
    "jpeg_quality": "JPEG quality",
    "border": "the share of black border",
    "colour": "mean colour",
    "thumbnail": "a thumbnail of 7 × 7 pixels",
    "source": "the source",
}
PIXELS = ("colour", "thumbnail")


def shortcut(case: Case) -> list[Finding]:
    """Traits that tell the label, strongest first: a warning (by the lower end) where it is not the disease."""
    remedy = "take both classes from the same cameras and software, or judge the model on another source too"
    found = []
    tried = case.probes[case.probes["skipped"] == ""]
    for row in tried.sort_values("auroc", ascending=False, kind="stable").itertuples() if len(tried) else ():
        limit = TOLD_BY_PIXELS if row.probe in PIXELS else TOLD
        if row.low <= TOLD:
            continue
        told = f"with AUROC {row.auroc:.2f} [{row.low:.2f}, {row.high:.2f}]"
        if row.target == "source":
            message = (
                f"{WORDS[row.probe]} alone tells the sources apart {told}: a model can know where an image is from"
            )
            found.append(Finding("shortcut", "info", row.n, "all images", message, remedy))
        else:
            message = f"{WORDS[row.probe]} alone tells abnormal from normal {told}: "
            message += "a model may learn it instead of the disease"
            severity = "warning" if row.low > limit else "info"
            found.append(Finding("shortcut", severity, row.n, "all images", message, remedy))
    return found


def source_balance(case: Case) -> list[Finding]:
    """Images of each class by source, where there are several."""
    if "source" not in case.index or case.index["source"].nunique() < 2:
        return []
    images = case.index.drop_duplicates(["image", "condition", "source"])
    counts = images.groupby(["source", "condition"]).size().unstack(fill_value=0).reindex(columns=list(CONDITIONS))
    return [
        Finding("source_balance", "info", normal + abnormal, f"source {shown(source) or 'unknown'}", message)
        for source, normal, abnormal in counts.fillna(0).astype(int).itertuples()
        for message in [
            f"{many(normal, 'normal and', 'normal and')} {many(abnormal, 'abnormal image')}, "
            f"{abnormal / (normal + abnormal):.1%} abnormal"
        ]
    ]


SHORTCUT_CHECKS: dict[str, Callable[[Case], list[Finding]]] = {
    check.__name__: check for check in (shortcut, source_balance)
}
