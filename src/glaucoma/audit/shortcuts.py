"""Checks of the audit on what a model could learn instead of the disease, and on who brings which class."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from glaucoma.audit.checks import Case, Finding
from glaucoma.base.confidence import auroc_interval
from glaucoma.base.errors import many, shown
from glaucoma.base.index import CONDITIONS
from glaucoma.dataset.folds import groups_of
from glaucoma.photos.looks import Look

__all__ = ["COLUMNS", "SHORTCUT_CHECKS", "probe_all", "traits_of"]

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


COLUMNS = ["target", "probe", "features", "n", "groups", "auroc", "low", "high", "skipped"]
FOLDS = 5
FEWEST = 20  # groups of a class; with fewer, an interval is too wide to tell anything


def probe_all(index: pd.DataFrame, looks: Mapping[str, Look | str], clusters: Mapping[str, int]) -> pd.DataFrame:
    """Try all probes on the distinct images that can be read and have one label.

    Args:
        index: as `read_index` gives it.
        looks: as `look_at` gives them.
        clusters: each image's cluster, by content id.

    Returns:
        `COLUMNS`, a row per probe, the same ones for any data: what is told (label or source), from what, number of
        features, images, independent groups, out-of-fold AUROC (of sources: the mean of each against the rest) with
        its 95 % interval, and why it was not tried ("" where it was).
    """
    seen = [image for image, look in looks.items() if isinstance(look, Look)]
    files = index[index["image"].isin(seen)].drop_duplicates("path")
    files = files[files.groupby("image")["condition"].transform("nunique") == 1]
    files = files.sort_values(["image", "path"], ignore_index=True)
    files["group"] = groups_of(files, files["image"].map(clusters).to_numpy()) if len(files) else 0
    images = files.drop_duplicates("image")
    groups, abnormal = images["group"].to_numpy(), images["condition"].to_numpy() == "abnormal"
    sources = images["source"].to_numpy() if "source" in images else np.full(len(images), "")
    traits = traits_of(images, [looks[image] for image in images["image"]], sources)
    label = {"abnormal": abnormal, "normal": ~abnormal}
    rows = [("label", name, *_probe(values, label, groups)) for name, values in traits.items()]
    each = {name: sources == name for name in sorted(set(sources))}
    told = _probe(traits["thumbnail"] if len(each) > 1 else None, each, groups)
    return pd.DataFrame([*rows, ("source", "thumbnail", *told)], columns=COLUMNS)


def traits_of(images: pd.DataFrame, looks: list[Look], sources: np.ndarray) -> dict[str, np.ndarray | None]:
    """What each probe sees: float64, (images, features); None where the data do not have it."""
    if not looks:
        names = ("width", "height", "aspect", "file_size", "jpeg_quality", "border", "colour", "thumbnail", "source")
        return dict.fromkeys(names)
    width, height = (images[side].to_numpy(dtype=float)[:, None] for side in ("width", "height"))
    jpeg = np.array([one.jpeg for one in looks])[:, None]
    thumbnails = np.stack([one.thumbnail for one in looks]).astype(float)
    names = sorted(set(sources))
    return {
        "width": width,
        "height": height,
        "aspect": width / height,
        "file_size": np.array([one.bytes for one in looks], dtype=float)[:, None],
        # Which files are no JPEGs is a trait as well
        "jpeg_quality": None if np.isnan(jpeg).all() else np.hstack([np.nan_to_num(jpeg), np.isnan(jpeg)]),
        "border": np.array([one.quality.border for one in looks])[:, None],
        "colour": thumbnails.mean(axis=(1, 2)),
        "thumbnail": thumbnails.reshape(len(looks), -1),
        "source": (sources[:, None] == np.array(names)).astype(float) if len(names) > 1 else None,
    }


def _probe(features: np.ndarray | None, classes: Mapping[str, np.ndarray], groups: np.ndarray) -> tuple:
    """The last seven cells of a row; of `classes`, bool arrays, each is told from all others."""
    count, distinct = len(groups), len(set(groups))
    width = 0 if features is None else int((features.std(axis=0) > 0).sum())
    sizes = {name: len(set(groups[members])) for name, members in classes.items()}
    few = [f"{size} of {name or 'no known source'}" for name, size in sizes.items() if size < FEWEST]
    why = ""
    if few:
        why = f"too few independent images, {', '.join(few)}: it takes {FEWEST} of each"
    elif features is None:
        why = "the data do not have it"
    elif not width:
        why = "all images are the same in it"
    if why:
        return width, count, distinct, np.nan, np.nan, np.nan, why
    # Of two classes, one told from the other is the other told from it
    told = list(classes.values())[: 1 if len(classes) == 2 else None]
    found = [_told(features, members, groups) for members in told]
    return width, count, distinct, *(round(float(value), 4) for value in np.mean(found, axis=0)), ""


def _told(features: np.ndarray, members: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """Out-of-fold AUROC and its interval, in which the images of a group count as one.

    Rows are in the order of content ids, which is random but always the same: no seed is needed.
    """
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    parts = StratifiedGroupKFold(FOLDS)
    scores = cross_val_predict(model, features, members, groups=groups, cv=parts, method="decision_function")
    auroc = float(roc_auc_score(members, scores))
    return auroc, *auroc_interval(auroc, len(set(groups[members])), len(set(groups[~members])))
