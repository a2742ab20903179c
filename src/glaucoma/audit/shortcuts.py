"""The audit's checks for shortcuts (traits that a model could learn instead of the disease) and balance by source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from glaucoma.audit.checks import Case, Finding
from glaucoma.audit.traits import BY_NAME, Trait, in_words, traits_of
from glaucoma.base.confidence import auroc_interval
from glaucoma.base.errors import many, shown
from glaucoma.base.index import CONDITIONS
from glaucoma.dataset.folds import groups_of
from glaucoma.dataset.probes import MODELS
from glaucoma.photos.looks import Look

__all__ = ["COLUMNS", "NAMED", "SHORTCUT_CHECKS", "probe_all", "strongest"]

NAMED = "label by name"  # target of probes on names and folders, which no model sees
TOLD = 0.6  # AUROC; above, more than a weak association
# The disease itself changes the colours of the disc: on synthetic eyes without other differences, thumbnails reach
# 0.75. The file and the camera's border contain nothing about the disease.
TOLD_BY_PIXELS = 0.75
CHANCE = 0.5
PIXELS = ("colour", "thumbnail")
WORDS = {
    "resolution": "image size",
    "width": "image width",
    "height": "image height",
    "aspect": "the ratio of width to height",
    "format": "the file format",
    "file_size": "file size",
    "jpeg_quality": "JPEG quality",
    "border": "the share of black border",
    "colour": "mean colour",
    "thumbnail": "a thumbnail of 7 × 7 pixels",
    "source": "the source",
    "name": "the pattern of file names",
    "folder": "the folder",
}
# Related traits: reported as one finding
KIN = [("width", "height", "aspect", "resolution"), ("format", "file_size", "jpeg_quality"), PIXELS]


def shortcut(case: Case) -> list[Finding]:
    """Traits that predict the label, strongest first; related traits are one finding.

    A warning (by the interval's lower end) unless the disease explains it; for names and folders, which no model sees,
    only a note. An interval entirely below 0.5 is reported too: the trait is associated with the label, but differently
    in each part of the data.
    """
    tried = case.probes[case.probes["skipped"] == ""]
    tried = tried[(tried["low"] > TOLD) | (tried["high"] < CHANCE)]
    found: dict[object, tuple[list[str], pd.Series]] = {}
    for _, row in tried.sort_values("auroc", ascending=False, kind="stable").iterrows():
        kin = next((kin for kin in KIN if row.probe in kin), row.probe)
        found.setdefault((row.target, kin, row.low > TOLD), ([], row))[0].append(WORDS[row.probe])
    order = sorted(found.values(), key=lambda item: item[1].target == "source")
    return [_finding(row, names) for names, row in order]


def _finding(row: pd.Series, names: list[str]) -> Finding:
    severity: Literal["warning", "info"] = "info"
    remedy = "take both classes from the same cameras and software, or judge the model on another source too"
    interval = f"with AUROC {row.auroc:.2f} [{row.low:.2f}, {row.high:.2f}]"
    counts = f" ({row.told})" if row.told else ""
    also = f"; so {'does' if len(names) == 2 else 'do'} {' and '.join(names[1:])}" if len(names) > 1 else ""
    severity = "info"
    if row.high < CHANCE:
        message = f"{names[0]} alone predicts the {row.target} worse than chance, {interval}{counts}: "
        message += "they are related, but not alike in all parts of the data"
        severity = "warning" if row.high < 1 - TOLD and row.target == "label" else "info"
    elif row.target == "source":
        message = f"{names[0]} alone tells the sources apart {interval}{also}: a model can know where an image is from"
    else:
        message = f"{names[0]} alone tells abnormal from normal {interval}{counts}{also}: "
        if row.target == NAMED:
            message += "no model sees it, but the classes were collected or numbered apart"
        else:
            message += "a model may learn it instead of the disease"
            severity = "warning" if row.low > (TOLD_BY_PIXELS if row.probe in PIXELS else TOLD) else "info"
    return Finding("shortcut", severity, row.n, "all images", message, remedy)


def source_balance(case: Case) -> list[Finding]:
    """Images of each class by source, if there are several sources."""
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


COLUMNS = ["target", "probe", "features", "n", "groups", "auroc", "low", "high", "skipped", "model", "told"]
FOLDS = 5
SHARED = 1 + FOLDS / (FOLDS - 1)  # by what the variance of a mean over them exceeds that of as many independent images
FEWEST = 20  # groups per class; with fewer, intervals are too wide to be useful


def probe_all(index: pd.DataFrame, looks: Mapping[str, Look | str], clusters: Mapping[str, int]) -> pd.DataFrame:
    """Run all probes on the distinct images that are readable and have one label.

    Args:
        index: from `read_index`.
        looks: from `look_at`.
        clusters: each image's cluster, by content id.

    Returns:
        `COLUMNS`, a row per probe, the same ones for any data: target (label, label by name, or source), trait, number
        of features, images, independent groups, out-of-fold AUROC (of sources: mean of one against the rest) with its
        95 % interval, why it was skipped ("" if not), the better model (linear: a slope; tree: steps and ranges), and a
        description of the trait that separates the classes best, with counts.
    """
    images, sources, traits = _traits(index, looks, clusters)
    groups, abnormal = images["group"].to_numpy(), images["condition"].to_numpy() == "abnormal"
    label = {"abnormal": abnormal, "normal": ~abnormal}
    rows = []
    parts: dict[str, list] = {}
    for name, trait in traits.items():
        cells = _probe(trait, label, groups, parts)
        told = "" if trait is None or cells[-2] else in_words(trait, abnormal)
        rows.append((NAMED if name in BY_NAME else "label", name, *cells, told))
    each = {name: sources == name for name in sorted(set(sources))}
    apart = _probe(traits["thumbnail"] if len(each) > 1 else None, each, groups, {})
    return pd.DataFrame([*rows, ("source", "thumbnail", *apart, "")], columns=COLUMNS)


def strongest(
    index: pd.DataFrame, looks: Mapping[str, Look | str], clusters: Mapping[str, int], probes: pd.DataFrame
) -> pd.DataFrame:
    """The trait that tells the label best, of each image, for a baseline on the folds' own splits.

    Args:
        index: as `probe_all` takes it.
        looks: the same.
        clusters: the same.
        probes: as it returns them.

    Returns:
        Columns image, probe, model, then the trait's values (0, 1, …). No rows where no probe was tried. The thumbnail
        is left out: it is a baseline anyway, from what the network sees.
    """
    tried = probes[(probes["target"] == "label") & (probes["skipped"] == "") & (probes["probe"] != "thumbnail")]
    if tried.empty:
        return pd.DataFrame(columns=["image", "probe", "model"])
    best = tried.loc[tried["auroc"].idxmax()]
    images, _, traits = _traits(index, looks, clusters)
    values = pd.DataFrame(traits[best["probe"]].values)  # type: ignore[union-attr]  # it was probed
    values.insert(0, "image", images["image"].to_numpy())
    values.insert(1, "probe", best["probe"])
    values.insert(2, "model", best["model"])
    return values


def _traits(
    index: pd.DataFrame, looks: Mapping[str, Look | str], clusters: Mapping[str, int]
) -> tuple[pd.DataFrame, np.ndarray, Mapping[str, Trait | None]]:
    """The distinct images that can be read and have one label, with their group; where each is from; their traits."""
    readable = {image: look for image, look in looks.items() if isinstance(look, Look)}
    files = index[index["image"].isin(readable)].drop_duplicates("path")
    files = files[files.groupby("image")["condition"].transform("nunique") == 1]
    files = files.sort_values(["image", "path"], ignore_index=True)
    files["group"] = groups_of(files, files["image"].map(clusters).to_numpy()) if len(files) else 0
    images = files.drop_duplicates("image")
    sources = images["source"].to_numpy() if "source" in images else np.full(len(images), "")
    found = [one for one in (looks[image] for image in images["image"]) if isinstance(one, Look)]
    return images, sources, traits_of(images, found, sources)


def _probe(trait: Trait | None, classes: Mapping[str, np.ndarray], groups: np.ndarray, parts: dict[str, list]) -> tuple:
    """The cells of a row except the first two and the last; each of `classes`, bool, is predicted against the rest.

    `parts` keeps the parts of the cross-validation by class for the next trait: drawing them takes long.
    """
    count, distinct = len(groups), len(set(groups))
    features = None if trait is None else trait.values
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
        return width, count, distinct, np.nan, np.nan, np.nan, why, ""
    # With two classes, one against the rest is the same for both
    told = list(classes.items())[: 1 if len(classes) == 2 else None]
    for name, members in told:
        if name not in parts:
            parts[name] = list(StratifiedGroupKFold(FOLDS).split(groups, members, groups))
    each = {
        model: np.mean([_told(model, features, members, groups, parts[name]) for name, members in told], axis=0)
        for model in MODELS
    }
    model = max(each, key=lambda name: each[name][0])
    return width, count, distinct, *(round(float(value), 4) for value in each[model]), "", model


def _told(
    name: str, features: np.ndarray, members: np.ndarray, groups: np.ndarray, parts: list
) -> tuple[float, float, float]:
    """Out-of-fold AUROC, a mean over the parts, and its interval, in which the images of a group count as one.

    Scores of different parts are not ranked together: what one part has too much of, its training has too little of,
    so that without any relation the pooled AUROC lies below 0.5. The parts' models share most of their training, which
    widens the interval as if there were fewer groups (Nadeau & Bengio, Mach Learn 52:239, 2003). That holds the level
    for the better of two models, too; benchmarks/coverage.py measures it. Rows are in the order of content ids, which
    is random but always the same: no seed is needed.
    """
    method = "decision_function" if name == "linear" else "predict_proba"
    scores = cross_val_predict(MODELS[name], features, members, cv=parts, method=method)
    scores = scores if scores.ndim == 1 else scores[:, 1]
    both = [test for _, test in parts if 0 < members[test].sum() < len(test)]
    auroc = float(np.mean([roc_auc_score(members[test], scores[test]) for test in both]))
    sizes = (len(set(groups[of])) for of in (members, ~members))
    return auroc, *auroc_interval(auroc, *(size / SHARED for size in sizes))
