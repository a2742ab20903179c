"""Benchmarks run and compare equal results; their speeds mean something only at full size, on a quiet machine."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from conftest import ROOT

from glaucoma.base.files import write_json
from glaucoma.base.params import Trial

FOLDER = ROOT / "benchmarks"
sys.path.append(str(FOLDER))  # the scripts' folder is not a package

from clock import steady  # noqa: E402
from measuring import Row, Scale  # noqa: E402
from obvious import whole_grid  # noqa: E402
from run import merged  # noqa: E402

searches = pytest.mark.slow  # whole searches, twice each


def python(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def quick(tmp_path_factory) -> Path:
    """The output folder of a quick run of all benchmarks."""
    folder = tmp_path_factory.mktemp("benchmarks")
    python(str(FOLDER / "run.py"), "--quick", "--output", str(folder))
    return folder


def rows(folder: Path) -> dict[str, dict]:
    found = json.loads((folder / "results.json").read_bytes())["rows"]
    return {title(row["what"]) + " " + row["unit"]: row for row in found}


def title(what: str) -> str:
    return what.partition(",")[0] + (" by two" if what.endswith(", two workers") else "")


@searches
def test_both_ways_of_a_search_end_with_the_same_weights_and_probabilities(quick):
    for stage in ("stage 1", "stage 2"):
        assert rows(quick)[f"{stage} s"]["equal"].startswith("weights equal bit for bit, probabilities")
    assert rows(quick)["stage 2 by two s"]["equal"] == "weights equal one process' bit for bit"


@searches
def test_once_and_ten_times_decoded_photographs_have_equal_pixels(quick):
    assert rows(quick)["decoding s"]["equal"] == "equal pixels"


@searches
def test_every_planted_fault_is_found_and_no_false_duplicate(quick):
    assert rows(quick)["planted faults s"]["equal"] == "14 of 14 planted faults found, 0 false duplicates"


@searches
def test_every_figure_is_positive_and_its_ratio_follows_from_it(quick):
    found = rows(quick)
    assert len(found) == 21  # subjects with their units
    for row in found.values():
        assert row["ours"] > 0
        if row["obvious"] is not None:
            more = row["unit"] == "images/s"
            assert row["ratio"] == pytest.approx((row["ours"] / row["obvious"]) ** (1 if more else -1))


@searches
def test_the_table_has_a_line_for_each_row_and_says_where_it_was_measured(quick):
    text = (quick / "results.md").read_text(encoding="utf-8")
    found = json.loads((quick / "results.json").read_bytes())
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(found["rows"])
    assert f"{found['machine']['cores']} cores" in text
    assert f"tensorflow {found['machine']['versions']['tensorflow']}" in text


@searches
def test_a_server_under_load_answers_with_nothing_but_200_and_503():
    table = python(str(FOLDER / "serve.py"), "--quick")
    assert "| nothing but 200 and 503 |" in table
    assert len(table.splitlines()) == 2 + 3 + 2


def test_a_grid_is_extrapolated_trial_by_trial_and_an_aim_counts_only_when_all_of_it_is_met():
    costs = {"16": {"setup": 5, "train": 0.01, "test": 0.001}, "32": {"setup": 7, "train": 0.02, "test": 0.002}}
    chosen = [Trial(lr=0.1, optimizer=o, batch_size=b, epochs=e) for o, b, e in (("adam", 16, 10), ("sgd", 32, 50))]
    assert whole_grid(costs, chosen, Scale(train=100, test=10)) == 5 + 10 * 1.01 + 7 + 50 * 2.02
    reached = [Row("", "s", 1000.0, 10.0, "", ratio_aim=aim).reached for aim in (None, 100, 101)]
    assert reached == [None, True, False]
    assert [Row("", "s", 1000.0, 10.0, "", ratio_aim=100, ours_aim=aim).reached for aim in (9, 10)] == [False, True]


def test_neither_a_traced_nor_a_disturbed_epoch_counts():
    pairs = ((1, 1), (9, 2), (3, 8), (4, 5))
    assert steady([{"train": train, "rest": rest} for train, rest in pairs]) == {"train": 3, "rest": 2}


@searches
def test_a_fold_on_this_device_is_timed_in_each_precision(tmp_path):
    for precision in ("float32", "bfloat16", "float16"):
        file = tmp_path / f"{precision}.json"
        short = ("--quick", "--epochs", "1", "--batch", "16")
        shown = python(str(FOLDER / "accelerator.py"), *short, "--precision", precision, "--output", str(file))
        found = json.loads(file.read_bytes())
        (row,) = found["rows"]
        assert row["computes_in"] == precision
        assert row["finite"]
        assert 0 < row["device_share"] <= 1
        assert row["folds"] == pytest.approx(10 * (row["start"] + 50 * row["epoch"]))
        assert found["about"]["device"] in shown


def test_a_benchmark_run_alone_replaces_its_rows_and_no_others(tmp_path):
    here = {"processor": "a", "cores": 2, "versions": {}, "seconds": 9}
    old = [Row("one", "s", 4.0, 2.0, ""), Row("one", "GB", None, 1.0, ""), Row("two", "s", None, 3.0, "")]
    new = [Row("one", "s", 4.0, 1.0, ""), Row("three", "s", None, 5.0, "")]
    file = tmp_path / "results.json"
    assert merged(file, here, new, ["x"]) == (here, new)
    write_json(file, {"machine": here, "rows": [asdict(row) for row in old]})
    assert merged(file, here, new, ["x"]) == (here | {"anew": ["x"]}, [new[0], *old[1:], new[1]])
    elsewhere = here | {"processor": "b"}
    assert merged(file, elsewhere, new, ["x"]) == (elsewhere, new)


@searches
def test_coverage_tells_of_every_printed_interval(tmp_path):
    python(str(FOLDER / "coverage.py"), "--quick", "--jobs", "1", "--output", str(tmp_path))
    text = (tmp_path / "coverage.md").read_text()
    for row in ("score | auroc | newcombe | held out", "score | sensitivity | wilson", "difference | brier | t"):
        assert f"| {row} |" in text
    assert not [line for line in text.splitlines() if line.startswith("|") and ("ece" in line or "partial" in line)]
