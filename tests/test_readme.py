"""README.md and docs/ mention only existing paths, links, commands with their options, parameters and variables."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from dvc.cli.parser import get_main_parser
from dvc.utils.hydra import apply_overrides
from pydantic import BaseModel

from glaucoma import cli
from glaucoma.base.errors import GlaucomaError
from glaucoma.base.params import Params, load_params
from glaucoma.base.paths import FREE
from glaucoma.base.stage import CANNOT_WRITE, INTERRUPTED, PIPE_CLOSED
from glaucoma.base.yaml12 import read_yaml

ROOT = Path(__file__).resolve().parents[1]
TEXTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PIPELINES = ("dvc.yaml", "data/dvc.yaml", "extra/dvc.yaml")
SUFFIXES = {".csv", ".json", ".keras", ".lock", ".md", ".npy", ".png", ".py", ".toml", ".yaml"}
THEIRS = {"labels.csv", "index.json", "OrigaList.csv", "metadata - standardized.csv"}  # come with photographs
# written by commands, named by users
COMMANDS = {"difference.png", "models/stage3.onnx", "stage3.onnx.json", "reports/external/NAME/"}


def in_code(text: str) -> list[str]:
    """Text between backticks, and the lines of code blocks without comments and pictures."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    lines = [line.partition(" #")[0].strip() for kind, block in blocks if kind == "sh" for line in block.splitlines()]
    return lines + re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))


def everywhere() -> list[tuple[str, str]]:
    """Every piece of code, with the name of its file."""
    return [(file.name, piece) for file in TEXTS for piece in in_code(file.read_text(encoding="utf-8"))]


def commands(program: str) -> list[list[str]]:
    """The arguments of each call of a program, without variables or pipes before it."""
    called = []
    for _, piece in everywhere():
        for part in re.split(r" && | \| ", piece):
            words = shlex.split(part)
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words[:1] == [program] and len(words) > 1:
                called.append(words[1:])
    assert called
    return called


