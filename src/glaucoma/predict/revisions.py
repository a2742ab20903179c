"""Models of another Git revision: a commit, branch, tag or DVC experiment, fetched through DVC without a checkout."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from glaucoma.base import paths
from glaucoma.base.errors import DataError, GlaucomaError, ParamsError, WeightsError, listed, one_line, shown
from glaucoma.base.files import atomic_path, check_place
from glaucoma.base.progress import say
from glaucoma.predict.homes import VALID, home_of

__all__ = ["at_revision", "fetch_models", "natural", "parse", "read_at"]

FETCHED = paths.STATE / "revisions"  # a folder for each commit
REMEDY = "run `dvc pull --all-commits` where a remote holds it; or check the revision out and run `dvc repro`"


def parse(name: str) -> tuple[str, str] | None:
    """A revision and a model's name, of `REVISION:NAME`; None of anything else."""
    found = re.fullmatch(r"([^:\\]{2,}):([^:\\]+)", name)  # not C:\model
    return found and (found[1], found[2])


def fetch_models(revision: str, name: str) -> list[Path]:
    """Bring the model or the folder of models that `name` stood for at `revision`, with sidecars, below .state/.

    Thresholds and calibration that were fitted for them come along. What DVC's cache or remote holds is copied out of
    it; nothing of the working tree is touched. A revision that is fetched once is there without DVC's help.

    Args:
        revision: whatever Git or DVC resolves: a commit, branch, tag, or an experiment's name.
        name: in models/ of then, such as `stage3`, `crossval` or `crossval/fold3`.

    Returns:
        The `.keras` files, fold 10 after fold 9.

    Raises:
        WeightsError: no project under Git and DVC, no such revision, no such model in it, or one that neither DVC's
            cache nor its remote holds.
    """
    with at_revision(revision, WeightsError) as (dvc, commit):
        return _bring(dvc, name, revision, FETCHED / commit[:12])


def read_at(revision: str, path: Path) -> str:
    """The text of a file of the project, tracked by Git or DVC, as it was at a revision.

    Raises:
        ParamsError: no such revision.
        DataError: the revision has no such file, or neither DVC's cache nor its remote holds it.
    """
    with at_revision(revision, ParamsError) as (dvc, _):
        try:
            if _listed(dvc, path.as_posix()):
                return dvc.read_text(f"/{path.as_posix()}", encoding="utf-8")
        except Exception as error:  # of any remote's client; of the cache: not found
            what = f"{path} of {shown(revision)} is neither in DVC's cache nor could be fetched: {one_line(error)}"
            raise DataError(what, REMEDY) from None
    raise DataError(f"revision {shown(revision)} has no {path}", "run `dvc repro` at that revision, and commit")


@contextmanager
def at_revision(revision: str, refusal: type[GlaucomaError]) -> Iterator[tuple[Any, str]]:
    """DVC's file system of this project at a revision, `/` being the project's folder, and the commit.

    The project may be all of a Git repository or a folder of it.

    Raises:
        GlaucomaError: of type `refusal`: no project under Git and DVC, or no such revision of it.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.fs.dvc import DVCFileSystem
    from dvc.repo import Repo
    from dvc.repo.brancher import switch
    from dvc.scm import NoSCM, RevError, SCMError, resolve_rev

    try:
        here = Repo()
        scm = here.scm
    except NotDvcRepoError:
        raise refusal("this folder is no DVC project, so it has no revisions", "go to the project") from None
    except SCMError as error:  # no repository around, or one that belongs to another user
        raise refusal(f"Git refuses this folder: {one_line(error)}", "see what `git status` says") from None
    except DvcException as error:
        raise refusal(f"DVC cannot open this project: {one_line(error)}", "see `dvc status`") from None
    with here:
        try:
            if isinstance(scm, NoSCM):
                raise refusal("this project is not under Git, which knows revisions", "commit it: `git init`")
            commit = resolve_rev(scm, revision)
        except RevError:
            remedy = "see `git log --oneline`, `git tag` and `dvc exp show`; `git fetch` brings those of others"
            name = shown(revision)
            what = f"there is no revision {name} here: {name} is not a Git revision or experiment"
            raise refusal(what, remedy) from None
        try:
            with switch(here, commit):
                yield DVCFileSystem(repo=here), commit
        except NotDvcRepoError:
            what = f"revision {shown(revision)} has no project in this folder"
            raise refusal(what, "name a later one, see `git log --oneline -- dvc.yaml`") from None
        except DvcException as error:  # a dvc.yaml of then that today's DVC cannot read
            raise refusal(f"DVC cannot read revision {shown(revision)}: {one_line(error)}", REMEDY) from None


def _listed(dvc: Any, path: str) -> bool:
    """Whether a revision has a file of this name.

    Raises:
        DataIndexDirError: DVC tracks its folder, whose list is not at hand; `exists` would be false.
    """
    file = PurePosixPath("/", path)
    folder = file.parent.as_posix()
    return dvc.exists(folder) and file.as_posix() in dvc.ls(folder, detail=False)


def _bring(dvc: Any, name: str, revision: str, folder: Path) -> list[Path]:
    def absent(path: str, error: Exception) -> WeightsError:  # of any remote's client; of the cache: not found
        what = f"{path} of revision {shown(revision)} is neither in DVC's cache nor could be fetched"
        return WeightsError(f"{what}: {one_line(error)}", REMEDY)

    stem = f"{paths.MODELS / name}".removesuffix(".keras")
    try:
        if _listed(dvc, f"{stem}.keras"):
            wanted = [f"{stem}.keras"]
        else:
            wanted = sorted(path.lstrip("/") for path in dvc.find(f"/{stem}")) if dvc.isdir(f"/{stem}") else []
            wanted = [path for path in wanted if path.endswith(".keras")]
    except Exception as error:
        raise absent(stem, error) from None
    if not wanted:
        outs = (Path(out.def_path) for out in dvc.repo.index.outs)
        known = [out for out in outs if out.is_relative_to(paths.MODELS) and out.suffix in ("", ".keras")]
        names = [out.relative_to(paths.MODELS).with_suffix("").as_posix() for out in known if out != paths.BACKBONE]
        remedy = f"choose one of:{listed(sorted(names))}" if names else "name another revision"
        raise WeightsError(f"there is no model {shown(name)} in revision {shown(revision)}", remedy)
    if not all((folder / path).is_file() for path in wanted):
        check_place(folder, str(paths.STATE), folder=True)
    sidecars = [path.removesuffix(".keras") + ".json" for path in wanted]
    for path in [*wanted, *sidecars]:
        try:
            if path in wanted or dvc.exists(f"/{path}"):
                _get(dvc, path, folder)
        except Exception as error:
            raise absent(path, error) from None
    models = sorted((folder / path for path in wanted), key=natural)
    if home := home_of(models):
        for extra in (paths.DECISIONS[home.name], VALID[home.name]):
            try:
                _get(dvc, extra.as_posix(), folder)
            except Exception as error:  # as above; the models can do without
                say(f"{extra} of revision {shown(revision)} is not at hand: {one_line(error)}")
    return models


def _get(dvc: Any, path: str, folder: Path) -> None:
    if not (folder / path).is_file():
        with atomic_path(folder / path) as temporary:
            dvc.get_file(f"/{path}", str(temporary))


def natural(path: Path) -> tuple:
    """Sort key by which fold10 follows fold9."""
    digits = "".join(c for c in path.stem if c.isdigit())
    return (str(path.parent), path.stem.rstrip("0123456789"), int(digits or 0), path.name)
