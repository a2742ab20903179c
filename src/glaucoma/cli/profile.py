"""The command `glaucoma profile`: write params.yaml from a profile and, for its `auto` values, from the photographs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from glaucoma.base import paths
from glaucoma.base.errors import DataError, ParamsError, many, shown
from glaucoma.base.files import atomic_path, check_place
from glaucoma.base.params import Params, check_params, load_params
from glaucoma.base.profiles import PREVIOUS, PROFILES, SHIPPED, kept, merge, nested, read_profile, rewrite, shipped
from glaucoma.base.yaml12 import parse_yaml
from glaucoma.train.recommend import Folder, choose, look_into, take_auto_out, value_for

__all__ = ["add"]


def add(commands: argparse._SubParsersAction) -> None:
    """Register `profile`."""
    about = "write params.yaml: the shipped parameters with a profile's changes; the old file becomes `previous`"
    profile = commands.add_parser("profile", help=about, description=about)
    profile.add_argument(
        "name",
        nargs="?",
        help="a file in profiles/, e.g. recommended; or shipped: no changes; or previous: params.yaml before the last "
        "profile. Without a name the current parameters are kept",
    )
    profile.add_argument("--data", metavar="DIR", help="folder of photographs, for data.root")
    profile.set_defaults(work=lambda given: _use_profile(given.name, given.data))


def _use_profile(name: str | None, data: str | None) -> None:
    """Write params.yaml from a profile, or with another data.root only; the old file is kept as `previous`.

    Raises:
        ParamsError: no such profile, or one that does not fit the schema.
        DataError: the photographs cannot be used, or are too few to choose values by.
    """
    if not name and data is None:
        raise ParamsError("give a profile, --data, or both", "see `glaucoma profile --help`")
    check_place(paths.PARAMS, str(paths.PARAMS))
    source = PROFILES / f"{name}.yaml" if name else paths.PARAMS
    change: dict[str, Any] = {}
    if name in (None, PREVIOUS.stem):
        base = _text(source)
    else:
        base = shipped()
        if name != SHIPPED:
            change = read_profile(source)
            change = merge(_kept(change, data), change)
    if data is not None:
        data = str(Path(data).expanduser()) if data.startswith("~") else data  # DVC does not expand it
        change = merge(change, {"data": {"root": data}})
    before = parse_yaml(base, str(source))
    change, auto = take_auto_out(change, str(source))
    params = check_params(merge(before, change), str(source))
    folder = None
    if auto:
        folder = _look_into(params)
        change = merge(change, _told(auto, folder, params))
        params = check_params(merge(before, change), str(source))
    _write(rewrite(base, merge(before, change)) if change else base, params, folder)
    print(f"{paths.PARAMS} written from {source}" if name else f"data.root in {paths.PARAMS} is now {data}")


def _text(path: Path) -> str:
    """A whole file of parameters, checked.

    Raises:
        ParamsError: it does not exist, or is not valid.
    """
    if path == PREVIOUS and not path.is_file():
        raise ParamsError(f"{path} does not exist", "it is written when `glaucoma profile` first changes params.yaml")
    load_params(path)
    return path.read_text("utf-8")


def _kept(change: dict[str, Any], data: str | None) -> dict[str, Any]:
    """The values of params.yaml, if it exists, that describe the photographs.

    Raises:
        ParamsError: it is not valid.
    """
    if not paths.PARAMS.is_file():
        return {}
    present, section = load_params(paths.PARAMS), change.get("data")
    own = section.get("root") if isinstance(section, dict) else None
    return kept(present, data or own or present.data.root)


def _look_into(params: Params) -> Folder:
    """Examine data.root, and print what it contains.

    Raises:
        DataError: it cannot be used, or has too few images.
    """
    root = Path(params.data.root).expanduser()
    if root == paths.SAMPLE and not root.is_dir():
        problem = f"{root} has no photographs yet, and this profile chooses values by them"
        raise DataError(problem, "give yours by --data DIR, or render the sample: `dvc repro data/dvc.yaml:sample`")
    folder = look_into(root, params)
    classes = ", ".join(f"{count} {name}" for name, count in folder.counts.items())
    sides = sorted(one.side for one in folder.looks)
    sizes = f"{sides[0]} px a side" if sides[0] == sides[-1] else f"{sides[0]} to {sides[-1]} px a side"
    unread = f"; {folder.unreadable} more cannot be read" if folder.unreadable else ""
    print(f"{shown(root)}: {many(folder.images, 'photograph')} ({classes})")
    print(f"examined {len(folder.looks)} of them: {sizes}{unread}")
    return folder


def _told(auto: list[str], folder: Folder, params: Params) -> dict[str, Any]:
    """The values chosen by the photographs, by section; each is printed with its reason."""
    chosen = choose(folder, params)
    values: dict[str, Any] = {}
    for key in auto:
        value, reason = value_for(key, chosen)
        print(f"  {key}: {value} – {reason}")
        values = merge(values, nested({key: value}))
    return values


def _write(text: str, params: Params, folder: Folder | None) -> None:
    """Replace params.yaml, keep the old one, and estimate the run's duration if the photographs were examined."""
    there = paths.PARAMS.read_bytes() if paths.PARAMS.is_file() else b""
    if text.encode() == there:
        return
    if folder:
        _say_how_long(params, folder)
    with atomic_path(paths.PARAMS) as temporary:
        temporary.write_bytes(text.encode())
        if there:
            with atomic_path(PREVIOUS) as before:
                before.write_bytes(there)
            print(f"the old parameters are in {PREVIOUS}; to restore them: `glaucoma profile {PREVIOUS.stem}`")


def _say_how_long(params: Params, folder: Folder) -> None:
    """Time a few real training steps, and print the estimate.

    Raises:
        TrainingError: a batch does not fit into memory.
    """
    print("timing a few training steps (about half a minute) …", flush=True)
    from glaucoma.train.duration import estimate, measure  # Keras takes seconds

    speed = measure(params)
    seconds = estimate(params, speed, folder.images, folder.seconds)
    print(
        f"the run will take {in_words(seconds)} on this machine: {1 / speed.all:.0f} images/s when training every "
        f"layer, {1 / speed.predict:.0f} images/s in prediction, {speed.start:.0f} s to start a process"
    )


def in_words(seconds: float) -> str:
    """A duration in words, to about a tenth: `about 40 minutes`."""
    if seconds < 55 * 60:
        minutes = max(1, round(seconds / 60))
        minutes = minutes if minutes <= 10 else 5 * round(minutes / 5)
        return f"about {many(minutes, 'minute')}"
    hours = seconds / 3600
    return f"about {hours:.1f} hours" if hours < 10 else f"about {hours:.0f} hours"
