"""All folds of crossval.folds together: scores, pooled predictions, comparison with the published figures."""

import _checkout
from glaucoma.base import paths
from glaucoma.base.files import write_csv, write_json
from glaucoma.base.params import Params
from glaucoma.base.progress import say
from glaucoma.base.stage import command
from glaucoma.evaluate import summary
from glaucoma.evaluate.controls import control_lines, write_against_controls
from glaucoma.evaluate.ladder import ladder_lines
from glaucoma.evaluate.published import write_against_published
from glaucoma.evaluate.scores import ABNORMAL, confusion
from glaucoma.evaluate.subgroups import examples
from glaucoma.evaluate.summary_tables import write_curves, write_judgement, write_ladder
from glaucoma.model import symptoms


def main(params: Params) -> None:
    """Read the folds' results, write metrics/summary.json and reports/summary/."""
    results = summary.read_folds(params.crossval.folds)
    for path in results.stale:
        say(f"{path} is not read: its fold is not in crossval.folds")

    compared = write_against_published(results, params)
    write_json(paths.SUMMARY_METRICS, summary.headline(results))
    write_csv(paths.SUMMARY / symptoms.FILE, results.warnings)
    write_csv(paths.SUMMARY / "folds.csv", results.folds)
    write_csv(paths.SUMMARY / "summary.csv", summary.describe(results).reset_index())
    write_csv(paths.SUMMARY / "predictions.csv", results.pooled("test"))
    write_csv(paths.SUMMARY / "predictions_valid.csv", results.pooled("valid"))
    write_csv(paths.TIMING / "summary.csv", results.seconds.describe().to_frame().T.rename_axis("timing").reset_index())

    for split in summary.SPLITS:
        pooled = results.pooled(split)
        counts = confusion((pooled["label"] == ABNORMAL).to_numpy(), log_odds=pooled["log_odds"].to_numpy())
        name = "confusion" if split == "test" else f"confusion_{split}"
        write_csv(paths.SUMMARY / f"{name}.csv", counts.reset_index())
    controls = write_against_controls(results, params.seed)
    table = write_judgement(results, params)
    write_curves(results)
    write_csv(paths.SUMMARY / "examples.csv", examples(results.pooled("valid")))
    shown = summary.readable(table, results.contamination(*summary.SPLITS))
    print(shown, summary.selection_note(params), sep="\n")
    print(control_lines(controls), *ladder_lines(write_ladder(results, params)), sep="\n")
    print(f"compared with the report: {compared}")
    print(f"look next at {paths.SUMMARY}/intervals.csv, worst.csv and published.csv")


if __name__ == "__main__":
    command(main, __doc__)
