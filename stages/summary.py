"""All folds of crossval.folds together: scores, pooled predictions, comparison with the published figures."""

import _checkout
from glaucoma import paths
from glaucoma.data.names import many
from glaucoma.evaluate import summary, symptoms
from glaucoma.evaluate.controls import control_lines, write_against_controls
from glaucoma.evaluate.ladder import ladder_lines
from glaucoma.evaluate.scores import ABNORMAL, confusion
from glaucoma.files import write_csv, write_json
from glaucoma.params import Params
from glaucoma.pipeline.against_published import write_against_published
from glaucoma.pipeline.judgement import interval_lines, write_judgement, write_ladder
from glaucoma.progress import say
from glaucoma.report.folds import folds_figure, pooled_note, roc_figure, seen_note
from glaucoma.report.training import confusion_figure
from glaucoma.stage import command


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
        counts = confusion((pooled["label"] == ABNORMAL).to_numpy(), pooled["probability"].to_numpy())
        note = pooled_note(pooled, results.contamination(split))
        name = "confusion" if split == "test" else f"confusion_{split}"
        write_csv(paths.SUMMARY / f"{name}.csv", counts.reset_index())
        confusion_figure(counts, paths.SUMMARY / f"{name}.png", f"Cross-validation, {split} splits pooled", note)
    pooled = results.pooled("test")
    note = pooled_note(pooled, results.contamination("test"))
    roc_figure(pooled, paths.SUMMARY / "roc.png", "ROC of the test splits", note)
    note = "Markers: folds; lines: their means (± standard deviation)"
    seen = seen_note(results.contamination(*summary.SPLITS))
    folds_figure(
        results.folds, paths.SUMMARY / "folds.png", f"Scores of {many(len(results.folds), 'fold')}", note + seen
    )
    controls = write_against_controls(results, params.seed)
    table = write_judgement(results, params, seen.strip())
    print(summary.readable(results), interval_lines(table), summary.selection_note(params), sep="\n")
    print(control_lines(controls), *ladder_lines(write_ladder(results, params)), sep="\n")
    print(f"compared with the report: {compared}")
    print(f"look next at {paths.SUMMARY}/intervals.png, reliability.png and worst.csv, and published.csv beside them")


if __name__ == "__main__":
    command(main, __doc__)
