"""The structure of the code: imports point down, heavy imports are local, dvc.yaml lists the code of its stages."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from glaucoma.base import paths

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src/glaucoma"
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "stages").glob("*.py"))
# Top to bottom: a folder imports from itself and from later ones; `synthetic` stands on `base`
LAYERS = (
    *("cli", "serve", "report", "predict", "train", "evaluate", "model", "audit"),
    *("dataset", "photos", "synthetic", "base"),
)
PIPELINES = ("dvc.yaml", "data/dvc.yaml", "extra/dvc.yaml")
STAGE_USES = {"params", "paths", "errors", "interrupts"}  # `stage` runs any function and imports none of them


def name(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def layer(module: str) -> int:
    """The layer of one of our modules, by its dotted name; the package itself is the lowest."""
    parts = module.split(".")
    return LAYERS.index(parts[1]) if len(parts) > 1 and parts[1] in LAYERS else len(LAYERS)


def imports(file: Path) -> set[str]:
    """Dotted names of everything that a file imports, at any level, with submodules of packages in full."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name(file)}: relative import"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            ours = {module for module in submodules if is_module(module)}
            found |= ours or {node.module}
    return found


def is_module(dotted: str) -> bool:
    base = ROOT.joinpath("src", *dotted.split("."))
    return base.is_dir() or base.with_suffix(".py").is_file()


def dotted(file: Path) -> str:
    return ".".join(file.relative_to(ROOT / "src").with_suffix("").parts)


def test_every_module_stands_in_a_folder_and_no_two_share_a_name():
    inside = [file for file in MODULES if file.name != "__init__.py"]
    assert {file.relative_to(PACKAGE).parts[0] for file in inside} == set(LAYERS)
    stems = [file.stem for file in inside]
    assert sorted(stems) == sorted(set(stems))


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_imports_point_down(file: Path):
    ours = {module for module in imports(file) if module.split(".")[0] == "glaucoma"}
    upward = {module for module in ours if layer(module) < layer(dotted(file))}
    assert not upward
    if dotted(file) == "glaucoma.base.stage":
        assert {module.split(".")[-1] for module in ours} <= STAGE_USES


def test_one_module_alone_imports_tensorflow_and_one_layer_alone_keras():
    direct = {name(file) for file in MODULES if any(module.split(".")[0] == "tensorflow" for module in imports(file))}
    assert len(direct) <= 1
    keras = {name(file) for file in MODULES if any(module.split(".")[0] == "keras" for module in imports(file))}
    assert keras | direct <= {"src/glaucoma/model/runtime.py", "src/glaucoma/model/keras_internals.py"}


def test_one_module_alone_uses_private_names_of_keras():
    from glaucoma.model.runtime import keras

    given, layer = keras.Input((2,)), keras.layers.BatchNormalization()
    tensor = layer(given)
    model, optimizer = keras.Model(given, tensor), keras.optimizers.Adam()
    kinds = (layer, tensor, model, optimizer, keras.utils.PyDataset(), keras.Variable(0.0), layer._inbound_nodes[0])
    private = {name for each in kinds for name in dir(each) if name.startswith("_") and not name.startswith("__")}
    assert {"_keras_history", "_inbound_nodes", "_flatten_layers", "_reduction_axes", "_backend_update_step"} <= private
    found = set()
    for file in MODULES:
        used = {node.attr for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Attribute)}
        if "glaucoma.model.runtime" in imports(file) and used & private:
            found.add(file.stem)
        if any(module.startswith("keras.src") for module in imports(file)):
            found.add(file.stem)
    assert found == {"keras_internals"}


def test_what_needs_no_network_loads_without_tensorflow_and_the_intake_without_matplotlib():
    light = {part: [] for part in reversed(LAYERS) if part not in ("model", "train", "predict")}
    for module in map(dotted, MODULES):
        light.get(module.split(".")[1], []).append(module.removesuffix(".__init__"))
    code = "import sys"
    for modules in light.values():
        code += f"\nimport {', '.join(modules)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    for part, line in zip(light, loaded.splitlines(), strict=True):
        assert not {"tensorflow", "keras", "torch", "jax"} & set(line.split()), part
    for line in loaded.splitlines()[:5]:
        assert "matplotlib" not in line.split()


@pytest.mark.parametrize("file", [file for file in SCRIPTS if file.stem != "_checkout"], ids=name)
def test_a_stage_script_is_short_and_imports_no_other(file: Path):
    assert len(file.read_text().splitlines()) < 60
    assert not {module.split(".")[0] for module in imports(file)} & {script.stem for script in SCRIPTS} - {"_checkout"}


