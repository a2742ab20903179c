"""reports/index.html, MODEL_CARD.md and CHECKLIST.md: everything shown is read from files that the stages wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from glaucoma.base import paths
from glaucoma.base.errors import many
from glaucoma.base.files import atomic_path, hash_json, sha256_file
from glaucoma.base.params import Params
from glaucoma.evaluate.controls import check_lines, control_lines
from glaucoma.evaluate.ladder import cheapest, ladder_lines
from glaucoma.evaluate.scores import ABNORMAL, NORMAL
from glaucoma.evaluate.summary import MEAN, estimate, lacking
from glaucoma.model.symptoms import FILE, first_line, read_symptoms
from glaucoma.report import page as figures
from glaucoma.report.page_parts import (
    Missing,
    Nothing,
    Picture,
    cell,
    drawn,
    frame,
    json_or_missing,
    of_frame,
    photograph,
    picture,
    table,
)
from glaucoma.report.probe_figures import Scored, probes_picture
from glaucoma.report.style import CONDITION_COLOURS, GREY, heading, horizontal_lines, new_figure, styled

__all__ = ["configuration", "gather", "overlays", "slices", "verdict", "worst", "write_pages"]

STAGES = {"stage1": "head only", "stage2": "end of the backbone", "stage3": "every layer"}
EXTRA = {"model4": "every layer, deeper head", "model5": "every layer, larger backbone"}  # shown where they were run
SCORES = ("sensitivity", "specificity", "auroc", "f1_macro", "accuracy")
CURVES = {
    "roc": "ROC curve of the test predictions pooled over folds, and each fold's",
    "precision_recall": "Precision–recall curve of the test predictions pooled over folds",
    "reliability": "Reliability diagram of valid predictions, calibration fitted on test",
    "decision_curve": "Decision curve: net benefit on valid by threshold",
}
JUDGED = {
    "thresholds": "Thresholds chosen on test, applied unchanged to valid",
    "calibration": "Calibration fitted on test, scored on valid",
}
EXPLORE = {
    "condition_by_split": "Files by split and condition",
    "folds": "Files by fold, split and condition",
    "sizes": "Image sizes by condition",
    "mosaic": "Sample photographs",
    "mosaic_split": "Photographs by class and split",
    "appearance": "Brightness and colour by condition and source",
    "mosaic_source": "Photographs by class and source",
    "sizes_by_source": "Image sizes by source and condition",
    "crops": "Crops of some photographs, those without a box first",
    "overlap": "Share of each fold's test images that other folds train on",
}
SOMETIMES = ("mosaic_source", "sizes_by_source", "crops")  # drawn where there are several sources, or a crop


def write_pages(params: Params) -> None:
    """Write the page, the model card and the checklist. The same files in give the same bytes out."""
    environment = Environment(
        loader=PackageLoader("glaucoma.report"),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = cell
    environment.tests["missing"] = lambda value: isinstance(value, Missing)
    environment.tests["nothing"] = lambda value: isinstance(value, Nothing)
    given = gather(params)
    pages = {
        paths.PAGE: "page.html.j2",
        paths.MODEL_CARD: "model_card.md.j2",
        paths.CHECKLIST: "checklist.md.j2",
    }
    for path, template in pages.items():
        text = environment.get_template(template).render(given)
        with atomic_path(path) as temporary:
            temporary.write_bytes(text.encode("utf-8", "backslashreplace"))


def gather(params: Params) -> dict[str, Any]:
    """Everything that the templates show; a `Missing` with its reason for missing parts."""
    return {
        "params": params,
        "warned": _warned(params),
        "synthetic": Path(params.data.root) == paths.SAMPLE,
        "index": json_or_missing(paths.METRICS / "index.json"),
        "audit": json_or_missing(paths.METRICS / "audit.json"),
        "findings": table(paths.AUDIT / "findings.csv", "Findings of the audit", sortable=True),
        "probes": table(
            paths.PROBES, "Shortcuts: how well the label is predicted without looking at the eye", sortable=True
        ),
        "probes_figure": _probes(),
        "controls": table(paths.SUMMARY / "controls.csv", "Baselines, and the networks beside them", sortable=True),
        "control_lines": _controls(),
        "ladder": table(paths.COST_QUALITY, "Cost of each model, and its AUROC on valid", sortable=True),
        "ladder_figure": picture(paths.FIGURES / "cost_quality.png", "AUROC of each model by its cost"),
        "ladder_lines": _ladder(),
        "leak_checks": _leak_checks(),
        "offenders": _found("offenders", "Poor photographs found by the audit", "no poor photograph"),
        "duplicates": _found("duplicates", "Files that show the same photograph, side by side", "no such pair"),
        "summary": json_or_missing(paths.SUMMARY_METRICS),
        "headline": _headline(),
        "means": _means(),
        "lacking": _lacking(),
        "verdict": verdict(),
        "intervals": _shown_intervals(),
        "folds": _folds(),
        "folds_figure": picture(paths.FIGURES / "folds.png", "Macro F1, AUROC and sensitivity of each fold"),
        "intervals_figure": picture(paths.FIGURES / "intervals.png", "Means over folds with their 95 % intervals"),
        "report": table(paths.SUMMARY / "report_test.csv", "Classification report, test splits pooled"),
        "curves": [picture(paths.FIGURES / f"{name}.png", alt) for name, alt in CURVES.items()],
        "judged": [table(paths.SUMMARY / f"{name}.csv", alt, sortable=True) for name, alt in JUDGED.items()],
        "subgroups": table(paths.SUMMARY / "subgroups.csv", "Scores by group, with 95 % intervals", sortable=True),
        "confusions": [
            picture(paths.FIGURES / f"{name}.png", f"Confusion matrix, {split} splits of all folds pooled")
            for name, split in (("confusion", "test"), ("confusion_valid", "valid"))
        ],
        "searches": [_search(name, what, params) for name, what in _run().items()],
        "errors": worst(),
        "overlays": overlays(),
        "explain": json_or_missing(paths.METRICS / "explain.json"),
        "explore": [
            picture(file, alt)
            for name, alt in EXPLORE.items()
            if (file := paths.EXPLORE / f"{name}.png").is_file() or name not in SOMETIMES
        ],
        "protocol": table(paths.SUMMARY / "protocol.csv", "The protocol, as published and here", sortable=True),
        "published": table(paths.SUMMARY / "published.csv", "Published scores and ours", sortable=True, drop=("note",)),
        "readings": table(
            paths.SUMMARY / "published_searches.csv", "The published confusion matrices in both readings"
        ),
        "compared": _note(),
        "parameters": _parameters(params),
        "hashes": _hashes(params),
        "versions": _versions(),
        "origin": _origin(),
        "backbone": _backbone(params),
        "configuration": configuration(params, _origin()),
        "by": _by(),
        "classes": (NORMAL, ABNORMAL),
        "many": many,
    }


def _run() -> dict[str, str]:
    """The searches: stages 1 to 3, and the optional ones that were run."""
    return STAGES | {name: what for name, what in EXTRA.items() if paths.search_files(name)["metrics"].is_file()}


def _warned(params: Params) -> str:
    """Warnings about the networks in one line; empty if there are none, or nothing has been trained."""
    folders = [*(paths.search_files(name)["report"] for name in _run()), paths.SUMMARY]
    return first_line(read_symptoms(folder / FILE for folder in folders), len(params.crossval.folds))


def _intervals() -> pd.DataFrame | Missing:
    """reports/summary/intervals.csv, the mean over folds and the pooled predictions."""
    found = frame(paths.SUMMARY / "intervals.csv")
    if isinstance(found, Missing) or "estimand" in found:
        return found
    return Missing("reports/summary/intervals.csv is of an older release.")


def _mean(split: str, score: str) -> pd.Series | None:
    """The row of a score's mean over folds; None where it is not defined."""
    found = _intervals()
    if isinstance(found, Missing):
        return None
    rows = found[(found["estimand"] == MEAN) & (found["split"] == split) & (found["score"] == score)]
    rows = rows.dropna(subset=["value"])
    return rows.iloc[0] if len(rows) else None


