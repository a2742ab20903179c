"""Build the index of a folder of labelled photographs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from glaucoma.base.errors import many, shown
from glaucoma.base.files import write_csv
from glaucoma.base.index import COLUMNS, CONDITIONS, KNOWN
from glaucoma.base.progress import say
from glaucoma.base.workers import in_threads
from glaucoma.dataset.folds import apply_folds, draw_folds, find_frozen
from glaucoma.dataset.layouts import Listing, scan
from glaucoma.dataset.walk import by_suffix, is_image_name
from glaucoma.photos.content import content_ids
from glaucoma.photos.images import Unreadable, read_header
from glaucoma.photos.looks import clusters, look_at

__all__ = ["build_index"]

LEFT_OUT = (  # the description of each kind
    ("ignored_files", "file", "of other kinds or outside the layout"),
    ("unlabelled_images", "image", "without a label, or only suspected"),
    ("ignored_images", "image", "of an ignored class"),
    ("masks", "image", "recognised as masks or drawings"),
)


def build_index(
    root: Path,
    *,
    layout: str,
    classes: Mapping[str, str],
    n_folds: int | None,
    held_out: float,
    seed: int,
    max_megapixels: float = 100.0,
    kept: Path | None = None,
    patients: str = "auto",
    left_out: Path | None = None,
) -> tuple[pd.DataFrame, dict[str, int | str | None]]:
    """List a folder of labelled images, identify each file by its bytes, and draw folds if there are none.

    Folds come from the layout, else from a frozen file beside the images, else they are drawn.

    Args:
        root: data.root.
        layout: auto, folds, labels, classes, collection or sources.
        classes: class of each folder or label name.
        n_folds: number of folds, if they are drawn; None: no draw, all images are `train` of fold 0.
        held_out: share of all images in each drawn `valid`.
        seed: of the draw, which keeps a patient's images and copies of a photograph in one split.
        max_megapixels: larger images are not compared.
        kept: cache file of `look_at`.
        patients: auto, none, or the patient column of label tables (data.patients).
        left_out: file for the list of files that are not in the index: path, kind, reason.

    Returns:
        The index, as from `read_index`, and its metrics (flat).

    Raises:
        DataError: files do not fit the layout or cannot be opened, or there are too few images for the folds.
    """
    listing = scan(root, layout, classes, patients)
    table = listing.table.sort_values("path", ignore_index=True)
    table["image"] = content_ids(root, table["path"])
    table[["width", "height"]] = _sizes(root, table)
    if "fold" not in table:
        frozen = find_frozen(root)
        if frozen:
            say(f"index: folds as they are frozen in {shown(frozen)}")
            table = apply_folds(table, frozen)
            listing.left_out = [one for one in listing.left_out if one[0] != frozen]
        elif n_folds is None:
            table = table.assign(fold=0, split="train")
        else:
            looks = look_at(table, root, "look for copies", max_megapixels=max_megapixels, kept=kept)
            copies = table["image"].map(clusters(looks)[0]).to_numpy()
            table = draw_folds(table, n_folds=n_folds, held_out=held_out, seed=seed, clusters=copies)
    extra = [name for name in KNOWN if name in table]
    table = table[[*COLUMNS, *extra, "width", "height"]]
    table = table.sort_values(["fold", "split", "condition", "path"], ignore_index=True).astype({"fold": "int64"})
    metrics = _metrics(table, listing)
    if left_out:
        write_csv(left_out, _left_out(listing, root))
    _tell(metrics, listing, left_out)
    return table, metrics


def _metrics(index: pd.DataFrame, listing: Listing) -> dict[str, int | str | None]:
    """Counts of an index: files, distinct images (total and by class), folds, people, and files left out."""
    counts = listing.counts()
    return {
        "layout": listing.layout,
        "files": index["path"].nunique(),
        "images": index["image"].nunique(),
        "folds": index["fold"].nunique(),
        **{name: index.loc[index["condition"] == name, "image"].nunique() for name in CONDITIONS},
        **_people(index),
        "ignored_files": counts["file"],
        "unlabelled_images": counts["unlabelled"],
        "ignored_images": counts["ignored"],
        "masks": counts["mask"],
    }


def _people(index: pd.DataFrame) -> dict[str, int | None]:
    """The number of known people, and of those with images of both eyes; None if unknown."""
    if "patient" not in index:
        return {"patients": None, "both_eyes": None}
    known = index[index["patient"] != ""]
    if "eye" not in index:
        return {"patients": known["patient"].nunique(), "both_eyes": None}
    eyes = known[known["eye"].isin(["OD", "OS"])].groupby("patient")["eye"].nunique()
    return {"patients": known["patient"].nunique(), "both_eyes": int((eyes > 1).sum())}


def _left_out(listing: Listing, root: Path) -> pd.DataFrame:
    """The files that a listing leaves out, by path."""
    rows = [(path.relative_to(root).as_posix(), kind, reason) for path, kind, reason in listing.left_out]
    return pd.DataFrame(sorted(set(rows)), columns=["path", "kind", "reason"])


def _sizes(root: Path, table: pd.DataFrame) -> pd.DataFrame:
    """Width and height of each file; NA if its header cannot be read (the audit says why)."""

    def size(name: str) -> tuple[int | None, int | None]:
        try:
            return read_header(root / name)
        except Unreadable:
            return None, None

    first = table.drop_duplicates("image")
    sizes = list(in_threads(size, list(first["path"]), "read headers"))
    known = pd.DataFrame(sizes, index=first["image"], columns=["width", "height"], dtype="Int64")
    return known.loc[table["image"]].set_index(table.index)


def _tell(metrics: Mapping[str, Any], listing: Listing, left_out: Path | None) -> None:
    files, images, folds = (many(metrics[f"{name}s"], name) for name in ("file", "image", "fold"))
    balance = f"{metrics['normal']} normal, {metrics['abnormal']} abnormal"
    say(f"index: {files}, which are {images} ({balance}), in {folds}; layout {metrics['layout']}")
    told = [f"{many(metrics[key], noun)} {why}" for key, noun, why in LEFT_OUT if metrics[key]]
    others = [path for path, kind, _ in listing.left_out if kind == "file" and not is_image_name(path.name)]
    if others:
        told[0] += f" ({by_suffix(others)})"
    if told:
        say(f"index: left out: {'; '.join(told)}" + (f"; each is in {left_out}" if left_out else ""))