@pytest.mark.parametrize("file", [file for file in MODULES if file.stem != "__init__"], ids=name)
def test_a_module_says_what_it_gives(file: Path):
    tree = ast.parse(file.read_text())
    assert ast.get_docstring(tree)
    if file.name == "paths.py":  # all of its names are public
        return
    (given,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ]
    defined = {name for node in ast.walk(tree) for name in _names(node)}
    assert given
    assert set(given) <= defined


def _names(node: ast.AST) -> set[str]:
    """The names that a statement defines or imports."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    names = [target.elts if isinstance(target, ast.Tuple) else [target] for target in targets]
    return {name.id for group in names for name in group if isinstance(name, ast.Name)}


def used(script: Path) -> set[Path]:
    """Every one of our modules that a script imports, directly or indirectly."""
    found: set[Path] = set()
    waiting = [script]
    while waiting:
        for module in imports(waiting.pop()):
            file = ROOT.joinpath("src", *module.split(".")).with_suffix(".py")
            if file.is_file() and file not in found:
                found.add(file)
                waiting.append(file)
    return found


def stages() -> dict[str, dict]:
    yaml = YAML(typ="safe", pure=True)
    return {name: stage for file in PIPELINES for name, stage in yaml.load(ROOT / file)["stages"].items()}


@pytest.mark.parametrize("stage", stages())
def test_dvc_runs_a_stage_again_when_a_folder_that_it_uses_changes(stage: str):
    entry = stages()[stage]
    script = entry["cmd"].split()[1]
    folders = {f"src/glaucoma/{file.relative_to(PACKAGE).parts[0]}" for file in used(ROOT / script)}
    assert {dep for dep in entry["deps"] if dep.startswith(("src/", "stages/"))} == {script, *folders}
    assert 1 <= len(folders) <= 5


def test_one_stage_alone_depends_on_what_draws():
    assert [name for name, stage in stages().items() if "src/glaucoma/report" in stage["deps"]] == ["report"]


def test_what_trains_imports_nothing_that_draws():
    for name in ("stage1", "stage2", "stage3", "crossval", "controls", "free"):
        script = ROOT / stages()[name]["cmd"].split()[1]
        assert not any("matplotlib" in module for file in used(script) for module in imports(file))


def test_paths_and_dvc_name_the_same_files():
    yaml = YAML(typ="safe", pure=True)
    outputs: set[str] = set()
    for file in ("dvc.yaml", "data/dvc.yaml", "extra/dvc.yaml"):
        for stage in yaml.load(ROOT / file)["stages"].values():
            for kind in ("outs", "metrics", "plots"):
                outputs |= {next(iter(out)) if isinstance(out, dict) else out for out in stage.get(kind, [])}
    single = [
        paths.SAMPLE,
        paths.INDEX,
        paths.FOLDS,
        paths.LEFT_OUT,
        paths.PIXELS,
        paths.PIXELS_TABLE,
        paths.BACKBONE.parent,
        paths.SUMMARY_METRICS,
    ]
    single += [paths.CROPS, paths.FIGURES, paths.PAGE, paths.MODEL_CARD, paths.CHECKLIST]
    known = {
        path.as_posix() for path in [*single, paths.EXPLORE, paths.AUDIT, paths.EXPLAIN, paths.CONTROLS, paths.SUMMARY]
    }
    for stage in ("stage1", "stage2", "stage3", "${item.model}"):
        known |= {path.as_posix() for path in paths.search_files(stage).values()}
    known |= {path.as_posix().replace("fold7", "fold${item.fold}") for path in paths.fold_files(7).values()}
    assert known <= outputs

    # The other files are in the folders of paths, beside those
    folders = {paths.METRICS, paths.TIMING, paths.MODELS, paths.MODELS / "crossval"}
    assert {Path(out).parent for out in outputs - known} <= folders


def test_every_output_is_either_tracked_by_git_or_ignored_by_it():
    yaml, cached = YAML(typ="safe", pure=True), {}
    for entry in yaml.load(ROOT / "dvc.yaml")["stages"].values():
        for kind in ("outs", "metrics", "plots"):
            for out in entry.get(kind, []):
                path = next(iter(out)) if isinstance(out, dict) else out
                cached[path.replace("${item.fold}", "0")] = not (
                    isinstance(out, dict) and out[path].get("cache") is False
                )
    asked = subprocess.run(
        ["git", "check-ignore", "--no-index", *cached], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert set(asked.stdout.split()) == {path for path, kept in cached.items() if kept}
