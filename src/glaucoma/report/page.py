"""reports/index.html, MODEL_CARD.md and CHECKLIST.md: everything shown is read from files that the stages wrote."""

from __future__ import annotations

from collections.abc import Callable
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
from glaucoma.evaluate.ladder import ladder_lines
from glaucoma.evaluate.scores import ABNORMAL, NORMAL
from glaucoma.evaluate.summary import estimate, lacking
from glaucoma.model.symptoms import FILE, first_line, read_symptoms
from glaucoma.report import front
from glaucoma.report.front import INTERVALS, intervals_table, mean_of
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

__all__ = ["configuration", "gather", "overlays", "slices", "worst", "write_pages"]

STAGES = {"stage1": "head only", "stage2": "end of the backbone", "stage3": "every layer"}
EXTRA = {"model4": "every layer, deeper head", "model5": "every layer, larger backbone"}  # shown where they were run
SCORES = ("sensitivity", "specificity", "auroc", "f1_macro", "accuracy")
CURVES = {
    "roc": "ROC curve of the test predictions pooled over folds, and each fold's",
    "calibration_curve": "Calibration curves on valid, and the probabilities of each class",
    "predictive_values": "What a call means where fewer or more are ill",
    "precision_recall": "Precision–recall curve of the test predictions pooled over folds",
    "reliability": "Reliability diagram of valid predictions, calibration fitted on test",
    "decision_curve": "Decision curve: net benefit on valid by threshold",
}
JUDGED = {
    "thresholds": "Thresholds chosen on test, applied unchanged to valid",
    "calibration": "Calibration fitted on test, scored on valid",
}
REVIEWED = {  # tables that are shown where the run has them
    "agreement.csv": "Calibration: intercept, slope, observed to expected, skill",
    "net_benefit.csv": "Net benefit, and how much more it is than that of referring all or no one",
    "operating_points.csv": "Operating points, with intervals of both rates",
    "predictive_values.csv": "Predictive values by prevalence",
    "precision.csv": "How exactly this many images tell a score, and how many it would take",
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
PHOTOGRAPHS = ("mosaic", "mosaic_split", "mosaic_source", "crops", "label_issues")
# Drawn where there are several sources, or a crop, or enough images
SOMETIMES = ("mosaic_source", "sizes_by_source", "crops", "calibration_curve", "predictive_values", "label_issues")


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
    photograph_of, heat_of, params = _photographs(), _heat(), params.public()
    return {
        "params": params,
        "question": front.question(params),
        "answer": front.answer(params),
        "numbers": front.numbers(),
        "roc": front.curves(),
        "examples": front.examples(photograph_of, heat_of),
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
        "verdict": front.verdict(),
        "intervals": _shown_intervals(),
        "folds": _folds(),
        "folds_figure": picture(paths.FIGURES / "folds.png", "Macro F1, AUROC and sensitivity of each fold"),
        "intervals_figure": picture(paths.FIGURES / "intervals.png", "Means over folds with their 95 % intervals"),
        "report": table(paths.SUMMARY / "report_test.csv", "Classification report, test splits pooled"),
        "curves": _pictures(paths.FIGURES, CURVES),
        "judged": [table(paths.SUMMARY / f"{name}.csv", alt, sortable=True) for name, alt in JUDGED.items()],
        "subgroups": table(paths.SUMMARY / "subgroups.csv", "Scores by group, with 95 % intervals", sortable=True),
        "confusions": [
            picture(paths.FIGURES / f"{name}.png", f"Confusion matrix, {split} splits of all folds pooled")
            for name, split in (("confusion", "test"), ("confusion_valid", "valid"))
        ],
        "searches": [_search(name, what, params) for name, what in _run().items()],
        "errors": worst(photograph_of, heat_of),
        "overlays": overlays(),
        "explain": json_or_missing(paths.METRICS / "explain.json"),
        "explore": _pictures(paths.DATA_FIGURES, EXPLORE),
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
        "backbone": _backbone(params).name,
        "configuration": configuration(params, _origin()),
        "by": _by(),
        "sources": _sources(),
        "weights_known": _backbone(params).weights in ("none", "imagenet", "bundled"),
        "searched": any(paths.search_files(name)["metrics"].is_file() for name in _run()),
        "precision": _precision(),
        "slices": _slices(),
        "label_issues": _label_issues(),
        "label_figure": _pictures(
            paths.FIGURES, {"label_issues": "Photographs whose label the predictions contradict"}
        ),
        "reviewed": [
            table(file, alt, sortable=True)
            for name, alt in REVIEWED.items()
            if (file := paths.SUMMARY / name).is_file()
        ],
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


def _headline() -> Any:
    found = intervals_table()
    if isinstance(found, Missing):
        return found
    rows = []
    for score in SCORES:
        of = [mean_of(split, score) for split in ("valid", "test")]
        rows.append([score.replace("_", " "), *("not defined" if row is None else estimate(row) for row in of)])
    caption = "Mean over folds of each fold's score, with its 95 % interval"
    return of_frame(pd.DataFrame(rows, columns=["score", "valid (held out)", "test (selects)"]), caption, INTERVALS)


def _shown_intervals() -> Any:
    found = intervals_table()
    if isinstance(found, Missing):
        return found
    caption = "Scores with 95 % intervals: means over folds, then predictions pooled over folds"
    return of_frame(found, caption, INTERVALS, sortable=True)


def _means() -> str:
    """The held-out scores in a sentence's middle."""
    names = {"auroc": "AUROC", "sensitivity": "sensitivity", "specificity": "specificity", "f1_macro": "macro F1"}
    of = [(name, mean_of("valid", score)) for score, name in names.items()]
    return ", ".join(f"{name} {'not defined' if row is None else estimate(row)}" for name, row in of)


def _lacking() -> list[str]:
    found = intervals_table()
    return [] if isinstance(found, Missing) else lacking(found)


def _probes() -> Any:
    found = frame(paths.PROBES)
    if isinstance(found, Missing):
        return found
    row = mean_of("valid", "auroc")
    return probes_picture(found, None if row is None else Scored(row["value"], row["low"], row["high"]))


def configuration(params: Params, origin: str) -> str:
    """What each fold's model is and how it was trained, as part of a sentence; `origin` of the backbone's weights."""
    name = params.crossval.model
    backbone = _backbone(params)
    weights = backbone.weights if name in paths.FREE else origin or backbone.weights
    if name == "regression":
        how = f"C {params.regression.C:g}, flips {params.regression.flips}"
        return f"a logistic regression ({how}) on features of the frozen {backbone.name} (weights: {weights})"
    how = f"{params.optimizer}, learning rate {np.format_float_positional(params.lr)}, batch {params.batch_size}"
    how += f", {many(params.epochs, 'epoch')}"
    of = f", the backbone of {name}" if name in paths.FREE else ""
    start = f"starting weights: {weights}; warm start {params.crossval.warm_start}"
    return f"the network {backbone.name}{of} ({start}), trained with {how}"


def _found(name: str, alt: str, nothing: str) -> Any:
    """A sheet that is drawn only where the audit found something to draw."""
    if (paths.AUDIT / "findings.csv").is_file() and not (paths.DATA_FIGURES / f"{name}.png").is_file():
        return Nothing(f"The audit found {nothing}.")
    return picture(paths.DATA_FIGURES / f"{name}.png", alt, photographs=True)


def _pictures(folder: Path, named: dict[str, str]) -> list[Picture | Missing]:
    """The pictures of a folder with their alternative texts; of `SOMETIMES`, those that are there."""
    files = {folder / f"{name}.png": name for name in named}
    return [
        picture(file, named[name], photographs=name in PHOTOGRAPHS)
        for file, name in files.items()
        if file.is_file() or name not in SOMETIMES
    ]


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
    kept = kept.rename(columns=lambda name: name.replace("_", " "))
    return of_frame(kept, "Scores of each fold", paths.SUMMARY / "folds.csv", sortable=True)


def _search(name: str, what: str, params: Params) -> dict[str, Any]:
    files = paths.search_files(name)
    trials = frame(files["table"])
    metric = params.search.metric
    shown: Any
    sliced: Any
    if isinstance(trials, Missing):
        shown, sliced = trials, trials
    else:
        short = trials.dropna(axis=1, how="all").rename(
            columns=lambda c: c.removeprefix("param_").removeprefix("mean_").replace("_", " ")
        )
        shown = of_frame(short, f"{name}: all {many(len(trials), 'trial')}", files["table"], sortable=True)
        sliced = slices(trials, metric, f"{name}: {metric.replace('_', ' ')} by parameter", files["table"])
    return {
        "name": name,
        "what": what,
        "metrics": json_or_missing(files["metrics"]),
        "table": shown,
        "slices": sliced,
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
    return of_frame(flat, "Every parameter of this run", paths.PARAMS)


def _hashes(params: Params) -> Any:
    rows = [("parameters (canonical JSON)", hash_json(params.model_dump()))]
    if paths.INDEX.is_file():
        rows.append((f"data: {paths.INDEX}, which holds each image's SHA-256", sha256_file(paths.INDEX)))
    for name in _run():
        sidecar = json_or_missing(paths.search_files(name)["model"].with_suffix(".json"))
        if not isinstance(sidecar, Missing):
            rows.append((f"models/{name}.keras", sidecar["sha256"]))
    return of_frame(
        pd.DataFrame(rows, columns=["what", "SHA-256"]), "Hashes of parameters, data and models", paths.INDEX
    )


def _origin() -> str:
    """The source of the backbone's weights, with their licence; empty if no sidecar has it."""
    sidecar = json_or_missing(paths.search_files("stage3")["model"].with_suffix(".json"))
    backbone = {} if isinstance(sidecar, Missing) else sidecar.get("backbone", {})
    licence = f", licence {backbone['licence']}" if backbone.get("licence") else ""
    return f"{backbone.get('origin', '')}{licence}"


def _backbone(params: Params) -> Any:
    """The backbone that the folds' models stand on: `name` and `weights`."""
    name = params.crossval.model
    return (getattr(params, name) if name in paths.FREE else params).backbone


def _by() -> str:
    """What scores are told by group of, such as source and size."""
    found = frame(paths.SUMMARY / "subgroups.csv")
    return "" if isinstance(found, Missing) or found.empty else ", ".join(dict.fromkeys(found["by"].astype(str)))


def _sources() -> str:
    """Where the photographs come from, and whether the splits share it, in a sentence's middle."""
    found = frame(paths.INDEX)
    if isinstance(found, Missing) or "source" not in found or found["source"].nunique() < 2:
        return "one collection of images"
    every = (found.groupby(["fold", "split"])["source"].nunique() == found["source"].nunique()).all()
    return f"{found['source'].nunique()} sources, {'all' if every else 'not all'} of them in every split"


def _precision() -> dict[str, str] | Missing:
    """Half the width of the scores' intervals at this many images, and how many images would tell them to ± 0.03."""
    found = frame(paths.SUMMARY / "precision.csv")
    if isinstance(found, Missing):
        return found
    rows = found.dropna(subset=["half_width", "needed"])
    told = [f"{row.needed:.0f} {row.of} for the {row.score.replace('_', ' ')}" for row in rows.itertuples()]
    if not told:
        return Missing(f"{paths.SUMMARY / 'precision.csv'} has no score with an interval.")
    return {"width": f"{rows['half_width'].max():.3f}", "needed": ", ".join(told)}


LISTED = 20  # rows of long tables, whose file has all of them


def _slices() -> Any:
    found = frame(paths.SUMMARY / "slices.csv")
    if isinstance(found, Missing):
        return found
    caption = "Groups by one or two traits, the worst first; p is corrected for looking at all of them"
    what = "No trait splits the photographs into groups that are large enough to compare."
    return Nothing(what) if found.empty else of_frame(found.head(LISTED), caption, paths.SUMMARY / "slices.csv")


def _label_issues() -> Any:
    found = frame(paths.SUMMARY / "label_issues.csv")
    if isinstance(found, Missing):
        return found
    found = found.dropna(subset=["suggested"])
    caption = f"Labels that out-of-fold predictions contradict, least believed first (up to {LISTED})"
    if found.empty:
        return Nothing("Out-of-fold predictions contradict no label.")
    kept = [name for name in ("rank", "image", "label", "suggested", "probability") if name in found]
    short = found[kept].head(LISTED).assign(image=lambda rows: rows["image"].astype(str).str[:12])
    return of_frame(short, caption, paths.SUMMARY / "label_issues.csv")


def _versions() -> Any:
    sidecar = json_or_missing(paths.search_files("stage3")["model"].with_suffix(".json"))
    if isinstance(sidecar, Missing):
        return sidecar
    rows = [(name, str(value)) for name, value in sidecar["versions"].items()]
    return of_frame(
        pd.DataFrame(rows, columns=["library", "version"]),
        "Versions that trained the models",
        paths.search_files("stage3")["model"].with_suffix(".json"),
    )


WORST = 6  # of each kind of error


def _photographs() -> Callable[[str, str], Picture | Missing]:
    """Gives the photograph of a content id as the networks see it, with its alternative text."""
    try:
        pixels = np.load(paths.PIXELS, mmap_mode="r", allow_pickle=False)
        rows = {image: i for i, image in enumerate(frame(paths.PIXELS_TABLE)["image"])}  # type: ignore[index]
    except (OSError, ValueError, TypeError, KeyError):
        rows = {}

    def of(image: str, alt: str) -> Picture | Missing:
        if image not in rows:
            return Missing("No decoded image.")
        return photograph(np.array(pixels[rows[image]]), alt, paths.PIXELS)

    return of


def _heat() -> Callable[[int, str], Picture | Missing | None]:
    """Gives the heat map of a fold's network for a content id; None where none was drawn."""
    heat = overlays()
    files = {} if isinstance(heat, Missing) else {(row.fold, row.image): row.file for row in heat.itertuples()}

    def of(fold: int, image: str) -> Picture | Missing | None:
        alt = f"Heat map of photograph {image[:8]}: evidence for abnormal"
        file = files.get((fold, image))
        return picture(paths.EXPLAIN / file, alt, photographs=True) if file else None

    return of


def worst(photograph_of: Callable, heat_of: Callable) -> list[dict[str, Any]] | Missing:
    """The most confident wrong predictions, missed glaucoma first, with their photographs as the network sees them."""
    predictions, surest = frame(paths.SUMMARY / "predictions.csv"), frame(paths.SUMMARY / "worst.csv")
    for one in (predictions, surest):
        if isinstance(one, Missing):
            return one
    wrong = predictions[predictions["label"] != predictions["predicted"]]  # type: ignore[index]
    groups = []
    for kind, label, called in (("false negative", ABNORMAL, NORMAL), ("false positive", NORMAL, ABNORMAL)):
        shown = [
            {
                "photograph": photograph_of(image, f"Photograph {image[:8]}, {row.label}, called {row.predicted}"),
                "heat": heat_of(row.fold, image),
                "text": f"Fold {row.fold}, probability of abnormal {row.probability:.3f}",
                "id": image[:12],
            }
            for row in surest[surest["error"] == kind].head(WORST).itertuples()  # type: ignore[index]
            for image in [str(row.image)]
        ]
        title = f"{kind.capitalize()}s: {label} eyes called {called}"
        groups.append({"title": title, "total": int((wrong["label"] == label).sum()), "shown": shown})
        groups[-1]["heated"] = sum(one["heat"] is not None for one in shown)
    return groups


def overlays() -> pd.DataFrame | Missing:
    """The table of the heat maps that stage `explain` drew: columns fold, image and file."""
    found = frame(paths.EXPLAIN / "heat.csv")
    return found if isinstance(found, Missing) else found.astype({"image": str})


WINNER = CONDITION_COLOURS[ABNORMAL]


@styled()
def slices(trials: pd.DataFrame, metric: str, title: str, source: Path) -> Picture | Missing:
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
    return drawn(figure, f"{title}: {metric} of each of {many(len(trials), 'trial')} against each parameter", source)