def _headline() -> Any:
    found = _intervals()
    if isinstance(found, Missing):
        return found
    rows = []
    for score in SCORES:
        of = [_mean(split, score) for split in ("valid", "test")]
        rows.append([score.replace("_", " "), *("not defined" if row is None else estimate(row) for row in of)])
    caption = "Mean over folds of each fold's score, with its 95 % interval"
    return of_frame(pd.DataFrame(rows, columns=["score", "valid (held out)", "test (selects)"]), caption)


def _shown_intervals() -> Any:
    found = _intervals()
    if isinstance(found, Missing):
        return found
    caption = "Scores with 95 % intervals: means over folds, then predictions pooled over folds"
    return of_frame(found, caption, sortable=True)


def _means() -> str:
    """The held-out scores in a sentence's middle."""
    names = {"auroc": "AUROC", "sensitivity": "sensitivity", "specificity": "specificity", "f1_macro": "macro F1"}
    of = [(name, _mean("valid", score)) for score, name in names.items()]
    return ", ".join(f"{name} {'not defined' if row is None else estimate(row)}" for name, row in of)


def _lacking() -> list[str]:
    found = _intervals()
    return [] if isinstance(found, Missing) else lacking(found)


def _probes() -> Any:
    found = frame(paths.PROBES)
    if isinstance(found, Missing):
        return found
    row = _mean("valid", "auroc")
    return probes_picture(found, None if row is None else Scored(row["value"], row["low"], row["high"]))


