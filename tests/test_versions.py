"""Python 3.10 to 3.13: what is locked can be had for each, and the code is held to the oldest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

VERSIONS = ("3.10", "3.11", "3.12", "3.13")
LOCKS = ("requirements.lock", "requirements-dev.lock")


def settings() -> dict[str, str]:
    """The environment in which uv uses the registry that pip is told to use here."""
    told = {
        "UV_DEFAULT_INDEX": os.environ.get("PIP_INDEX_URL", ""),
        "SSL_CERT_FILE": os.environ.get("PIP_CERT", ""),
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_PYTHON": sys.executable,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    return {**os.environ, **{name: value for name, value in told.items() if value}}


def resolved(version: str, *what: str) -> subprocess.CompletedProcess:
    command = ["uv", "pip", "compile", *what, "--python-version", version, "--no-header", "--no-annotate", "--quiet"]
    return subprocess.run(command, cwd=ROOT, env=settings(), capture_output=True, text=True, timeout=850)


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_the_lock_resolves_for_each_version_of_python_and_has_all_that_pyproject_toml_asks_for(version: str):
    if not shutil.which("uv", path=settings()["PATH"]):
        pytest.skip("uv is not installed")
    ran = resolved(version, "pyproject.toml", "--extra", "dev", "--constraint", LOCKS[0], "--constraint", LOCKS[1])
    if re.search(r"error sending request|failed to (fetch|connect)|dns error|network", ran.stderr, re.I):
        pytest.skip("needs the package registry, which cannot be reached")
    assert ran.returncode == 0, ran.stderr
    text = "".join((ROOT / lock).read_text() for lock in LOCKS)
    locked = dict(re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==([\w.+!-]+)", text, re.M))
    found = dict(re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==([\w.+!-]+)", ran.stdout, re.M))
    assert len(found) > 100
    assert {name for name, number in found.items() if locked.get(name) is None} == set()


def test_the_oldest_version_is_the_same_wherever_it_is_named():
    text = (ROOT / "pyproject.toml").read_text()
    assert 'requires-python = ">=3.10,<3.14"' in text
    assert 'target-version = "py310"' in text
    assert 'python_version = "3.10"' in text
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    assert f"python: [{', '.join(map(repr, VERSIONS))}]".replace("'", '"') in workflow
