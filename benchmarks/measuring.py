"""Shared code of the benchmarks: sizes, rows of the table, parts run in separate processes, the command line.

It does not import Keras: the measured memory of a part's process includes its parent's.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ROUNDING = 1e-7  # of a probability in float32
SEED = 0

Part = Callable[[Path, "Scale"], dict[str, Any]]


@dataclass(frozen=True)
class Scale:
    """The size of a benchmark. The default is the published protocol's; the obvious way uses `short_*` images of it.

    Attributes:
        images: in total; `train` and `test` are parts of them.
        short_train: at least two of the largest batches: Keras' F1 score makes the second step trace again.
        size: pixels per side.
        start_size: the same, for the first step.
        photograph: side of the JPEG files to decode, pixels.
        tiny: use a small network and the first trials of each grid, in one process, just to test the benchmark.
        full: train whole grids instead of extrapolating.
    """

    images: int = 1707
    train: int = 1379
    test: int = 174
    short_train: int = 384
    short_test: int = 64
    size: int = 224
    start_size: int = 96
    photograph: int = 512
    tiny: bool = False
    full: bool = False


QUICK = Scale(60, 40, 12, 40, 12, size=32, start_size=32, photograph=64, tiny=True)


@dataclass(frozen=True)
class Row:
    """A comparison.

    Attributes:
        what: the subject.
        unit: of both values: s, GB or images/s (higher is better).
        obvious: value of the obvious way; None without a comparison.
        ours: value of this project.
        how: measured or extrapolated, and from what.
        equal: how closely the results of both agree.
        ratio_aim: target for the ratio, if any.
        ours_aim: upper limit for our value, if any.
    """

    what: str
    unit: str
    obvious: float | None
    ours: float
    how: str
    equal: str = ""
    ratio_aim: float | None = None
    ours_aim: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times better ours is; None without a comparison."""
        if self.obvious is None:
            return None
        return self.ours / self.obvious if self.unit == "images/s" else self.obvious / self.ours

    @property
    def reached(self) -> bool | None:
        """Whether the aims are met; None if there are none."""
        if self.ratio_aim is None and self.ours_aim is None:
            return None
        return (self.ratio or 0) >= (self.ratio_aim or 0) and (self.ours_aim is None or self.ours <= self.ours_aim)

    def cells(self) -> dict[str, str]:
        """The row, formatted."""
        aims = [f"≥ {self.ratio_aim:g} ×"] if self.ratio_aim else []
        aims += [f"≤ {shown(self.ours_aim, self.unit)}"] if self.ours_aim else []
        verdict = {None: "", True: " ✓", False: " missed"}[self.reached]
        return {
            "": self.what,
            "obvious way": "" if self.obvious is None else shown(self.obvious, self.unit),
            "here": shown(self.ours, self.unit),
            "ratio": "" if self.ratio is None else f"{figures(self.ratio)} ×",
            "aim": ", ".join(aims) + verdict,
            "results": self.equal,
            "measured": self.how,
        }


def run_part(name: str, part: Part, folder: Path, scale: Scale, *, alone: bool = True) -> dict[str, Any]:
    """Run a part of a benchmark in a separate process, or, unless `alone`, in this one.

    Returns:
        The part's result, and `peak`: the process's peak resident memory in GB, including mapped files.
    """
    if not alone:
        return part(folder, scale) | {"peak": peak()}
    script = sys.modules[part.__module__].__file__
    command = [sys.executable, script, "--part", name, str(folder), json.dumps(asdict(scale))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak() -> float:
    """Peak resident memory of this process so far, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown."""
    cells = [row.cells() for row in rows]
    lines = ["| " + " | ".join(cells[0]) + " |", "|---" * len(cells[0]) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in cells)])


def shown(value: float, unit: str) -> str:
    """Format a value; seconds become minutes or hours."""
    if unit == "s" and value >= 7200:
        return f"{value / 3600:.1f} h"
    if unit == "s" and value >= 120:
        return f"{value / 60:.1f} min"
    return f"{figures(value)} {unit}"


def figures(value: float) -> str:
    """A number with at most three significant figures, without an exponent."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def equality(apart: Mapping[str, float]) -> str:
    """Describe how closely results agree, from the largest differences of a short trial's weights and probabilities."""
    if not any(apart.values()):
        return "weights and probabilities equal bit for bit"
    if not apart.get("weights", 1.0) and max(apart.values()) <= ROUNDING:
        return "weights equal bit for bit, probabilities but for their rounding"  # ours come from log-odds
    return "at most " + ", ".join(f"{value:.1e} apart in {name}" for name, value in apart.items())


def machine() -> dict[str, Any]:
    """The machine and versions of a measurement; `load` is the number of running processes at the start."""
    packages = ("tensorflow", "keras", "numpy", "pillow")
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def arguments(about: str, **kept: Any) -> tuple[argparse.ArgumentParser, Callable[[argparse.Namespace], Scale]]:
    """The options of every benchmark, and a function that turns them into a scale."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter, **kept)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, within seconds: shows that it works, no more")
    parser.add_argument("--full", action="store_true", help="train stage 2's grid whole (hours), nothing extrapolated")

    def scale(given: argparse.Namespace) -> Scale:
        chosen = QUICK if given.quick else Scale()
        return Scale(**{**asdict(chosen), "full": given.full})

    return parser, scale


def main(about: str, measure: Callable[[Path, Scale], list[Row]], **parts: Part) -> None:
    """The command line of a benchmark: prints its rows; `parts` run in separate processes."""
    if sys.argv[1:2] == ["--part"]:
        name, folder, scale = sys.argv[2:]
        print(json.dumps(parts[name](Path(folder), Scale(**json.loads(scale))) | {"peak": peak()}))
        return
    parser, scale = arguments(about)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(table(measured(measure, Path(folder), scale(given))))


def measured(measure: Callable[[Path, Scale], list[Row]], folder: Path, scale: Scale) -> list[Row]:
    """The rows of a benchmark, without aims if it is tiny."""
    rows = measure(folder, scale)
    return [replace(row, ratio_aim=None, ours_aim=None) for row in rows] if scale.tiny else rows
