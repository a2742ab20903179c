"""Draw reports/figures/, and write the page reports/index.html, the model card and the reporting checklist."""

import _checkout
from glaucoma.base import paths
from glaucoma.base.params import Params
from glaucoma.base.stage import command
from glaucoma.report.figures import write_figures
from glaucoma.report.page import write_pages


def main(params: Params) -> None:
    """Read what the other stages wrote, draw reports/figures/, write index.html, MODEL_CARD.md and CHECKLIST.md."""
    write_figures(params)
    write_pages(params)
    print(f"look first at {paths.PAGE}; {paths.MODEL_CARD} and {paths.CHECKLIST} go with the model")


if __name__ == "__main__":
    command(main, __doc__)
