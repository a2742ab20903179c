"""Run a stage script as a command: flags, params, readable errors, exit codes."""

from __future__ import annotations

import argparse
import errno
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from glaucoma.base import interrupts, paths
from glaucoma.base.errors import GlaucomaError
from glaucoma.base.params import load_params

__all__ = ["command", "guarded"]

DISK_FULL, INTERRUPTED = 7, 130
COLLECT = (100_000, 20, 20)  # with Python's 700, tracing a network would trigger a hundred garbage collections


def command(work: Callable[..., None], about: str, **flags: dict[str, Any]) -> None:
    """Parse the command line, load params.yaml, call `work(params, **flags)` and exit with its code.

    Args:
        work: the stage's function; takes the params and one keyword argument per flag.
        about: the stage's description for `--help`.
        flags: argparse options by name, e.g. `fold={"type": int, "required": True}`.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--params", default=str(paths.PARAMS), metavar="FILE", help="parameters (default: %(default)s)")
    for name, options in flags.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **options)
    given = vars(parser.parse_args())
    params_file = given.pop("params")
    gc.freeze()  # the libraries' objects live until the end
    gc.set_threshold(*COLLECT)
    gc.enable()
    interrupts.install()
    code = guarded(lambda: work(load_params(params_file), **given))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # results are on disk; ignore further interrupts while exiting
    sys.exit(code)


def guarded(work: Callable[[], Any]) -> int:
    """Call `work`; print an expected error as a sentence and return its exit code.

    Returns:
        0, the error's own code, 7 for a full disk, 130 for Ctrl-C. An integer returned by `work` is passed on.
    """
    try:
        code = work()
    except GlaucomaError as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("stopped by Ctrl-C\n  → run it again: finished trials are kept", INTERRUPTED)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        where = f" writing {error.filename}" if error.filename else ""
        remedy = "free some space (`dvc gc --workspace` drops old results, .state/ is safe to delete), run again"
        return _complain(f"the disk is full{where}: no half-written file was left\n  → {remedy}", DISK_FULL)
    return code if isinstance(code, int) else 0


def _complain(message: str, code: int) -> int:
    sys.stdout.flush()
    print(f"error: {message}", file=sys.stderr)
    if os.environ.get("DVC_STAGE"):
        print("  → the last good results: `dvc checkout`, and `git checkout metrics`", file=sys.stderr)
    return code
