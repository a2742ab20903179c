"""`dvc repro` up to the pixels, on small JPEGs: what changed runs, and nothing else."""

from conftest import Project
from test_pipeline import ran

PREPARED = ["data/dvc.yaml:sample", "index", "audit", "pixels"]
OUTPUTS = ("data/index.csv", "data/pixels.npy", "metrics/audit.json")


def test_what_changed_runs_and_results_come_back_byte_for_byte(bare: Project):
    assert sorted(ran(bare.dvc("repro", "pixels").stdout)) == sorted(PREPARED)
    results = {name: (bare / name).read_bytes() for name in OUTPUTS}
    assert ran(bare.dvc("repro", "pixels").stdout) == []

    bare.set({"audit.waive": ["near_split_leak"]})  # the audit comes to the same results, on which the pixels depend
    assert ran(bare.dvc("repro", "pixels").stdout) == ["audit"]

    (bare / "data/pixels.npy").unlink()
    bare.dvc("checkout", "data/pixels.npy")
    assert {name: (bare / name).read_bytes() for name in OUTPUTS} == results
