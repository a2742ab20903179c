"""README.md and docs/ say what dvc.yaml and metrics/ say."""

import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import PurePosixPath

from conftest import ROOT

from glaucoma.yaml12 import read_yaml

ELSEWHERE = {".state", "reports/external/*", "Fold*"}  # made by commands, and the photographs of the user


def test_the_picture_and_the_scores_in_the_readme_are_those_of_the_pipeline_and_its_metrics():
    result = subprocess.run([sys.executable, "tools/readme.py"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_every_path_that_the_documents_name_is_tracked_or_made():
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    made = set(ELSEWHERE)
    for file in [ROOT / "dvc.yaml", *ROOT.glob("*/dvc.yaml")]:
        for stage in read_yaml(file)["stages"].values():
            for kind in ("outs", "metrics", "plots"):
                for out in stage.get(kind, []):
                    path = next(iter(out)) if isinstance(out, dict) else out
                    made.add(re.sub(r"\$\{[^}]*\}", "*", path))
    known = made | set(listed.splitlines())
    known |= {str(folder) for path in known for folder in PurePosixPath(path).parents}
    for document in (ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")):
        for name in re.findall(r"`([\w.-]+/[\w./*-]*)`", document.read_text(encoding="utf-8")):
            path = re.sub(r"N(AME)?\b", "*", name).rstrip("/")
            there = any(fnmatch(path, one) or fnmatch(one, path) for one in known)
            assert there or any(fnmatch(path, f"{one}/*") for one in made), f"{document.name}: {name}"
