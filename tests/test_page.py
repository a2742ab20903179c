"""The report page, the model card and the checklist, in a project whose folds and search are small but real files."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browser import CHROMIUM, Browser
from ruamel.yaml import YAML
from test_summary import CONSTANT, fold
from trees import probes

from glaucoma.base import paths
from glaucoma.base.files import read_json, write_csv, write_json
from glaucoma.model.symptoms import FILE, symptoms_table

ROOT = Path(__file__).resolve().parents[1]
PAGES = (paths.PAGE, paths.MODEL_CARD, paths.CHECKLIST)


def stage(root: Path, name: str) -> None:
    done = subprocess.run([sys.executable, root / "stages" / f"{name}.py"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def bare(root: Path) -> Path:
    """The code and the shipped parameters, with folds 0 to 2."""
    for part in ("stages", "src"):
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["crossval"]["folds"] = [0, 1, 2]
    yaml.dump(params, root / "params.yaml")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a summary of three folds, one search and a finding whose text is hostile."""
    root = bare(tmp_path_factory.mktemp("page"))
    for number in range(3):
        fold(number, root)
    write_json(root / "metrics/index.json", {"images": 24, "normal": 12, "abnormal": 12, "files": 48, "folds": 3})
    finding = {"finding": "unreadable", "severity": "warning", "waived": "no", "count": 1}
    hostile = {"where": "<script>alert(1)</script>", "message": "a | b", "remedy": "mend"}
    write_csv(root / "reports/audit/findings.csv", pd.DataFrame([finding | hostile]))
    trials = pd.DataFrame({"rank_test_f1_macro": [1, 2, 3], "param_lr": [0.001, 0.01, 1e-05]})
    trials["mean_test_f1_macro"] = [0.9, 0.6, 0.3]
    write_csv(root / paths.search_files("stage1")["table"], trials)
    write_csv(root / paths.PROBES, probes())
    same = [pd.read_csv(root / paths.fold_files(k)["report"] / "predictions.csv", dtype=str) for k in range(3)]
    write_csv(
        root / paths.CONTROLS / "predictions.csv",
        pd.concat([t.assign(fold=k) for k, t in enumerate(same)]).assign(control="regression_average"),
    )
    chance = {"test_auroc": 0.7, "standard_error": 0.01, "at_chance": False}
    write_json(root / paths.CONTROLS_METRICS, {"permuted_average": chance})
    origin = {"name": "EfficientNetLite0", "origin": "ImageNet, from the package <b>", "licence": "Apache-2.0"}
    write_json(root / "models/stage3.json", {"sha256": "0" * 64, "versions": {"keras": "3"}, "backbone": origin})
    stage(root, "summary")
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 32, 3), dtype=np.uint8)
    (root / "data").mkdir()
    np.save(root / paths.PIXELS, pixels)
    pooled = pd.read_csv(root / "reports/summary/predictions.csv", dtype=str)
    write_csv(root / paths.PIXELS_TABLE, pooled[["image"]])
    stage(root, "report")
    return root


def test_the_same_files_give_the_same_bytes(made):
    def written():
        figures = {file.name: file.read_bytes() for file in (made / paths.FIGURES).iterdir()}
        return [(made / page).read_bytes() for page in PAGES], figures

    before = written()
    stage(made, "report")
    assert before == written()
    assert {"roc.png", "confusion.png", "folds.png", "intervals.png", "cost_quality.png"} <= set(before[1])


