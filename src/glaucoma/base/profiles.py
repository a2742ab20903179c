"""Profiles: named changes to the shipped parameters; params.yaml is rewritten with its comments.

A profile, `profiles/NAME.yaml`, contains only its changes: mappings are merged key by key, lists and values replaced.
It always changes the shipped parameters, never an edited params.yaml, so its name determines the result. Keys of
params.yaml that describe the photographs (`KEPT`) stay unless the profile sets them.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from glaucoma.base.errors import ParamsError
from glaucoma.base.params import Params, check_params
from glaucoma.base.yaml12 import parse_yaml, read_yaml

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
    "shipped_params",
]

PROFILES = Path("profiles")
SHIPPED = "shipped"  # name of the shipped parameters
PREVIOUS = PROFILES / "previous.yaml"  # the complete params.yaml before the last profile
KEPT = (
    *("data.root", "data.layout", "data.classes", "data.patients", "data.unreadable", "data.max_megapixels"),
    "audit.waive",
)


def shipped() -> str:
    """The text of the shipped params.yaml."""
    return (files("glaucoma") / "shipped.yaml").read_text("utf-8")


def shipped_params() -> Params:
    """The shipped parameters, checked."""
    return check_params(parse_yaml(shipped(), "shipped.yaml"), "shipped.yaml")


def read_profile(path: Path) -> dict[str, Any]:
    """The changes of a profile.

    Raises:
        ParamsError: there is no such profile, or it has no keys.
    """
    if not path.is_file():
        known = sorted({SHIPPED, *(file.stem for file in path.parent.glob("*.yaml"))})
        raise ParamsError(f"there is no profile {path.stem}", f"choose one of: {', '.join(known)}")
    change = read_yaml(path)
    if not isinstance(change, dict):
        raise ParamsError(f"{path} has no keys", "add the keys of params.yaml that it changes")
    return change


def load_profile(path: Path) -> Params:
    """The shipped parameters with the changes of a profile.

    Raises:
        ParamsError: a value is invalid.
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
    """The values of params.yaml that describe the photographs, nested; waived findings only if they are for `root`."""
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
    """A YAML text with new values and its own comments.

    Args:
        text: a mapping, formatted like params.yaml.
        values: the complete new content; new keys come first in their section.
    """
    yaml = YAML()
    yaml.width = 1000
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)  # the files' own style, so that a diff shows only changes
    content = yaml.load(text)
    _change(content, parse_yaml(text, "params.yaml"), values)
    written = io.StringIO()
    yaml.dump(content, written)
    return written.getvalue()


def _differ(one: Any, other: Any) -> bool:
    return one != other or isinstance(one, bool) is not isinstance(other, bool)  # in Python, True == 1


def _change(node: CommentedMap, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    for key in old.keys() - new.keys():
        del node[key]
    for key, value in new.items():
        if key not in old:
            node.insert(0, key, value)  # at the end, it would come after the comment between two sections
        elif isinstance(value, Mapping) and isinstance(old[key], Mapping):
            _change(node[key], old[key], value)
        elif _differ(old[key], value):
            node[key] = _sequence(node[key], value) if isinstance(value, list) else value


def _sequence(old: Any, values: list) -> CommentedSeq:
    """A list in another's style, with the text after it, which ruamel stores as a comment on the last item."""
    sequence = CommentedSeq(values)
    if not isinstance(old, CommentedSeq) or old.fa.flow_style() or not values:
        sequence.fa.set_flow_style()
    elif len(old) - 1 in old.ca.items:
        sequence.ca.items[len(values) - 1] = old.ca.items[len(old) - 1]
    return sequence
