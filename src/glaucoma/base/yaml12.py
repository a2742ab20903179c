"""Read YAML files with PyYAML's C parser and the plain scalars of YAML 1.2, as DVC does.

PyYAML itself follows YAML 1.1, where `1e-05` is text, `yes` a boolean, `012` ten and `1:30` ninety. Only JSON's types
are supported (null, booleans, numbers, text, lists, mappings): timestamps stay text, and tags for other types are
errors. Duplicate keys are errors too, while PyYAML would keep the last one.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from glaucoma.base.errors import ParamsError

__all__ = ["parse_yaml", "read_yaml"]

TAG = "tag:yaml.org,2002:"
# YAML 1.2.2, 10.3.2 "Tag resolution" of the core schema; the first match counts. Each with its first characters
SCALARS = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.")),
)
BASES = {"0o": 8, "0x": 16}


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # as PyYAML was built
    """PyYAML's safe loader with YAML 1.2's rules for plain scalars, and JSON's types only."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 - PyYAML copies it on the first addition
    yaml_constructors: dict = {}  # noqa: RUF012 - the same

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        """Build a mapping without duplicate keys."""
        if not isinstance(node, yaml.MappingNode):
            raise ConstructorError(None, None, f"expected a mapping, found a {node.id}", node.start_mark)
        built: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        for key_node, value_node in node.value:
            key, mark = self.construct_object(key_node, deep=True), key_node.start_mark
            if not isinstance(key, Hashable):
                raise ConstructorError(None, None, "found a list or a mapping as a key", mark)
            if key in lines:
                twice = f'found duplicate key "{key}", already on line {lines[key]}'
                raise ConstructorError(None, None, twice, mark)
            lines[key] = mark.line + 1
            built[key] = self.construct_object(value_node, deep=deep)
        return built

    def construct_scalar_as(self, node: Any) -> bool | int | float | None:
        """The value of a scalar that is null, a boolean or a number, by its text or its tag."""
        kind, text = node.tag.removeprefix(TAG), self.construct_scalar(node)
        if not any(kind == name and re.fullmatch(form, text) for name, form, _ in SCALARS) and kind != "float":
            raise ConstructorError(None, None, f"{text!r} is not a valid {kind}", node.start_mark)
        if kind == "null":
            return None
        if kind == "bool":
            return text.lower() == "true"
        try:
            return int(text, BASES.get(text[:2], 10)) if kind == "int" else float(re.sub(r"\.(?=[inIN])", "", text))
        except ValueError as error:  # an integer of thousands of digits, or a wrong tag
            raise ConstructorError(
                None, None, f"{text[:20]!r} is not a valid {kind} ({error})", node.start_mark
            ) from None


for _kind, _form, _first in SCALARS:
    _Loader.add_implicit_resolver(TAG + _kind, re.compile(f"(?:{_form})$"), _first)
    _Loader.add_constructor(TAG + _kind, _Loader.construct_scalar_as)
for _kind in ("str", "seq", "map"):
    _Loader.add_constructor(TAG + _kind, getattr(yaml.SafeLoader, f"construct_yaml_{_kind}"))
_Loader.add_constructor(None, yaml.SafeLoader.construct_undefined)


def parse_yaml(content: bytes | str, name: str) -> Any:
    """The value of a YAML document; None if it is empty.

    Args:
        content: bytes are UTF-8, or UTF-16 with a byte-order mark.
        name: of the file, for messages.

    Raises:
        ParamsError: invalid YAML (with the line), a duplicate key, or more than one document.
    """
    try:
        return yaml.load(content, _Loader)  # noqa: S506 - a safe loader with fewer types
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.context, error.problem) if part)
        found = f"line {mark.line + 1}: {what}" if mark else what
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        found = " ".join(str(error).split())
    except RecursionError:
        found = "it is nested too deeply"
    raise ParamsError(
        f"{name} is not valid YAML: {found}", "correct it, or restore the last version with `git checkout`"
    ) from None


def read_yaml(path: Path | str) -> Any:
    """The value of a YAML file; see `parse_yaml`.

    Raises:
        ParamsError: the file cannot be read or is not valid YAML.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ParamsError(f"{path} does not exist", "run from the project's root, which contains params.yaml") from None
    except OSError as error:
        raise ParamsError(f"{path} cannot be read: {error.strerror}", "give a readable YAML file") from None
    return parse_yaml(content, str(path))
