"""A hundred files that are no sound photographs: each is named, or read as what it shows, and none stops the rest."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import small
from conftest import run_glaucoma
from trees import broken, jpeg, odd

from glaucoma.model.artifacts import save_model

SIDE = 64


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "one.keras"
    save_model(small.tiny_network(), path, {})
    return path


def test_each_of_a_hundred_hostile_files_is_named_and_none_is_fatal(network, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bad, strange = dict(broken()), dict(odd())
    assert len(bad) + len(strange) >= 100
    (tmp_path / "files").mkdir()
    for name, content in {**bad, **strange, "good.jpg": jpeg(1, size=SIDE)}.items():
        (tmp_path / "files" / name).write_bytes(content)
    assert run_glaucoma("predict", network, "files", "--format", "json") == 3
    said = capsys.readouterr()
    rows = json.loads(said.out)
    assert len(rows) == len(bad) + len(strange) + 1
    faults = {row["image"] for row in rows if row["fault"]}
    assert faults == {f"files/{name}" for name in bad}
    assert all((row["probability"] is None) is bool(row["fault"]) for row in rows)
    assert f"{len(bad)} files of {len(rows)} cannot be read" in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "proof").exists()
