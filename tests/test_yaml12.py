"""params.yaml is read as YAML 1.2, in every form that DVC and users write."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import dumps_yaml, loads_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from glaucoma.base.errors import ParamsError
from glaucoma.base.yaml12 import parse_yaml, read_yaml

SHIPPED = (Path(__file__).parents[1] / "params.yaml").read_text()
TEXTS = [
    *("yes", "No", "on", "OFF", "y", "true", "NULL", "~", "", " ", "0", "-1", "012", "0o14", "0x1F", "1_000", "1:30"),
    *(
        "1e-05",
        "1e5",
        ".5",
        "1.",
        ".inf",
        "-.INF",
        ".nan",
        "inf",
        "nan",
        "2020-01-01",
        "2020-01-01 10:00:00",
        "=",
        "<<",
    ),
    *("it's", 'say "yes"', "a: b", "a #b", "- a", "[a]", "{a}", "!tag", "&a", "*a", "%", "@", "`", "|", ">", "\\"),
    *("two\nlines", "end\n", "tab\there", "größe", "眼", "\u2028", "/path with spaces/x", "C:\\eyes", "x" * 300),
]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats()
    | st.sampled_from(TEXTS)
    | st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Co", "Cn")), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("abcdefg"), inner, max_size=4),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal, including their types; NaN equals NaN."""
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and one == other


@settings(deadline=None, max_examples=150)
@given(values)
def test_what_dvc_writes_is_read_as_it_was(value: Any):
    text = dumps_yaml({"key": value})
    assert same(parse_yaml(text, "params.yaml"), {"key": value}), text


@pytest.mark.parametrize("text", TEXTS)
def test_texts_that_look_like_something_else_stay_text_through_dvc(text: str):
    assert parse_yaml(dumps_yaml({"a": text, "b": [text]}), "params.yaml") == {"a": text, "b": [text]}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("lr=0.00001", 1e-05),
        ("lr=1e-05", 1e-05),
        ("lr=1e5", 1e5),
        ("lr=3", 3),
        ("lr=null", None),
        ("lr=true", True),
        ("lr=yes", "yes"),
        ("lr=[0.1,1e-05,1e-4]", [0.1, 1e-05, 1e-04]),
        ("lr=[]", []),
        ("lr='0.1'", "0.1"),
        ("lr='it\\'s: 1 # no'", "it's: 1 # no"),
        ("lr=/photographs/of a clinic", "/photographs/of a clinic"),
        ("lr={a:1e-3,b:[on,off]}", {"a": 1e-3, "b": ["on", "off"]}),
    ],
)
def test_what_dvc_exp_run_sets_is_read_and_all_else_stays(tmp_path: Path, override: str, expected: Any):
    file = tmp_path / "params.yaml"
    file.write_text(SHIPPED)
    apply_overrides(file, [override])
    found = read_yaml(file)
    assert same(found.pop("lr"), expected)
    before = parse_yaml(SHIPPED, "params.yaml")
    assert before.pop("lr")
    assert same(found, before)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *(("1e-05", 1e-05), ("1e-5", 1e-05), ("0.00001", 1e-05), ("1E-4", 1e-4), ("1.0e-4", 1e-4), ("1e5", 1e5)),
        *((".5", 0.5), ("1.e-3", 1e-3), ("-.5e+3", -500.0), ("1.", 1.0), (".inf", math.inf), ("-.INF", -math.inf)),
        *((".nan", math.nan), ("0o14", 12), ("012", 12), ("0x1F", 31), ("+12", 12), ("-0", 0), ("!!float 3", 3.0)),
        *(("true", True), ("False", False), ("TRUE", True), ("tRue", "tRue"), ("!!str 12", "12"), ("12 # a", 12)),
        *(("", None), ("~", None), ("null", None), ("Null", None), ("NULL", None), ("nULL", "nULL")),
        *(
            (text, text)
            for text in ("yes", "no", "on", "off", "y", "N", "1:30", "1_000", "2020-01-01", "0b1", "1e", "=")
        ),
    ],
)
def test_plain_values_are_those_of_the_core_schema(text: str, expected: Any):
    assert same(parse_yaml(f"key: {text}\nlist:\n  - {text}", "x"), {"key": expected, "list": [expected]})


@pytest.mark.parametrize(
    "text", ["1e-05", "1e5", ".5", "1.e-3", "yes", "0o14", "", "null", "1:30", "'1'", "2020", "-1.5"]
)
def test_dvc_and_we_read_the_same(text: str):
    assert same(parse_yaml(f"key: {text}", "x"), loads_yaml(f"key: {text}"))


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, 'found duplicate key "a", already on line 1'),
        ("a:\n  b: 1\n  c: 2\n  b: 3\n", 4, 'duplicate key "b", already on line 2'),
        ("a: [{b: 1,\n  b: 2}]\n", 2, "duplicate key"),
        ("a: 1\n'a': 2\n", 2, "duplicate key"),
        ("a: [1\n", 2, "flow sequence"),
        ("a: 1\n\tb: 2\n", 2, "tab character"),
        ("a: 1\n---\na: 2\n", 2, "another document"),
        ("[a]: 1\n", 1, "a list or a mapping as a key"),
        ("a: *b\n", 1, "undefined alias"),
        ("a: !!timestamp 2020-01-01\n", 1, "could not determine a constructor"),
        ("a: !!python/object/apply:os.system [exit]\n", 1, "could not determine a constructor"),
        ("a: !!int many\n", 1, "'many' is not a valid int"),
        ("a: !!float many\n", 1, "'many' is not a valid float"),
        ("a: !!map [1]\n", 1, "expected a mapping"),
        ("a: " + "9" * 5000, 1, "is not a valid int"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, line: int, says: str):
    with pytest.raises(ParamsError, match=r"x\.yaml is not valid YAML") as caught:
        parse_yaml(text, "x.yaml")
    assert f"line {line}: " in caught.value.found
    assert says in caught.value.found
    assert "\n" not in caught.value.found


@pytest.mark.parametrize("content", [b"\xff", b"a: \x00", b"\xff\xfe\x00\xd8bad", b"a: \x07"])
def test_bytes_that_are_no_text_are_refused(content: bytes):
    with pytest.raises(ParamsError, match="not valid YAML"):
        parse_yaml(content, "x.yaml")
