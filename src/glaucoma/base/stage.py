"""Run a stage script as a command: flags, params, readable errors, exit codes."""

from __future__ import annotations

import argparse
import codecs
import contextlib
import errno
import gc
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from glaucoma.base import interrupts, paths
from glaucoma.base.errors import GlaucomaError, shown
from glaucoma.base.params import load_params

__all__ = ["command", "guarded", "refused"]

CANNOT_WRITE, INTERRUPTED, PIPE_CLOSED = 7, 130, 141  # the last two as shells count signals
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
REFUSED = (  # by the file system, of a place that a user named or may not write
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOENT),
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENXIO, errno.ETXTBSY),
)
SPELT = {"→": "->", "±": "+-", "–": "-", "…": "...", "×": "x", "≤": "<=", "≥": ">=", "−": "-", "·": "*", "’": "'"}
COLLECT = (100_000, 20, 20)  # Python's 700 would look through a network that is being traced a hundred times


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
        0, the error's own code, 7 where a place cannot be written or the disk is full, 130 on Ctrl-C, 141 where the
        reader of the output has left. A whole number that `work` returns, or exits with, is passed on.
    """
    _any_encoding()
    try:
        try:
            code = work()
        except SystemExit as left:  # argparse's
            code = left.code
        _flush()
    except GlaucomaError as error:
        return _complain(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _complain("stopped by Ctrl-C\n  → run it again: finished trials are kept", INTERRUPTED)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            _drop_broken()
            return PIPE_CLOSED
        if (why := refused(error)) is None:
            raise
        return _complain("\n  → ".join(why), CANNOT_WRITE)
    return code if isinstance(code, int) else 0


def refused(error: OSError) -> tuple[str, str] | None:
    """What the file system refused, and the remedy; None if the error has another cause."""
    if error.errno not in FULL and (error.errno not in REFUSED or not error.filename):
        return None
    where = shown(os.fsdecode(error.filename)) if error.filename else ""
    if error.errno in FULL:
        remedy = "free some space (`dvc gc --workspace` drops old results, .state/ is safe to delete), run again"
        return f"the disk is full{where and f' writing {where}'}: no half-written file was left", remedy
    folder = os.path.dirname(os.path.abspath(error.filename))  # noqa: PTH100, PTH120 - a temporary name says nothing
    if os.path.basename(where).startswith("."):  # noqa: PTH119
        where = shown(folder)
    remedy = "name another place, or make this one writable for this user"
    return f"{where} cannot be opened or written: {error.strerror}", remedy


def _any_encoding() -> None:
    """Let what a terminal or log of another encoding lacks be spelt in ASCII, rather than end the command."""
    codecs.register_error("spelt", _spelt)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="spelt")


def _spelt(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    if all("\udc80" <= c <= "\udcff" for c in text):  # a stray byte of a file's name, as it is
        return bytes(ord(c) - 0xDC00 for c in text), error.end
    return "".join(SPELT.get(c) or c.encode("ascii", "backslashreplace").decode() for c in text), error.end


def _flush() -> None:
    if sys.stdout is not None:  # closed by the shell: `>&-`
        sys.stdout.flush()


def _drop_broken() -> None:
    """Let go of streams that cannot be written, such as a pipe whose reader has left: Python flushes them at exit."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError:
            with contextlib.suppress(OSError, ValueError):  # not of a descriptor
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _complain(message: str, code: int) -> int:
    _drop_broken()
    with contextlib.suppress(BrokenPipeError):
        print(f"error: {message}", file=sys.stderr)
        if os.environ.get("DVC_STAGE"):
            print("  → the last good results: `dvc checkout`, and `git checkout metrics`", file=sys.stderr)
    _drop_broken()
    return code