def test_the_first_line_of_page_and_results_is_what_speaks_against_the_networks(made):
    text = (made / paths.PAGE).read_text()
    assert "Warning." not in text
    files = [made / folder / FILE for folder in (paths.fold_files(1)["report"], paths.SUMMARY)]
    for file in files:
        write_csv(file, symptoms_table({"fold 1": [CONSTANT]}))
    stage(made, "report")
    said = "1 of 3 folds: answers almost the same for every photograph; probably too little was learnt: raise lr."
    header = (made / paths.PAGE).read_text().partition("<header>")[2]
    assert header.index(said) < header.index("<h1>")
    assert said in (made / paths.MODEL_CARD).read_text()
    shown = subprocess.run(["glaucoma", "results"], cwd=made, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines()[0] == f"WARNING: {said}"
    for file in files:
        write_csv(file, symptoms_table({}))
    stage(made, "report")
    assert (made / paths.PAGE).read_text() == text


def test_the_page_is_small_and_holds_everything_itself(made):
    text = (made / paths.PAGE).read_text()
    assert len(text) < 5_000_000
    assert "http" not in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_probes_stand_beside_the_scores_as_picture_and_table_and_without_them_the_reason_does(made, tmp_path):
    text = (made / paths.PAGE).read_text()
    scores = text[text.index('<section id="scores">') : text.index('<section id="folds">')]
    assert "condition from thumbnail 0.95" in scores
    assert "every image has the same" in scores
    (made / paths.PROBES).rename(tmp_path / "probes.csv")
    stage(made, "report")
    text = (made / paths.PAGE).read_text()
    (tmp_path / "probes.csv").rename(made / paths.PROBES)
    stage(made, "report")
    assert f"Missing: {paths.PROBES} does not exist" in text


def test_a_control_that_is_not_beaten_and_labels_that_taught_without_meaning_are_seen_on_the_page(made):
    text = (made / paths.PAGE).read_text()
    assert "regression_average: AUROC" in text
    assert "NOT BEATEN by the networks" in text
    assert "score a mean AUROC of 0.700 instead of 0.5" in text


def test_both_readings_of_the_published_confusions_are_on_the_page(made):
    text = (made / paths.PAGE).read_text()
    published = text[text.index('<section id="published">') : text.index('<section id="made">')]
    assert "Not compared: " in published
    assert "its printed sensitivity is its specificity" in published
    assert published.count("as printed") > published.count("corrected</") == 4


def test_what_is_missing_is_said_with_its_reason(tmp_path):
    stage(bare(tmp_path), "report")
    text = (tmp_path / paths.PAGE).read_text()
    for name in ("metrics/index.json", "metrics/audit.json", "reports/figures/roc.png", "metrics/search/stage2.csv"):
        assert f"Missing: {name} does not exist" in text, name
    assert "model-index" not in (tmp_path / paths.MODEL_CARD).read_text()


def test_pages_say_where_starting_weights_come_from_and_their_licence(made):
    for path in PAGES:
        shown = "&lt;b&gt;" if path == paths.PAGE else "<b>"
        assert f"ImageNet, from the package {shown}, licence Apache-2.0" in (made / path).read_text(), path


def test_the_model_card_has_front_matter_with_the_metrics(made):
    text = (made / paths.MODEL_CARD).read_text()
    assert text.startswith("---\n")
    front = YAML(typ="safe", pure=True).load(text.split("---\n")[1])
    test = front["model-index"][0]["results"][0]
    given = {metric["type"]: metric["value"] for metric in test["metrics"]}
    assert given["recall"] == read_json(made / paths.SUMMARY_METRICS)["test_sensitivity"]
    assert test["dataset"]["split"] == "test"
    assert "Not a medical device" in text
    assert "{{" not in text + (made / paths.CHECKLIST).read_text()


def test_the_checklist_has_every_item_of_both_guidelines(made):
    rows = [line.split(" | ") for line in (made / paths.CHECKLIST).read_text().splitlines() if line.startswith("|")][2:]
    claim, tripod = ({item for row in rows for item in row[i].strip("| ").split(", ")} - {""} for i in (0, 1))
    assert claim == {str(number) for number in range(1, 45)}
    parts = {
        3: "abc",
        5: "ab",
        6: "abc",
        8: "abc",
        9: "abc",
        12: "abcdefg",
        18: "abcdef",
        20: "abc",
        23: "ab",
        27: "abc",
    }
    assert tripod == {f"{number}{part}" for number in range(1, 28) for part in parts.get(number, [""])}
    assert all(row[3].strip("| ") for row in rows)


def test_the_page_says_in_sentences_what_the_scores_amount_to(made):
    text = (made / paths.PAGE).read_text()
    about = text[text.index('<section id="about">') : text.index('<section id="audit">')]
    table = pd.read_csv(made / paths.SUMMARY / "intervals.csv").set_index(["estimand", "split", "score"])
    row = table.loc[("mean over folds", "valid", "auroc")]
    said = f"AUROC on valid, the mean over folds, is {row['value']:.3f}, with a 95 % interval of {row['low']:.3f}"
    assert said in about
    assert "The best shortcut, thumbnail, reaches 0.95" in about
    assert "from both intervals, not paired" in about
    card = (made / paths.MODEL_CARD).read_text()
    assert said in card
    assert "0.5 is chance" in card
    assert "NOT BEATEN by the networks" in card
    assert "temperature" in card[card.index("### Calibration") :]
    counted = pd.read_csv(made / paths.SUMMARY / "predictions_valid.csv").query("label == 'abnormal'")
    found = (counted["predicted"] == "abnormal").sum()
    assert f"{found} of {len(counted)} abnormal photographs and" in about


@pytest.mark.parametrize("model", ["regression", "model4", "final"])
def test_pages_name_the_model_that_the_folds_have_and_how_it_was_trained(tmp_path, model):
    root, yaml = bare(tmp_path), YAML()
    params = yaml.load(root / "params.yaml")
    params["crossval"] |= {"model": model, "warm_start": "fold" if model == "final" else "none"}
    yaml.dump(params, root / "params.yaml")
    write_json(root / "metrics/index.json", {"images": 24, "normal": 12, "abnormal": 12, "files": 48, "folds": 3})
    stage(root, "report")
    said = {
        "regression": "a logistic regression (C 0.03, flips both) on features of the frozen EfficientNetLite0",
        "model4": "the network EfficientNetB0, the backbone of model4",
        "final": "the network EfficientNetLite0 (starting weights: imagenet; warm start fold), trained with adam",
    }[model]
    for path in PAGES:
        text = (root / path).read_text()
        assert said in text, path
        assert ("learning rate 0.0003" in text) == (model != "regression"), path


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory):
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_complaint_network_or_horizontal_scroll(made, browser, width, scheme):
    browser.open(made / paths.PAGE, width, scheme)
    assert browser.ask("document.documentElement.scrollWidth") == width
    assert browser.ask("[...document.images].every(one => one.complete && one.naturalWidth > 0 && one.alt)")
    assert browser.ask("document.images.length") > 10
    links = "[...document.querySelectorAll('a[href^=\"#\"]')]"
    assert browser.ask(f"{links}.every(one => document.getElementById(one.hash.slice(1)))")
    assert browser.complaints == []
    assert browser.requests == []


