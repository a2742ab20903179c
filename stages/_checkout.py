"""Makes a stage use the library of the checkout it lies in, and its root as working folder.

DVC runs queued experiments in temporary copies of the project, whose code may differ from the installed one.
"""

import gc
import importlib.util
import os
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))
os.chdir(ROOT)
NEEDED = ("numpy", "pandas", "pydantic", "PIL")
if not all(map(importlib.util.find_spec, NEEDED)):  # cron, an IDE or `.venv/bin/dvc repro` start another Python
    there = "activate it: `. .venv/bin/activate`" if (ROOT / ".venv").is_dir() else "make it: `make setup`"
    sys.stderr.write(
        f"error: {sys.executable} is not the Python of this project's environment: it lacks its packages\n"
        f"  → {there}; or put .venv/bin first on the PATH of what starts DVC\n"
    )
    sys.exit(1)
gc.disable()  # until glaucoma.base.stage: collecting while libraries load is a fifth of the wait


def _stop(number: int, frame: object) -> None:
    """Ctrl-C while TensorFlow is imported, for seconds in which nothing is written and some of its code swallows it."""
    os.write(_STDERR, b"error: stopped by Ctrl-C before the work began\n")
    os._exit(130)


_STDERR = os.dup(2)  # what native code prints while it loads is kept from the other one
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, _stop)  # until glaucoma.base.stage takes over
