"""Validation errors of pydantic as sentences that name the key, its value and what would fit."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

__all__ = ["refusals"]


def refusals(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    """One sentence per problem; for an unknown key, with the most similar known one."""
    return [_sentence(problem, schema) for problem in error.errors()]


def _sentence(problem: Any, schema: type[BaseModel]) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        parent = problem["loc"][:-1]
        near = difflib.get_close_matches(str(problem["loc"][-1]), _keys(parent, schema), n=1)
        hint = f"; did you mean {'.'.join([*map(str, parent), near[0]])}?" if near else ""
        return f"{where} is not a known key{hint}"
    if problem["type"] == "missing":
        return f"{where} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    return f"{where} is {problem['input']!r}: {message}"


def _keys(location: tuple, schema: Any) -> list[str]:
    """The keys known at a location of the schema."""
    for part in location:
        annotation = schema.model_fields[part].annotation if part in schema.model_fields else None
        models = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
        if not models:
            return []
        schema = models[0]
    return list(schema.model_fields)
