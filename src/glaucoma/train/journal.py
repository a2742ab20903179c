"""Store finished trials outside DVC's outputs, so that an interrupted search resumes where it stopped.

One folder per trial, named by its identity. The record is written last and atomically, so after a kill at any moment a
trial is either complete or absent. The journal is safe to delete.
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

GIGABYTES = 20.0  # default size limit; GLAUCOMA_STATE_GB overrides it
ABANDONED = 3600  # seconds after which an entry without a record counts as abandoned by a killed process


class Journal:
    """A folder of finished trials, by identity.

    Raises:
        ParamsError: GLAUCOMA_STATE_GB is not a number of at least 0.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        _bound()  # reject an invalid limit before training, not after

    def read(self, identity: str) -> Snapshot | None:
        """The final state of a finished trial; None if it is missing or damaged."""
        folder = self.folder / identity
        try:
            raw = read_json(folder / "record.json")
            with np.load(folder / "weights.npz") as kept:
                weights = [kept[name] for name in kept.files]
            log_odds = {name: np.array(given, "float64") for name, given in raw["log_odds"].items()}
            history = pd.DataFrame(raw["history"]["data"], columns=raw["history"]["columns"])
            snapshot = Snapshot(raw["epochs"], weights, log_odds, history, raw["seconds"])
            os.utime(folder)  # marks it as recently used for `prune`
        except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, BadZipFile):
            return None
        return snapshot

    def write(self, identity: str, snapshot: Snapshot) -> None:
        """Store a finished trial: weights first, record last."""
        folder = self.folder / identity
        with atomic_path(folder / "weights.npz") as temporary:
            np.savez(temporary, *snapshot.weights)
        raw = {
            "epochs": snapshot.epochs,
            "log_odds": {name: values.tolist() for name, values in snapshot.log_odds.items()},
            "history": snapshot.history.to_dict("split", index=False),  # JSON sorts keys, not these columns
            "seconds": snapshot.seconds,
        }
        write_json(folder / "record.json", raw)
        self.checkpoint(identity).unlink(missing_ok=True)

    def checkpoint(self, identity: str) -> Path:
        """The file for an unfinished trial's state; `write` deletes it."""
        return self.folder / identity / "checkpoint.npz"

    def prune(self, keep: set[str]) -> None:
        """Delete the least recently used trials, except `keep`, until the journal is within its size limit."""
        folders = [folder for folder in self.folder.glob("*") if folder.is_dir()]
        make_room(folders, _bound(), lambda folder: folder.name in keep or _in_the_making(folder))


def _bound() -> float:
    """The journal's size limit in gigabytes."""
    return number("GLAUCOMA_STATE_GB", float, 0, GIGABYTES)


def _in_the_making(folder: Path) -> bool:
    """Whether another process may still be writing the entry: it is recent and has no record yet."""
    return not (folder / "record.json").exists() and last_use(folder) > time.time() - ABANDONED