def configuration(params: Params, origin: str) -> str:
    """What each fold's model is and how it was trained, as part of a sentence; `origin` of the backbone's weights."""
    name = params.crossval.model
    backbone = getattr(params, name).backbone if name in paths.FREE else params.backbone
    weights = backbone.weights if name in paths.FREE else origin or backbone.weights
    if name == "regression":
        how = f"C {params.regression.C:g}, flips {params.regression.flips}"
        return f"a logistic regression ({how}) on features of the frozen {backbone.name} (weights: {weights})"
    how = f"{params.optimizer}, learning rate {params.lr:g}, batch {params.batch_size}, {many(params.epochs, 'epoch')}"
    of = f", the backbone of {name}" if name in paths.FREE else ""
    start = f"starting weights: {weights}; warm start {params.crossval.warm_start}"
    return f"the network {backbone.name}{of} ({start}), trained with {how}"


def _found(name: str, alt: str, nothing: str) -> Any:
    """A sheet that is drawn only where the audit found something to draw."""
    if (paths.AUDIT / "findings.csv").is_file() and not (paths.AUDIT / f"{name}.png").is_file():
        return Nothing(f"The audit found {nothing}.")
    return picture(paths.AUDIT / f"{name}.png", alt)


def _controls() -> Any:
    """The comparison of the networks' and the controls' AUROCs, in lines."""
    found = frame(paths.SUMMARY / "controls.csv")
    return found if isinstance(found, Missing) else control_lines(found).splitlines()


def _leak_checks() -> Any:
    """What the controls say of leaks, in lines."""
    found = json_or_missing(paths.CONTROLS_METRICS)
    try:
        return found if isinstance(found, Missing) else check_lines(found)
    except KeyError:
        return Missing(f"{paths.CONTROLS_METRICS} is of an older release.")


def _ladder() -> Any:
    """Which rung to take, in sentences."""
    found = frame(paths.COST_QUALITY)
    return found if isinstance(found, Missing) else ladder_lines(found)


def _folds() -> Any:
    found = frame(paths.SUMMARY / "folds.csv")
    if isinstance(found, Missing):
        return found
    wanted = ["fold", *(f"{s}_{score}" for s in ("test", "valid") for score in (*SCORES, "contamination"))]
    kept = found[[name for name in wanted if name in found]]
    return of_frame(kept.rename(columns=lambda name: name.replace("_", " ")), "Scores of each fold", sortable=True)


def _search(name: str, what: str, params: Params) -> dict[str, Any]:
    files = paths.search_files(name)
    trials = frame(files["table"])
    metric = params.search.metric
    if isinstance(trials, Missing):
        shown, slices = trials, trials
    else:
        short = trials.dropna(axis=1, how="all").rename(
            columns=lambda c: c.removeprefix("param_").removeprefix("mean_").replace("_", " ")
        )
        shown = of_frame(short, f"{name}: all {many(len(trials), 'trial')}", sortable=True)
        slices = figures.slices(trials, metric, f"{name}: {metric.replace('_', ' ')} by parameter")
    return {
        "name": name,
        "what": what,
        "metrics": json_or_missing(files["metrics"]),
        "table": shown,
        "slices": slices,
        "curves": picture(paths.FIGURES / f"{name}_curves.png", f"Loss and macro F1 by epoch of {name}'s winner"),
        "confusion": picture(paths.FIGURES / f"{name}_confusion_test.png", f"Confusion matrix of {name}, test"),
    }


def _note() -> str:
    found = frame(paths.SUMMARY / "published.csv")
    return found.why if isinstance(found, Missing) else str(found["note"].iat[0])


def _parameters(params: Params) -> Any:
    flat = pd.json_normalize(params.model_dump(), sep=".").T.reset_index()
    flat.columns = ["parameter", "value"]
    flat["value"] = flat["value"].map(lambda v: ", ".join(map(str, v)) if isinstance(v, list) else str(v))
    return of_frame(flat, "Every parameter of this run")


