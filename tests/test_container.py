"""The Dockerfile: parsed, compared with the checkout, its commands run in a clean folder: Docker itself is not here."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import venv
from fnmatch import fnmatch
from pathlib import Path

import pytest
from conftest import ROOT
from test_serve import models

from glaucoma import cli

__all__ = ["models"]  # a fixture

Stage = list[tuple[str, str]]


def stages() -> dict[str, Stage]:
    """The instructions of each stage, in order, by its name."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, Stage] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            image, name = re.fullmatch(r"(\S+) AS (\w+)", rest).groups()
            assert re.fullmatch(r"python:3\.1[0-3]-slim-\w+", image)
            found[name] = stage = []
        stage.append((word, rest.strip()))
    return found


def last(stage: Stage, word: str) -> str:
    return [rest for name, rest in stage if name == word][-1]


def locked(name: str) -> set[tuple[str, str]]:
    return set(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / name).read_text(), flags=re.MULTILINE))


@pytest.mark.parametrize("name", ["serve", "repro"])
def test_a_stage_ends_without_root_and_copies_what_there_is_and_is_let_in(name):
    stage = stages()[name]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last(stage, "USER"))
    assert max(i for i, (word, _) in enumerate(stage) if word == "USER") > max(
        i for i, (word, _) in enumerate(stage) if word in ("RUN", "COPY")
    )
    ignored = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert ignored[0] == "*"
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copied = {source for word, rest in stage if word == "COPY" for source in rest.split()[:-1]}
    assert copied <= let_in
    listed = subprocess.run(["git", "ls-files", *copied], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {file.split("/")[0] for file in listed.splitlines()} == copied
    assert not any(fnmatch(source, "*.git*") or source in ("data", "models") for source in let_in)


def test_all_that_is_installed_is_locked_and_the_server_has_no_tensorflow():
    for stage, lock in (("serve", "requirements-serve.lock"), ("repro", "requirements.lock")):
        installs = [rest for word, rest in stages()[stage] if word == "RUN" and "pip install" in rest]
        assert len(installs) == 2
        assert f"--require-hashes --requirement {lock}" in installs[0]
        assert "--no-deps --no-build-isolation" in installs[1]
    served, whole = locked("requirements-serve.lock"), locked("requirements.lock")
    assert not {"tensorflow", "keras", "dvc", "matplotlib", "pytest"} & {name for name, _ in served}
    shared = {name for name, _ in served} & {name for name, _ in whole}
    assert {one for one in served if one[0] in shared} <= whole


def test_what_a_container_runs_is_a_command_that_there_is():
    serve = stages()["serve"]
    program, *words = json.loads(last(serve, "ENTRYPOINT")) + json.loads(last(serve, "CMD"))
    given = cli.parser().parse_args(words)
    assert (program, given.host, given.port, given.model) == ("glaucoma", "0.0.0.0", 8000, "/model")
    assert last(serve, "EXPOSE") == "8000"
    shell, option, script = json.loads(last(stages()["repro"], "CMD"))
    assert (shell, option) == ("sh", "-c")
    for command in script.split(" && "):
        program, *words = shlex.split(command)
        if program == "glaucoma":
            cli.parser().parse_args(words)
        else:
            assert (program, words) == ("dvc", ["repro"])


def installed(stage: Stage, folder: Path, study: Path, packages: Path | None = None) -> tuple[Path, dict[str, str]]:
    """Run COPY and RUN of a stage in a clean folder, with a new environment for the image's Python.

    Args:
        stage: its instructions; apt-get is left out: this machine's git and make stand for what it installs.
        folder: to work in.
        study: what stands for /study.
        packages: of this Python, which stand for downloads; the stage's own `pip install` checks them against the lock.

    Returns:
        The environment, and the variables of what is run.
    """
    clean, environment = folder / "clean", folder / "environment"
    for made in (clean, folder / "tmp"):
        made.mkdir()
    venv.create(environment, with_pip=True)
    if packages:
        (own,) = (environment / "lib").glob("python*/site-packages")
        (own / "packages.pth").write_text(f"{packages}\n")
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GLAUCOMA"))}
    variables |= {"PATH": f"{environment / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder / "tmp")}
    for word, rest in stage:
        if word == "ENV":
            told = dict(re.findall(r"(\w+)=(\S+)", rest))
            variables |= {key: re.sub("^/study", str(study), one) for key, one in told.items()}
            variables |= {
                key: re.sub("^/tmp", str(folder / "tmp"), one) for key, one in told.items() if one[:4] == "/tmp"
            }
        if word == "COPY":
            for source in rest.split()[:-1]:
                whole = (ROOT / source).is_dir()
                (shutil.copytree if whole else shutil.copy2)(ROOT / source, clean / source)
        if word == "RUN" and "apt-get" not in rest:
            done = subprocess.run(["sh", "-c", rest], cwd=clean, env=variables, capture_output=True, text=True)
            if "No matching distribution" in done.stderr or "Could not fetch" in done.stderr:
                pytest.skip(f"the package registry is not reached: {done.stderr[-300:]}")
            assert done.returncode == 0, done.stderr
            assert not packages or set(re.findall("Collecting ([\\w.-]+)", done.stdout)) <= {
                "setuptools"
            }  # venv's is old
    shutil.rmtree(clean)  # what is installed has to do
    return environment, variables


@pytest.mark.slow
def test_repro_s_commands_bring_a_clone_up_to_date_from_a_clean_folder(project, tmp_path):
    """Its own CMD, in a clone that was run before; a later stage is due, so that Python, Keras and DVC all work.

    This Python stands for the image's, its packages, `dvc` among them, for downloads, and its user for 10001.
    """
    stage = stages()["repro"]
    assert {"apt-get", "git", "make"} <= {*" ".join(rest for word, rest in stage if word == "RUN").split()}
    packages = Path(sysconfig.get_path("purelib"))
    environment, variables = installed(stage, tmp_path, project.root, packages)
    project.set({"thresholds.sensitivity": 0.9})
    program, *words = json.loads(last(stage, "CMD"))
    project.environment = {**project.environment, **variables}
    said = project.run(program, *words).stdout
    assert "params.yaml is valid" in said
    assert re.findall("Running stage '([^']+)'", said)[0] == "summary"
    assert "Next, look at" in said
    where = project.run("python", "-c", "import glaucoma, sys; print(glaucoma.__file__, sys.prefix)").stdout.split()
    assert where == [str(project / "src/glaucoma/__init__.py"), str(environment)]


@pytest.mark.slow
def test_serve_s_commands_make_a_working_server_in_a_clean_folder(models, tmp_path):
    stage, given = stages()["serve"], tmp_path / "model"
    environment, variables = installed(stage, tmp_path, tmp_path)
    given.mkdir()
    for file in models.glob("fold1.onnx*"):
        shutil.copy2(file, given)
    command = [*json.loads(last(stage, "ENTRYPOINT")), str(given)]
    command[command.index("8000")] = "0"
    with subprocess.Popen(command, cwd=tmp_path, env=variables, stdout=subprocess.PIPE, text=True) as process:
        try:
            address = next(line for line in process.stdout if line.startswith("http"))
            port = re.match(r"http://0\.0\.0\.0:(\d+)/#token=", address)[1]
            program, *words = json.loads(last(stage, "HEALTHCHECK").partition("CMD ")[2])
            words = [word.replace(":8000", f":{port}") for word in words]
            subprocess.run([environment / "bin" / program, *words], check=True)
        finally:
            process.terminate()
    size = sum(file.stat().st_size for file in (environment / "lib").rglob("*") if file.is_file())
    print(f"{size / 1e6:.0f} MB of packages on Python {sys.version_info.major}.{sys.version_info.minor}")
    assert size < 700e6
