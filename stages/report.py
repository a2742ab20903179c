"""The report page, reports/index.html, and beside it the model card and the reporting checklist."""

import _checkout
from glaucoma import paths
from glaucoma.params import Params
from glaucoma.report.page import write_pages
from glaucoma.stage import command


def main(params: Params) -> None:
    """Read the other stages' results, write reports/index.html, MODEL_CARD.md and CHECKLIST.md."""
    write_pages(params)
    print(f"look first at {paths.PAGE}; {paths.MODEL_CARD} and {paths.CHECKLIST} go with the model")


if __name__ == "__main__":
    command(main, __doc__)