def _hashes(params: Params) -> Any:
    rows = [("parameters (canonical JSON)", hash_json(params.model_dump()))]
    if paths.INDEX.is_file():
        rows.append((f"data: {paths.INDEX}, which holds each image's SHA-256", sha256_file(paths.INDEX)))
    for name in _run():
        sidecar = json_or_missing(paths.search_files(name)["model"].with_suffix(".json"))
        if not isinstance(sidecar, Missing):
            rows.append((f"models/{name}.keras", sidecar["sha256"]))
    return of_frame(pd.DataFrame(rows, columns=["what", "SHA-256"]), "Hashes of parameters, data and models")


def _origin() -> str:
    """The source of the backbone's weights, with their licence; empty if no sidecar has it."""
    sidecar = json_or_missing(paths.search_files("stage3")["model"].with_suffix(".json"))
    backbone = {} if isinstance(sidecar, Missing) else sidecar.get("backbone", {})
    licence = f", licence {backbone['licence']}" if backbone.get("licence") else ""
    return f"{backbone.get('origin', '')}{licence}"


def _backbone(params: Params) -> str:
    """The name of the backbone that the folds' models stand on."""
    name = params.crossval.model
    return (getattr(params, name) if name in paths.FREE else params).backbone.name


def _by() -> str:
    """What scores are told by group of, such as source and size."""
    found = frame(paths.SUMMARY / "subgroups.csv")
    return "" if isinstance(found, Missing) or found.empty else ", ".join(dict.fromkeys(found["by"].astype(str)))


def _versions() -> Any:
    sidecar = json_or_missing(paths.search_files("stage3")["model"].with_suffix(".json"))
    if isinstance(sidecar, Missing):
        return sidecar
    rows = [(name, str(value)) for name, value in sidecar["versions"].items()]
    return of_frame(pd.DataFrame(rows, columns=["library", "version"]), "Versions that trained the models")


WORST = 6  # of each kind of error


def worst() -> list[dict[str, Any]] | Missing:
    """The most confident wrong predictions, missed glaucoma first, with their photographs as the network sees them."""
    predictions, surest = frame(paths.SUMMARY / "predictions.csv"), frame(paths.SUMMARY / "worst.csv")
    if isinstance(predictions, Missing):
        return predictions
    if isinstance(surest, Missing):
        return surest
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    try:
        pixels = np.load(paths.PIXELS, mmap_mode="r", allow_pickle=False)
        rows = {image: i for i, image in enumerate(frame(paths.PIXELS_TABLE)["image"])}
    except (OSError, ValueError, TypeError, KeyError):
        pixels, rows = None, {}
    heat = overlays()
    files = {} if isinstance(heat, Missing) else {(row.fold, row.image): row.file for row in heat.itertuples()}
    groups = []
    for kind, label, called in (("false negative", ABNORMAL, NORMAL), ("false positive", NORMAL, ABNORMAL)):
        group, total = surest[surest["error"] == kind], int((wrong["label"] == label).sum())
        title = f"{kind.capitalize()}s: {label} eyes called {called}"
        shown = []
        for row in group.head(WORST).itertuples():
            text = f"Fold {row.fold}, probability of abnormal {row.probability:.3f}"
            known = pixels is not None and row.image in rows
            alt = f"Photograph {row.image[:8]}, {row.label}, called {row.predicted}"
            file = files.get((row.fold, row.image))
            over = f"Heat map of photograph {row.image[:8]}: evidence for abnormal"
            shown.append(
                {
                    "photograph": photograph(np.array(pixels[rows[row.image]]), alt)
                    if known
                    else Missing("No decoded image."),
                    "heat": picture(paths.EXPLAIN / file, over) if file else None,
                    "text": text,
                    "id": row.image[:12],
                }
            )
        groups.append({"title": title, "total": total, "shown": shown})
    return groups


def overlays() -> pd.DataFrame | Missing:
    """The table of the heat maps that stage `explain` drew: columns fold, image and file."""
    found = frame(paths.EXPLAIN / "heat.csv")
    return found if isinstance(found, Missing) else found.astype({"image": str})


WINNER = CONDITION_COLOURS[ABNORMAL]


