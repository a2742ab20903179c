"""Finished trials, kept outside DVC's outputs: a search that is stopped goes on where it was.

One folder per trial, named by its identity. Its record is written last and at once, so a trial is either finished or
not there, whatever the moment of a kill. The journal is safe to delete.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pandas as pd

from glaucoma.base.environment import number
from glaucoma.base.files import atomic_path, read_json, write_json
from glaucoma.train.memory import last_use, make_room
from glaucoma.train.trainer import Snapshot

__all__ = ["Journal"]

GIGABYTES = 20.0  # what a journal may hold, unless the environment's GLAUCOMA_STATE_GB says otherwise
ABANDONED = 3600  # seconds after which an entry without a record is one whose writer was killed


class Journal:
    """Finished trials by identity, in a folder.

    Raises:
        ParamsError: GLAUCOMA_STATE_GB is no number from 0.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        _bound()  # an impossible one is refused before the training, not after it

    def read(self, identity: str) -> Snapshot | None:
        """What a finished trial ended with, or None. A damaged entry counts as not there."""
        folder = self.folder / identity
        try:
            raw = read_json(folder / "record.json")
            with np.load(folder / "weights.npz") as kept:
                weights = [kept[name] for name in kept.files]
            log_odds = {name: np.array(given, "float64") for name, given in raw["log_odds"].items()}
            snapshot = Snapshot(raw["epochs"], weights, log_odds, pd.DataFrame(raw["history"]), raw["seconds"])
            os.utime(folder)  # tells `prune` that it is in use
        except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, BadZipFile):
            return None
        return snapshot

    def write(self, identity: str, snapshot: Snapshot) -> None:
        """Keep a finished trial: its weights first, its record last."""
        folder = self.folder / identity
        with atomic_path(folder / "weights.npz") as temporary:
            np.savez(temporary, *snapshot.weights)
        raw = {
            "epochs": snapshot.epochs,
            "log_odds": {name: values.tolist() for name, values in snapshot.log_odds.items()},
            "history": snapshot.history.to_dict("list"),
            "seconds": snapshot.seconds,
        }
        write_json(folder / "record.json", raw)

    def prune(self, keep: set[str]) -> None:
        """Delete the trials that were read or written longest ago until the journal fits its bound; never `keep`."""
        folders = [folder for folder in self.folder.glob("*") if folder.is_dir()]
        make_room(folders, _bound(), lambda folder: folder.name in keep or _in_the_making(folder))


def _bound() -> float:
    """Gigabytes that a journal may hold."""
    return number("GLAUCOMA_STATE_GB", float, 0, GIGABYTES)


def _in_the_making(folder: Path) -> bool:
    """Whether another process may be writing the entry now: its record is not there yet."""
    return not (folder / "record.json").exists() and last_use(folder) > time.time() - ABANDONED
