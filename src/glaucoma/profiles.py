"""Profiles: named sets of changes to the shipped parameters, and params.yaml written anew with its comments kept.

A profile, `profiles/NAME.yaml`, holds only what it changes: mappings are merged key by key, lists and values replace.
What it changes are always the shipped parameters, never an edited params.yaml, so that its name says all that it
stands for. What params.yaml says about the photographs (`KEPT`) stays unless the profile itself says otherwise.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from glaucoma.errors import ParamsError
from glaucoma.params import Params, check_params
from glaucoma.yaml12 import parse_yaml, read_yaml

__all__ = [
    "KEPT",
    "PREVIOUS",
    "PROFILES",
    "SHIPPED",
    "kept",
    "load_profile",
    "merge",
    "nested",
    "read_profile",
    "rewrite",
    "shipped",
]

PROFILES = Path("profiles")
SHIPPED = "shipped"  # the name under which params.yaml comes back as the project ships it
PREVIOUS = PROFILES / "previous.yaml"  # params.yaml before the last profile, whole
KEPT = ("data.root", "data.layout", "data.classes", "data.unreadable", "data.max_megapixels", "audit.waive")


def shipped() -> str:
    """params.yaml as the project ships it."""
    return (files("glaucoma") / "shipped.yaml").read_text("utf-8")


def read_profile(path: Path) -> dict[str, Any]:
    """What a profile changes.

    Raises:
        ParamsError: there is no such profile, or it holds no keys.
    """
    if not path.is_file():
        known = sorted({SHIPPED, *(file.stem for file in path.parent.glob("*.yaml"))})
        raise ParamsError(f"there is no profile {path.stem}", f"choose one of: {', '.join(known)}")
    change = read_yaml(path)
    if not isinstance(change, dict):
        raise ParamsError(f"{path} holds no keys", "give it the keys of params.yaml that it changes")
    return change


def load_profile(path: Path) -> Params:
    """The shipped parameters as a profile changes them.

    Raises:
        ParamsError: what it holds does not fit.
    """
    return check_params(merge(parse_yaml(shipped(), "shipped.yaml"), read_profile(path)), str(path))


def merge(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `change`: mappings key by key, anything else replaced."""
    merged = dict(base)
    for key, value in change.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def kept(present: Params, root: str) -> dict[str, Any]:
    """What params.yaml says about the photographs, nested; waived findings only where they are those in `root`."""
    there, same = present.model_dump(), present.data.root == root
    keys = [key.split(".") for key in KEPT if same or not key.startswith("audit.")]
    return nested({f"{section}.{name}": there[section][name] for section, name in keys})


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted keys as sections: `{"a.b": 1}` → `{"a": {"b": 1}}`."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        for part in reversed(key.split(".")):
            value = {part: value}
        found = merge(found, value)
    return found


def rewrite(text: str, values: Mapping[str, Any]) -> str:
    """A YAML text with other values and its own comments.

    Args:
        text: a mapping, as params.yaml is laid out.
        values: all that it shall hold; keys that are new come first in their section.
    """
    yaml = YAML()
    yaml.width = 1000
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)  # as the files are written, so that a diff shows what changed
    content = yaml.load(text)
    _change(content, parse_yaml(text, "params.yaml"), values)
    written = io.StringIO()
    yaml.dump(content, written)
    return written.getvalue()


def _differ(one: Any, other: Any) -> bool:
    return one != other or isinstance(one, bool) is not isinstance(other, bool)  # to Python, True is 1


def _change(node: CommentedMap, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    for key in old.keys() - new.keys():
        del node[key]
    for key, value in new.items():
        if key not in old:
            node.insert(0, key, value)  # at the end it would come after what is written between two sections
        elif isinstance(value, Mapping) and isinstance(old[key], Mapping):
            _change(node[key], old[key], value)
        elif _differ(old[key], value):
            node[key] = _sequence(node[key], value) if isinstance(value, list) else value


def _sequence(old: Any, values: list) -> CommentedSeq:
    """A list in another's style, with what stands after it: to ruamel, that is a comment on its last item."""
    sequence = CommentedSeq(values)
    if not isinstance(old, CommentedSeq) or old.fa.flow_style() or not values:
        sequence.fa.set_flow_style()
    elif len(old) - 1 in old.ca.items:
        sequence.ca.items[len(values) - 1] = old.ca.items[len(old) - 1]
    return sequence
