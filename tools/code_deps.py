"""Keep the code dependencies in dvc.yaml those that each stage script really imports.

    python tools/code_deps.py            list differences; exit 1 if there are any
    python tools/code_deps.py --write    update dvc.yaml and those in data/, extra/ and pretrain/

DVC does not follow imports. Each stage's `deps` lists its script and every module of ours that the script imports,
directly or not; packages whose __init__.py holds no code are left out. A package all of whose modules are imported is
listed as one folder: DVC reads and writes dvc.lock anew for every stage, and that takes longer with every line.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
PIPELINES = ("dvc.yaml", "data/dvc.yaml", "extra/dvc.yaml", "pretrain/dvc.yaml")
PACKAGES = ROOT / "src/glaucoma"
SOURCES = (ROOT / "stages", ROOT / "src")


def imported(script: Path) -> set[Path]:
    """The script and every module of ours that it imports, directly or not."""
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting.extend(_imports(file))
    return found


def wanted(stage: dict) -> list[str]:
    """The code dependencies that a stage of dvc.yaml ought to list: its script first, then modules by name."""
    script = ROOT / stage["cmd"].split()[1]
    others = _folded(imported(script) - {script})
    return [str(path.relative_to(ROOT)) for path in [script, *sorted(others)]]


def is_code(dep: str) -> bool:
    """Whether a dependency is one of our modules, or a package of them."""
    return dep.startswith(("stages/", "src/")) and (dep.endswith(".py") or (ROOT / dep / "__init__.py").is_file())


def _folded(files: set[Path]) -> set[Path]:
    """Packages in place of their files, where all that hold code are there, those of packages within included."""
    for folder in sorted({folder for file in files for folder in file.parents if folder.is_relative_to(PACKAGES)}):
        within = {file for file in files if file.is_relative_to(folder)}
        if within and within == {file for file in folder.rglob("*.py") if _has_code(file)}:
            files = files - within | {folder}
    return files


def main() -> int:
    """Compare, and mend where asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="mend the files instead of complaining")
    write = parser.parse_args().write
    yaml = YAML()
    yaml.width = 200
    yaml.indent(mapping=2, sequence=4, offset=2)
    differing = False
    for name in PIPELINES:
        pipeline = yaml.load(ROOT / name)
        changed = False
        for title, entry in pipeline["stages"].items():
            listed = [dep for dep in entry["deps"] if is_code(dep)]
            right = wanted(entry)
            if listed == right:
                continue
            changed = True
            for dep in sorted(set(listed) ^ set(right)):
                print(f"{name}, {title}: {'not imported' if dep in listed else 'missing'}: {dep}")
            rest = [dep for dep in entry["deps"] if not is_code(dep)]
            entry["deps"].clear()
            entry["deps"].extend([*right, *rest])
        if changed and write:
            yaml.dump(pipeline, ROOT / name)
        differing |= changed
    return 1 if differing and not write else 0


def _imports(file: Path) -> list[Path]:
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        found += [path for name in names for path in _files(name)]
    return found


def _files(name: str) -> list[Path]:
    """Files of ours that importing `name` runs."""
    parts = name.split(".")
    files = []
    for source in SOURCES:
        for depth in range(1, len(parts) + 1):
            base = source.joinpath(*parts[:depth])
            package = base / "__init__.py"
            if package.is_file() and _has_code(package):
                files.append(package)
        module = source.joinpath(*parts).with_suffix(".py")
        if module.is_file():
            files.append(module)
    return files


def _has_code(file: Path) -> bool:
    """Whether a file does more than hold a docstring and constants."""
    return any(not isinstance(node, (ast.Expr, ast.Assign)) for node in ast.parse(file.read_text()).body)


if __name__ == "__main__":
    sys.exit(main())