@cache
def tracked() -> set[str]:
    """The files under version control, and their folders."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [Path(line) for line in listed.splitlines()]
    return {path.as_posix() for file in files for path in (file, *file.parents[:-1])}


@cache
def made() -> set[str]:
    """The outputs of the stages, with `*` for a fold or a backbone of a matrix."""
    found = set()
    for file in PIPELINES:
        for stage in read_yaml(ROOT / file)["stages"].values():
            outputs = [out for kind in ("outs", "metrics", "plots") for out in stage.get(kind, ())]
            names = [out if isinstance(out, str) else next(iter(out)) for out in outputs]
            names = [name.replace("${item.model}", model) for name in names for model in FREE]
            found |= {re.sub(r"\$\{[^}]*\}", "*", name) for name in names}
    return found


@cache
def strings() -> set[str]:
    """Every string in the library, including file names."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in (ROOT / "src").rglob("*.py")]
    texts = {node.value for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return {text for text in texts if isinstance(text, str)}


@cache
def form(path: str) -> re.Pattern:
    return re.compile(re.escape(path).replace(r"\*", "[^/]*"))


def alike(one: str, other: str) -> bool:
    """Whether two paths match; `*` in either stands for any part of a name."""
    return bool(form(one).fullmatch(other) or form(other).fullmatch(one))


def is_known(path: str) -> bool:
    """Whether a path is tracked, an output or its parent, or in an output folder and named in the library."""
    pattern = re.sub(r"…|\bNAME\b", "*", path.rstrip("/"))
    if pattern in tracked():
        return True
    outputs = {part.as_posix() for out in made() for part in (Path(out), *Path(out).parents[:-1])}
    if any(alike(one, pattern) for one in tracked() | outputs):
        return True
    in_output = any(alike(out, above.as_posix()) for above in Path(pattern).parents[:-1] for out in made())
    return pattern in strings() or (in_output and Path(pattern).name in strings())


def test_the_generated_parts_are_those_of_the_pipeline_its_metrics_and_the_benchmarks():
    result = subprocess.run([sys.executable, "tools/readme.py"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_readme_is_short():
    assert len(TEXTS[0].read_text(encoding="utf-8").splitlines()) <= 220


def test_every_link_leads_to_a_file_and_every_page_is_linked_from_the_readme():
    linked = set()
    for file in TEXTS:
        for link in re.findall(r"\]\(([^)#]+)\)", file.read_text(encoding="utf-8")):
            if "://" not in link:
                target = (file.parent / link).resolve().relative_to(ROOT).as_posix()
                assert target in tracked(), f"{file.name}: {link}"
                linked |= {target} if file.name == "README.md" else set()
    assert {f"docs/{file.name}" for file in TEXTS[1:]} <= linked


def test_every_path_is_tracked_or_written_by_a_stage_or_named_in_the_library():
    tops = {path.split("/")[0] for path in tracked() | made()} | {".state"}
    checked, unknown = 0, []
    for file, piece in everywhere():
        for word in [piece] if piece in THEIRS else re.split(r"[\s,'\"=:]+", piece):
            inside = "/" in word and word.split("/")[0] in tops
            bare = "/" not in word and Path(word).suffix in SUFFIXES and "*" not in word
            if (inside or bare) and word not in THEIRS | COMMANDS:
                checked += 1
                if not is_known(word):
                    unknown.append(f"{file}: {word}")
    assert not unknown
    assert checked > 60


@pytest.mark.parametrize(
    "path",
    ["reports/summary/nosuch.csv", "reports/nosuch/predictions.csv", "docs/nosuch.md", "nosuch.json", "metrics/x/"],
)
def test_a_path_that_nothing_writes_would_be_noticed(path):
    assert not is_known(path)


@pytest.mark.parametrize("words", commands("glaucoma"), ids=" ".join)
def test_every_glaucoma_command_takes_the_arguments_that_are_shown(words):
    parser = cli.parser()
    (known,) = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    assert words[0] in known
    if len(words) > 1:  # alone, it is a mention, not a call
        parser.parse_args(words)


@pytest.mark.parametrize("words", commands("dvc"), ids=" ".join)
def test_every_dvc_command_is_one_of_dvc_s_own_for_stages_and_artifacts_that_there_are(words):
    given = get_main_parser().parse_args(words)
    pipeline = read_yaml(ROOT / "dvc.yaml")
    if words[:2] == ["artifacts", "get"]:
        assert given.name in pipeline["artifacts"]
    if words[0] == "repro" or words[:2] == ["exp", "run"]:
        assert set(given.targets) <= {*PIPELINES, *pipeline["stages"]}


def overrides() -> list[str]:
    """The assignments after each -S."""
    found = [shlex.split(piece) for _, piece in everywhere() if "-S " in piece]
    return sorted({word for words in found for option, word in pairwise(words) if option == "-S"})


@pytest.mark.parametrize("override", overrides())
def test_every_override_is_one_that_dvc_applies_and_the_schema_takes(override, tmp_path):
    file = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", file)
    apply_overrides(file, [override])
    assert load_params(file) != load_params(ROOT / "params.yaml")


def test_every_parameter_that_is_named_is_in_the_schema():
    checked = 0
    for file, piece in everywhere():
        name = re.match(r"[a-z]\w*(\.\w+)+(?=$|: )", piece)
        if not name or Path(name[0]).suffix in SUFFIXES | {".onnx"} or name[0].split(".")[0] not in Params.model_fields:
            continue
        schema = Params
        for part in name[0].split("."):
            assert part in schema.model_fields, f"{file}: {piece}"
            schema = schema.model_fields[part].annotation
            if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
                break
        checked += 1
    assert checked > 10


def test_every_make_target_and_every_variable_is_read_somewhere():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for words in commands("make"):
        assert re.search(rf"^{words[0]}:.*##", makefile, flags=re.MULTILINE), words
        for variable in words[1:]:
            assert f"$({variable.partition('=')[0]})" in makefile, words
    code = "\n".join(file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py"))
    for file, piece in everywhere():
        for variable in re.findall(r"\bGLAUCOMA_\w+|\bRAY_ADDRESS\b", piece):
            assert variable in code, f"{file}: {variable}"


def test_every_extra_that_is_to_be_installed_is_in_pyproject_toml():
    table = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("[project.optional-dependencies]")[2]
    extras = re.findall(r"^(\w+) = \[", table.partition("\n[")[0], flags=re.MULTILINE)
    named = {name for words in commands("pip") for word in words for name in re.findall(r"\[(\w+)\]$", word)}
    assert named
    assert named <= set(extras)


def test_every_exit_code_is_in_the_table_and_no_other():
    section = (ROOT / "README.md").read_text("utf-8").partition("## Exit codes")[2].partition("\n## ")[0]
    told = [int(code) for code in re.findall(r"^\| (\d+) \|", section, flags=re.MULTILINE)]
    kinds = [GlaucomaError]
    for kind in kinds:
        kinds += kind.__subclasses__()
    codes = {kind.exit_code for kind in kinds} | {CANNOT_WRITE, INTERRUPTED, PIPE_CLOSED}
    assert told == sorted({0, *codes})
