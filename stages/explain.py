"""Grad-CAM of the folds' networks for their worst errors, in reports/explain/; on the sample, the share on the disc."""

import _checkout
from glaucoma.base import paths
from glaucoma.base.params import Params
from glaucoma.base.stage import command
from glaucoma.predict.explain_stage import run_explain


def main(params: Params) -> None:
    """Write reports/explain/ and metrics/explain.json, print the result."""
    metrics = run_explain(params)
    if "heat_on_disc" in metrics:
        share, area = metrics["heat_on_disc"], metrics["disc_area"]
        print(
            f"{share:.0%} of the heat lies on the disc, which is {area:.0%} of the picture ({metrics['images']} images)"
        )
    else:
        print(f"heat on the disc is not measured: {metrics.get('skipped', 'nothing speaks for abnormal in any image')}")
    print(f"look next at {paths.EXPLAIN}/, or at the worst errors on the page")


if __name__ == "__main__":
    command(main, __doc__)
