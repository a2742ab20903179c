"""People in the names of files: `1000_left`, `12_OD`, `P012_R_2`, `patient-7_3`, or a folder for each of them.

Only a mark of the eye or a word for a person counts. Names that merely end in a number (IMG_0001, Im310_g_ACRIMA) are
names of images, and tell nothing of people.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd

from glaucoma.dataset.spelling import eye_of

__all__ = ["with_people"]

WORD = r"(?:patient|paciente|pat|subject|subj|sub|person|participant|pid)[_\-. ]?(?:id[_\-. ]?)?[a-z]{0,3}\d+"
TOKEN = re.compile(rf"(?:^|(?<=[_\-. ])){WORD}(?=$|[_\-. ])|^p\d+(?=[_\-. ])", re.I)
FOLDER = re.compile(rf"{WORD}|p\d+", re.I)
GLUED = re.compile(r"(?<=\d)(?=(?:left|right|od|os|[lr])(?:$|[_\-. ]))", re.I)  # RET002OD

MOST = 0.5  # share of a source's names that have to tell the person
PAIRS = 0.1  # share of its people with both eyes, where nothing but the mark of the eye tells them
MANY = 20  # images of one person, on average; more are no people
RESTARTS = 0.05  # share of names that stand in several folders: there, each folder has a person 1 of its own


@dataclass(frozen=True)
class Told:
    """What one name tells: the person, the eye (OD, OS or ""), and the folder in which people are numbered.

    `sure` where a word for a person tells it, not only the mark of an eye.
    """

    who: str
    eye: str
    place: PurePosixPath
    sure: bool


def with_people(table: pd.DataFrame) -> tuple[pd.DataFrame, int, int]:
    """Fill in `patient` and `eye` from names, in each source whose names tell them and whose tables do not.

    Args:
        table: `path` (posix, below data.root), `condition`, perhaps `source`, `patient`, `eye`, `fold`; "" if unknown.

    Returns:
        The table; how many people names told, and how many of these have images of both eyes.
    """
    sources = table["source"] if "source" in table else pd.Series("", index=table.index)
    several = sources.nunique() > 1
    people: dict[int, str] = {}
    eyes: dict[int, str] = {}
    for source, rows in table.groupby(sources, sort=True):
        if "patient" in rows and (rows["patient"] != "").any():
            continue
        # each fold has the same images, in folders of its own
        places = rows["condition"].tolist() if "fold" in rows else None
        for row, (who, eye) in zip(rows.index, _people(rows["path"].tolist(), places), strict=True):
            if who:
                people[row], eyes[row] = (f"{source}/{who}" if several and source else who), eye
    if not people:
        return table, 0, 0
    told = pd.DataFrame({"patient": pd.Series(people), "eye": pd.Series(eyes)}).reindex(table.index).fillna("")
    both = told[told["eye"] != ""].groupby("patient")["eye"].nunique()
    for name in told:
        if name in table:
            told[name] = told[name].where(table[name] == "", table[name])
    told = told[[name for name in told if (told[name] != "").any()]]
    return table.assign(**told), len(set(people.values())), int((both > 1).sum())


def _people(paths: Sequence[str], places: Sequence[str] | None) -> list[tuple[str, str]]:
    """Person and eye of each path; all "" where too few names tell them, or they tell of no person with two images."""
    nobody = [("", "")] * len(paths)
    told = [_read(PurePosixPath(path)) for path in paths]
    if sum(one is not None for one in told) <= MOST * len(told):
        return nobody
    below = [PurePosixPath(path).relative_to(one.place if one else "") for path, one in zip(paths, told, strict=True)]
    where = places or [str(one.place) if one else "" for one in told]
    met: dict[PurePosixPath, set[str]] = defaultdict(set)
    for name, place in zip(below, where, strict=True):
        met[name].add(place)
    restarts = sum(len(there) > 1 for there in met.values()) > RESTARTS * len(met)
    whose = [
        "" if one is None else f"{place}/{one.who}" if restarts else one.who
        for one, place in zip(told, where, strict=True)
    ]
    images = Counter(who for who, _ in set(zip(whose, below, strict=True)) if who)
    sides: dict[str, set[str]] = defaultdict(set)
    for who, one in zip(whose, told, strict=True):
        if one:
            sides[who].add(one.eye)
    pairs = sum({"OD", "OS"} <= eyes for eyes in sides.values())
    sure = any(one.sure for one in told if one)
    if max(images.values()) < 2 or sum(images.values()) > MANY * len(images):
        return nobody
    if not sure and pairs < max(1, PAIRS * len(sides)):
        return nobody
    return [(who, one.eye if one else "") for who, one in zip(whose, told, strict=True)]


def _read(path: PurePosixPath) -> Told | None:
    """What a path tells of a person, or None."""
    parts = [part for part in re.split(r"[_\-. ]+", GLUED.sub("_", path.stem)) if part]
    marks = [place for place, part in enumerate(parts) if eye_of(part)]
    eye = (eye_of(parts[marks[0]]) or "") if marks else ""
    word = TOKEN.search(path.stem)
    if word:
        return Told(word[0], eye, path.parent, True)
    for folder in path.parents:
        if FOLDER.fullmatch(folder.name):
            return Told(folder.name, eye, folder.parent, True)
    if not eye:
        return None
    before, after = parts[: marks[0]], parts[marks[0] + 1 :]
    if any(map(_numbered, before)):
        return Told("_".join(before), eye, path.parent, False)
    number = next(filter(_numbered, after), "")
    if number and not (_numbered(path.parent.name) and len(number) <= 2):
        return Told(number, eye, path.parent, False)
    # 0012/left.jpg, 0012/OD_1.jpg: the folder is the person
    return Told(path.parent.name, eye, path.parent.parent, False) if path.parent.name else None


def _numbered(part: str) -> bool:
    return any(c.isdigit() for c in part)
