"""What all benchmarks share: sizes, rows of the table, parts that run in processes of their own, the command line.

Nothing here imports Keras: a process that a part runs in counts its parent's memory as its own.
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
    """How much is measured. The default is the published protocol's size; the obvious way runs `short_*` images of it.

    Attributes:
        images: in all; `train` and `test` are parts of them.
        short_train: two of the largest batches at least: Keras' F1 score has a second step traced anew.
        size: pixels a side.
        start_size: the same, for the first step.
        photograph: pixels a side of the JPEG files that are decoded.
        tiny: take a small network and the first trials of each grid, in one process: shows that it works, no more.
        full: train a grid whole where it would be extrapolated.
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
    """One comparison.

    Attributes:
        what: is compared.
        unit: of both values: s, GB or images/s; of images/s more is better.
        obvious: what the plain way takes; None where nothing is compared.
        ours: what this project takes.
        how: measured or extrapolated, and from what.
        equal: how equal the results of both are.
        ratio_aim: smallest ratio that counts as good, where there is an aim.
        ours_aim: largest value of ours that does, where there is one.
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
        """How many times better ours is; None where nothing is compared."""
        if self.obvious is None:
            return None
        return self.ours / self.obvious if self.unit == "images/s" else self.obvious / self.ours

    @property
    def reached(self) -> bool | None:
        """Whether the aims are met; None where there is none."""
        if self.ratio_aim is None and self.ours_aim is None:
            return None
        return (self.ratio or 0) >= (self.ratio_aim or 0) and (self.ours_aim is None or self.ours <= self.ours_aim)

    def cells(self) -> dict[str, str]:
        """The row as people read it."""
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
    """Run a part of a benchmark in a process of its own, or, unless `alone`, in this one.

    Returns:
        What the part returned, and `peak`: the process' largest resident memory in GB, mapped files included.
    """
    if not alone:
        return part(folder, scale) | {"peak": peak()}
    script = sys.modules[part.__module__].__file__
    command = [sys.executable, script, "--part", name, str(folder), json.dumps(asdict(scale))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak() -> float:
    """Largest resident memory of this process so far, in GB."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown."""
    cells = [row.cells() for row in rows]
    lines = ["| " + " | ".join(cells[0]) + " |", "|---" * len(cells[0]) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row.values()) + " |" for row in cells)])


def shown(value: float, unit: str) -> str:
    """A value as people read it: seconds turn into minutes and hours."""
    if unit == "s" and value >= 7200:
        return f"{value / 3600:.1f} h"
    if unit == "s" and value >= 120:
        return f"{value / 60:.1f} min"
    return f"{figures(value)} {unit}"


def figures(value: float) -> str:
    """A number with three significant figures at most, never in powers of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def equality(apart: Mapping[str, float]) -> str:
    """What is equal, from the largest differences of a short trial's weights and probabilities."""
    if not any(apart.values()):
        return "weights and probabilities equal bit for bit"
    if not apart.get("weights", 1.0) and max(apart.values()) <= ROUNDING:
        return "weights equal bit for bit, probabilities but for their rounding"  # here they come from log-odds
    return "at most " + ", ".join(f"{value:.1e} apart in {name}" for name, value in apart.items())


def machine() -> dict[str, Any]:
    """Where and with what it was measured; `load` is how many processes wanted a core as it began."""
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
    """The options that every benchmark has, and what turns them into a scale."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter, **kept)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, within seconds: shows that it works, no more")
    parser.add_argument("--full", action="store_true", help="train stage 2's grid whole (hours), nothing extrapolated")

    def scale(given: argparse.Namespace) -> Scale:
        chosen = QUICK if given.quick else Scale()
        return Scale(**{**asdict(chosen), "full": given.full})

    return parser, scale


def main(about: str, measure: Callable[[Path, Scale], list[Row]], **parts: Part) -> None:
    """The command line of one benchmark: prints its rows; `parts` are what it runs in processes of their own."""
    if sys.argv[1:2] == ["--part"]:
        name, folder, scale = sys.argv[2:]
        print(json.dumps(parts[name](Path(folder), Scale(**json.loads(scale))) | {"peak": peak()}))
        return
    parser, scale = arguments(about)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(table(measured(measure, Path(folder), scale(given))))


def measured(measure: Callable[[Path, Scale], list[Row]], folder: Path, scale: Scale) -> list[Row]:
    """The rows of a benchmark; tiny ones have no aims."""
    rows = measure(folder, scale)
    return [replace(row, ratio_aim=None, ours_aim=None) for row in rows] if scale.tiny else rows
