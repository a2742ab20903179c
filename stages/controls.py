"""Baselines that networks must beat, such as a regression on frozen features, and a check with shuffled labels."""

import _checkout
from glaucoma.base import paths
from glaucoma.base.params import Params
from glaucoma.base.stage import command
from glaucoma.train.control_stage import write_controls


def main(params: Params) -> None:
    """Write reports/controls/ and metrics/controls.json."""
    write_controls(params)
    print(f"look next at {paths.CONTROLS_METRICS}; the summary sets the networks beside it")


if __name__ == "__main__":
    command(main, __doc__)