@styled()
def slices(trials: pd.DataFrame, metric: str, title: str) -> Picture | Missing:
    """Each trial's score against each parameter that the search varied; a panel per parameter."""
    score = f"mean_test_{metric}"
    if score not in trials:
        return Missing(f"The search's table has no column {score}.")
    names = [c for c in trials if c.startswith("param_") and trials[c].nunique() > 1]
    if not names:
        return Missing("The search varied no parameter.")
    figure = new_figure(max(4.8, 2.9 * len(names)), 3.6)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        values = sorted(trials[name].dropna().unique())
        place = trials[name].map({value: i for i, value in enumerate(values)})
        axes.plot(place, trials[score], "o", color=GREY, markersize=5, alpha=0.6, clip_on=False)
        best = trials.iloc[0]
        axes.plot(values.index(best[name]), best[score], "D", color=WINNER, markersize=7, clip_on=False, zorder=3)
        axes.set_xticks(range(len(values)), [f"{v:g}" if isinstance(v, (int, float)) else str(v) for v in values])
        axes.set_xlim(-0.5, len(values) - 0.5)
        axes.set_xlabel(name.removeprefix("param_").replace("_", " "))
        horizontal_lines(axes)
    panels[0].set_ylabel(metric.replace("_", " "))
    heading(figure, title, f"One dot per trial ({len(trials)}); diamond: the winner")
    return drawn(figure, f"{title}: {metric} of each of {many(len(trials), 'trial')} against each parameter")


CHANCE = 0.5


def verdict() -> list[str] | Missing:
    """On held-out photographs: how many are correct, compared with chance and with the best shortcut."""
    counted, found = frame(paths.SUMMARY / "report_valid.csv"), _intervals()
    for one in (counted, found):
        if isinstance(one, Missing):
            return one
    by_class = counted.set_index("class")
    told = []
    for condition in (ABNORMAL, NORMAL):
        of = round(by_class.at[condition, "support"])
        told.append(f"{round(by_class.at[condition, 'recall'] * of)} of {of} {condition} photographs")
    where = "held out (valid, pooled over folds)"
    sentences = [f"At a threshold of 0.5, {' and '.join(told)} {where} were classified correctly."]
    row = _mean("valid", "auroc")
    if row is None or row["low"] != row["low"]:
        return [*sentences, "The AUROC on valid, or its interval, is not defined."]
    compared = (
        "better than" if row["low"] > CHANCE else "worse than" if row["high"] < CHANCE else "not distinguishable from"
    )
    interval = f"{row['value']:.3f}, with a 95 % interval of {row['low']:.3f} to {row['high']:.3f}"
    sentences.append(f"The AUROC on valid, the mean over folds, is {interval}: {compared} chance (0.5).")
    return [*sentences, *_beside_shortcuts(), *_beside_the_regression()]


def _beside_shortcuts() -> list[str]:
    """The best shortcut, and the difference of the model's AUROC to it on the same photographs, paired."""
    probes = frame(paths.PROBES)
    if isinstance(probes, Missing):
        return []
    tried = probes[~probes["target"].isin(["source", "label by name"])].dropna(subset=["auroc"])
    if tried.empty:
        return ["No shortcut could be tested; the reasons are below."]
    best = tried.loc[pd.to_numeric(tried["auroc"]).idxmax()]
    reached = f"The best shortcut, {str(best.probe).replace('_', ' ')}, reaches {best.auroc:.3f}"
    controls, name = frame(paths.SUMMARY / "controls.csv"), "thumbnail" if best.probe == "thumbnail" else "shortcut"
    if isinstance(controls, Missing) or "split" not in controls:
        return [f"{reached}; the model is not compared with it, since the controls have not been run."]
    of = (controls["control"] == name) & (controls["split"] == "valid") & (controls["score"] == "auroc")
    paired = controls[of].dropna(subset=["low", "high"])
    if paired.empty:
        return [f"{reached}; the folds' splits define no interval of the model's difference to it."]
    row = paired.iloc[0]
    beaten = "beats it" if row["low"] > 0 else "is worse than it" if row["high"] < 0 else "is not shown to beat it"
    apart = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    trained = f"trained on the folds' own splits it has {row['value']:.3f} on valid"
    return [f"{reached}; {trained}, from which the model's differs by {apart} (paired): it {beaten}."]


def _beside_the_regression() -> list[str]:
    table = frame(paths.COST_QUALITY)
    chosen = None if isinstance(table, Missing) else cheapest(table)
    if chosen is None or chosen["rung"] != "regression":
        return []
    what = "The logistic regression on the frozen backbone's features is the cheapest model that is not worse"
    return [f"{what} (AUROC {chosen['auroc']:.3f} on valid, mean over the folds): use it, as models/controls."]
