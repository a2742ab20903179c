"""Models of another Git revision: a commit, branch, tag or DVC experiment, fetched through DVC without a checkout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from glaucoma.base import paths
from glaucoma.base.errors import WeightsError, listed, one_line, shown
from glaucoma.base.files import atomic_path

__all__ = ["fetch_models", "parse"]

FETCHED = paths.STATE / "revisions"  # a folder for each commit
REMEDY = "run `dvc pull --all-commits` where a remote holds it; or check the revision out and run `dvc repro`"


def parse(name: str) -> tuple[str, str] | None:
    """A revision and a model's name, of `REVISION:NAME`; None of anything else."""
    found = re.fullmatch(r"([^:\\]{2,}):([^:\\]+)", name)  # not C:\model
    return found and (found[1], found[2])


def fetch_models(revision: str, name: str) -> Path:
    """Bring the model or the folder of models that `name` stood for at `revision`, with sidecars, below .state/.

    What DVC's cache or remote holds is copied out of it; nothing of the working tree is touched. A revision that is
    fetched once is there without DVC's help.

    Args:
        revision: whatever Git or DVC resolves: a commit, branch, tag, or an experiment's name.
        name: in models/ of then, such as `stage3`, `crossval` or `crossval/fold3`.

    Returns:
        The `.keras` file, or the folder.

    Raises:
        WeightsError: no project under Git and DVC, no such revision, no such model in it, or one that neither DVC's
            cache nor its remote holds.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError
    from dvc.repo import Repo
    from dvc.scm import NoSCM, RevError, resolve_rev

    try:
        with Repo() as here:
            if isinstance(here.scm, NoSCM):
                raise WeightsError("this project is not under Git, which knows revisions", "name a model of models/")
            commit = resolve_rev(here.scm, revision)
            root = here.root_dir
        with Repo(root, rev=commit) as then:
            return _bring(then.dvcfs, name, revision, FETCHED / commit[:12])
    except NotDvcRepoError:
        raise WeightsError("this folder is no DVC project, so it has no revisions", "go to the project") from None
    except RevError:
        remedy = "see `git log --oneline`, `git tag` and `dvc exp show`; `git fetch` brings those of others"
        raise WeightsError(f"there is no revision {shown(revision)} here", remedy) from None
    except DvcException as error:  # a dvc.yaml of then that today's DVC cannot read
        raise WeightsError(f"DVC cannot read revision {shown(revision)}: {one_line(error)}", REMEDY) from None


def _bring(dvc: Any, name: str, revision: str, folder: Path) -> Path:
    there = {path.lstrip("/") for path in dvc.find(f"/{paths.MODELS}")}
    stem = f"{paths.MODELS / name}".removesuffix(".keras")
    wanted = {f"{stem}.keras"} & there or {
        path for path in there if path.startswith(f"{stem}/") and path.endswith(".keras")
    }
    if not wanted:
        known = sorted(path for path in there if path.endswith(".keras") and Path(path) != paths.BACKBONE)
        names = [path.removeprefix(f"{paths.MODELS}/").removesuffix(".keras") for path in known]
        remedy = f"choose one of:{listed(names)}" if names else "name another revision"
        raise WeightsError(f"there is no model {shown(name)} in revision {shown(revision)}", remedy)
    sidecars = {path.removesuffix(".keras") + ".json" for path in wanted} & there
    for path in sorted(wanted | sidecars):
        if (folder / path).is_file():
            continue
        try:
            with atomic_path(folder / path) as temporary:
                dvc.get_file(f"/{path}", str(temporary))
        except Exception as error:  # of any remote's client; of the cache: not found
            what = f"{path} of revision {shown(revision)} is neither in DVC's cache nor could be fetched"
            raise WeightsError(f"{what}: {one_line(error)}", REMEDY) from None
    return folder / (f"{stem}.keras" if f"{stem}.keras" in wanted else stem)