def test_a_table_is_sorted_by_number_with_the_keyboard_and_says_so(made, browser):
    browser.open(made / paths.PAGE)
    head = "document.querySelectorAll('#stage1 ~ .scroll th')[1]"
    column = "[...document.querySelectorAll('#stage1 ~ .scroll tbody tr')].map(row => row.cells[1].dataset.value)"
    browser.ask(f"{head}.querySelector('button').focus()")
    for order, values in (("ascending", ["1e-05", "0.001", "0.01"]), ("descending", ["0.01", "0.001", "1e-05"])):
        browser.ask("document.activeElement.click()")
        assert browser.ask(f"{head}.getAttribute('aria-sort')") == order
        assert browser.ask(column) == values
        assert order in browser.ask("document.getElementById('said').textContent")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_by_four_and_a_half_to_one(made, browser, scheme):
    browser.open(made / paths.PAGE, scheme=scheme)
    worst = browser.ask("""(() => {
      const rgb = name => { const probe = document.createElement("i"); probe.style.color = `var(${name})`;
        document.body.append(probe); const found = getComputedStyle(probe).color.match(/\\d+/g).map(Number);
        probe.remove(); return found; };
      const light = c => c.map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
      const ratio = (a, b) => { const [x, y] = [light(rgb(a)), light(rgb(b))].sort((p, q) => q - p);
        return (x + .05) / (y + .05); };
      const pairs = [["--ink", "--paper"], ["--soft", "--paper"], ["--link", "--paper"], ["--ink", "--wash"],
        ["--soft", "--wash"], ["--ink", "--warn"]];
      return Math.min(...pairs.map(pair => ratio(...pair)));
    })()""")
    assert worst >= 4.5
