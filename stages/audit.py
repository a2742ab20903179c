"""Audit the data: decode every image, look for leaks, conflicts and copies, and stop for errors that are not waived."""

from pathlib import Path

import _checkout
from glaucoma import paths
from glaucoma.data.audit import audit, gate, told, write
from glaucoma.data.index import read_index
from glaucoma.params import Params
from glaucoma.progress import say
from glaucoma.report.offenders import write_found
from glaucoma.stage import command


def main(params: Params) -> None:
    """Write and draw the findings, then fail if there are errors, so that they can be looked at."""
    index, root = read_index(paths.INDEX), Path(params.data.root).expanduser()
    findings = audit(index, root, params, paths.LOOKS)
    table_file = write(findings, paths.AUDIT, paths.METRICS / "audit.json")
    write_found(index, root, paths.AUDIT, params.data.max_megapixels)
    gate(findings, table_file)
    say(f"audit:{told(findings, table_file)}")


if __name__ == "__main__":
    command(main, __doc__)
