"""Audit the data: decode every image, look for leaks, conflicts and copies, and stop for errors that are not waived."""

from pathlib import Path

import _checkout
from glaucoma.audit.exhibits import write_found
from glaucoma.audit.gate import audit, gate, told, write
from glaucoma.base import paths
from glaucoma.base.index import read_index
from glaucoma.base.params import Params
from glaucoma.base.progress import say
from glaucoma.base.stage import command


def main(params: Params) -> None:
    """Write the findings with contact sheets, then fail if there are errors, so that they can be looked at."""
    index, root = read_index(paths.INDEX), Path(params.data.root).expanduser()
    findings = audit(index, root, params, paths.LOOKS)
    table_file = write(findings, paths.AUDIT, paths.METRICS / "audit.json")
    write_found(findings.table(), findings.duplicates, index, root, paths.AUDIT, params.data.max_megapixels)
    gate(findings, table_file)
    say(f"audit:{told(findings, table_file)}")


if __name__ == "__main__":
    command(main, __doc__)
