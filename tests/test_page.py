"""The report page, the model card and the checklist, in a project with small but real files of folds and a search."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT, run_glaucoma, run_stage
from playwright.sync_api import Page, sync_playwright
from ruamel.yaml import YAML
from test_summary import CONSTANT, fold
from trees import probes

from glaucoma.base import paths
from glaucoma.base.files import read_json, write_csv, write_json
from glaucoma.base.params import load_params
from glaucoma.model.symptoms import FILE, symptoms_table
from glaucoma.report.front import INTERVALS, answer
from glaucoma.report.page import write_pages

PAGES = (paths.PAGE, paths.MODEL_CARD, paths.CHECKLIST)


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def bare(root: Path) -> Path:
    """The shipped parameters, with folds 0 to 2."""
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["crossval"]["folds"] = [0, 1, 2]
    yaml.dump(params, root / "params.yaml")
    return root


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a summary of three folds, one search and a finding with malicious text."""
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
    same = pd.concat([t.assign(fold=k) for k, t in enumerate(same)]).assign(control="regression_average")
    turned = same.assign(control="thumbnail", log_odds=-same["log_odds"].astype(float))
    write_csv(root / paths.CONTROLS / "predictions.csv", pd.concat([same, turned]))
    chance = {"test_auroc": 0.7, "standard_error": 0.01, "at_chance": False, "alarm_from": 0.55}
    copies = {"pairs": 0, "images": 24, "alarm_below": 0.6, "dimension": 20.0}
    write_json(root / paths.CONTROLS_METRICS, {"permuted_average": chance, "near_copies": copies})
    origin = {"name": "EfficientNetLite0", "origin": "ImageNet, from the package <b>", "licence": "Apache-2.0"}
    write_json(root / "models/stage3.json", {"sha256": "0" * 64, "versions": {"keras": "3"}, "backbone": origin})
    run_stage("summary", root)
    pixels = np.random.default_rng(0).integers(0, 255, (24, 32, 32, 3), dtype=np.uint8)
    (root / "data").mkdir()
    np.save(root / paths.PIXELS, pixels)
    pooled = pd.read_csv(root / "reports/summary/predictions.csv", dtype=str)
    write_csv(root / paths.PIXELS_TABLE, pooled[["image"]])
    run_stage("report", root)
    return root


def rewrite_pages(root: Path) -> None:
    """The report's pages again, without its figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_pages(load_params(paths.PARAMS))


def test_the_same_files_give_the_same_bytes(made):
    def written():
        folder = made / paths.FIGURES
        figures = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*.png")}
        return [(made / page).read_bytes() for page in PAGES], figures

    before = written()
    run_stage("report", made)
    assert before == written()
    assert {"roc.png", "confusion.png", "folds.png", "intervals.png", "cost_quality.png"} <= set(before[1])


def test_the_first_line_of_page_and_results_is_what_speaks_against_the_networks(made, monkeypatch, capsys):
    text = (made / paths.PAGE).read_text()
    assert "Warning." not in text
    files = [made / folder / FILE for folder in (paths.fold_files(1)["report"], paths.SUMMARY)]
    for file in files:
        write_csv(file, symptoms_table({"fold 1": [CONSTANT]}))
    rewrite_pages(made)
    said = "1 of 3 folds: answers almost the same for every photograph; probably too little was learnt: raise lr."
    header = (made / paths.PAGE).read_text().partition("<header>")[2]
    assert header.index(said) < header.index("<h1>")
    assert said in (made / paths.MODEL_CARD).read_text()
    monkeypatch.chdir(made)
    capsys.readouterr()
    assert run_glaucoma("results") == 0
    assert capsys.readouterr().out.splitlines()[0] == f"WARNING: {said}"
    for file in files:
        write_csv(file, symptoms_table({}))
    rewrite_pages(made)
    assert (made / paths.PAGE).read_text() == text


def test_the_page_is_small_and_holds_everything_itself(made):
    text = (made / paths.PAGE).read_text()
    assert len(text) < 3_000_000
    assert "http" not in text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_probes_stand_beside_the_scores_as_picture_and_table_and_without_them_the_reason_does(made, tmp_path):
    text = (made / paths.PAGE).read_text()
    scores = text[text.index('<section id="scores">') : text.index('<section id="folds">')]
    assert "condition from thumbnail 0.95" in scores
    assert "every image has the same" in scores
    (made / paths.PROBES).rename(tmp_path / "probes.csv")
    rewrite_pages(made)
    text = (made / paths.PAGE).read_text()
    (tmp_path / "probes.csv").rename(made / paths.PROBES)
    rewrite_pages(made)
    assert f"Missing: {paths.PROBES} does not exist" in text


def test_a_control_that_is_not_beaten_and_labels_that_taught_without_meaning_are_seen_on_the_page(made):
    text = (made / paths.PAGE).read_text()
    assert "regression_average: AUROC" in text
    assert "NOT BEATEN by the networks" in text
    assert "Permutation check FAILED (the bookkeeping of splits)" in text


def test_both_readings_of_the_published_confusions_are_on_the_page(made):
    text = (made / paths.PAGE).read_text()
    published = text[text.index('<section id="published">') : text.index('<section id="made">')]
    assert "Not compared: " in published
    assert "its printed sensitivity is its specificity" in published
    assert published.count("as printed") > published.count("corrected</") == 4


def test_what_is_missing_is_said_with_its_reason(tmp_path):
    run_stage("report", bare(tmp_path))
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
    test = next(one for one in front["model-index"][0]["results"] if one["dataset"]["split"] == "test")
    given = {metric["type"]: metric["value"] for metric in test["metrics"]}
    assert given["recall"] == read_json(made / paths.SUMMARY_METRICS)["test_sensitivity"]
    assert "Not a medical device" in text
    assert "{{" not in text + (made / paths.CHECKLIST).read_text()


def test_the_checklist_has_every_item_of_both_guidelines(made):
    rows = [line.split(" | ") for line in (made / paths.CHECKLIST).read_text().splitlines() if line.startswith("|")][2:]
    claim, tripod = ({item for row in rows for item in row[i].strip("| ").split(", ")} - {""} for i in (0, 1))
    assert claim == {str(number) for number in range(1, 45)}
    parts = dict(re.findall(r"(\d+)(\w+)", "3abc 5ab 6abc 8abc 9abc 12abcdefg 18abcdef 20abc 23ab 27abc"))
    assert tripod == {f"{number}{part}" for number in range(1, 28) for part in parts.get(str(number), [""])}
    assert all(row[3].strip("| ") for row in rows)


def test_the_page_says_in_sentences_what_the_scores_amount_to(made):
    text = (made / paths.PAGE).read_text()
    about = text[text.index('<section id="about">') : text.index('<section id="audit">')]
    table = pd.read_csv(made / paths.SUMMARY / "intervals.csv").set_index(["estimand", "split", "score"])
    row = table.loc[("mean over folds", "valid", "auroc")]
    said = f"AUROC on valid, the mean over folds, is {row['value']:.3f}, with a 95 % interval of {row['low']:.3f}"
    assert said in about
    assert "The best shortcut, thumbnail, reaches 0.95" in about
    assert "trained on the folds' own splits it has 0." in about.replace("&#39;", "'")
    assert "(paired): it " in about
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
    run_stage("report", root)
    said = {
        "regression": "a logistic regression (C 0.03, flips both) on features of the frozen EfficientNetLite0",
        "model4": "the network EfficientNetB0, the backbone of model4",
        "final": "the network EfficientNetLite0 (starting weights: imagenet; warm start fold), trained with adam",
    }[model]
    for path in PAGES:
        text = (root / path).read_text()
        assert said in text, path
        assert ("learning rate 0.00005" in text) == (model != "regression"), path


def around(value: float, low: float, high: float) -> pd.DataFrame:
    about = {"estimand": "mean over folds", "split": "valid", "score": "auroc"}
    return pd.DataFrame([about | {"value": value, "low": low, "high": high}])


SAID = {  # interval of the AUROC, interval of the difference to the shortcut, contamination, shuffled labels at chance
    "Yes: in 93 of 100 pairs": ((0.93, 0.86, 0.97), (0.1, 0.3), 0.0, True),
    "Yes, as far as it goes without a shortcut": ((0.93, 0.86, 0.97), None, 0.0, True),
    "Not for certain": ((0.93, 0.86, 0.97), (-0.1, 0.3), 0.0, True),
    "Perhaps": ((0.93, 0.86, 0.97), (0.1, 0.3), 0.4, True),
    "Not shown": ((0.55, 0.45, 0.65), (0.1, 0.3), 0.0, True),
    "No, it does worse than chance": ((0.35, 0.25, 0.45), (0.1, 0.3), 0.0, True),
    "Not known": ((0.93, np.nan, np.nan), (0.1, 0.3), 0.0, True),
    "Not to be trusted": ((0.93, 0.86, 0.97), (0.1, 0.3), 0.0, False),
}


@pytest.mark.parametrize("start", SAID)
def test_the_answer_says_yes_only_where_chance_shortcuts_and_leaks_are_ruled_out(tmp_path, monkeypatch, start):
    monkeypatch.chdir(tmp_path)
    auroc, apart, seen, at_chance = SAID[start]
    write_csv(INTERVALS, around(*auroc))
    write_json(paths.SUMMARY_METRICS, {"contamination": seen})
    write_json(paths.CONTROLS_METRICS, {"permuted_average": {"test_auroc": 0.6, "at_chance": at_chance}})
    write_csv(paths.PROBES, probes())
    if apart:
        rows = [(control, *apart) for control in ("shortcut", "thumbnail", "regression_average")]
        table = pd.DataFrame(rows, columns=["control", "low", "high"])
        table = table.assign(split="valid", score="auroc", value=0.73, difference=0.2)
        write_csv(paths.SUMMARY / "controls.csv", table)
    params = load_params(ROOT / "params.yaml")
    said = answer(params)
    assert said.startswith(start)
    assert said.endswith(".")
    assert ". " not in said  # it is one sentence
    assert "synthetic eyes" in said or "pairs" not in said
    assert [other for other in SAID if said.startswith(other)] == [start]
    assert ("not shown to beat a regression" in said) is False
    if start.startswith("Yes:"):
        table.loc[table["control"] == "regression_average", "low"] = -0.01
        write_csv(paths.SUMMARY / "controls.csv", table)
        assert answer(params).endswith("; it is not shown to beat a regression on frozen features (73).")


def test_what_depends_on_the_data_is_said_only_where_it_holds(made, tmp_path):
    page, card, listed = ((made / name).read_text() for name in PAGES)
    assert "Starting weights had seen none of the images" in page
    assert "No finding was waived" not in page  # there are no metrics of the audit
    assert "a logistic regression on features" not in page + card + listed
    assert "recalibration, fitted on test" in listed
    assert "One collection of images, cross-validated" in card
    assert "In a false negative it shows" not in page  # no heat was drawn
    bare_page = bare(tmp_path)
    run_stage("report", bare_page)
    page, card, listed = ((bare_page / name).read_text() for name in PAGES)
    for sentence in ("Starting weights had seen none", "a model must beat them", "If networks only equal it"):
        assert sentence not in page
    assert "recalibration" not in listed
    assert "Verdict" not in card
    assert "precision.csv does not exist" in listed


@pytest.fixture(scope="module")
def opened(made: Path) -> Iterator[Callable[..., Page]]:
    """Opens the page in this machine's Chromium at a width in pixels, without a network; console messages fail."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    troubles: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def opens(width: int = 1280, scheme: str = "light") -> Page:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.on("console", lambda said: troubles.append(said.text))
            page.on("pageerror", lambda error: troubles.append(str(error)))
            page.on("request", lambda asked: troubles.append(asked.url) if asked.url.startswith("http") else None)
            page.goto((made / paths.PAGE).as_uri())
            return page

        yield opens
        browser.close()
    assert troubles == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_shows_it_without_horizontal_scroll_and_with_all_pictures_and_links(opened, width, scheme):
    page = opened(width, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0 && one.alt)")
    assert page.locator("img").count() > 10
    links = "[...document.querySelectorAll('a[href^=\"#\"]')]"
    assert page.evaluate(f"{links}.every(one => document.getElementById(one.hash.slice(1)))")


def test_a_table_is_sorted_by_number_with_the_keyboard_and_says_so(opened):
    page = opened()
    page.get_by_role("button", name="Open all").click()
    table = page.locator("#stage1 ~ .scroll").first
    head = table.locator("thead th").nth(1)
    head.locator("button").focus()
    for order, values in (("ascending", ["1e-05", "0.001", "0.01"]), ("descending", ["0.01", "0.001", "1e-05"])):
        page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        assert table.locator("tbody tr > :nth-child(2)").evaluate_all("all => all.map(c => c.dataset.value)") == values
        assert order in page.locator("#said").text_content()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [(1280, "light"), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((1280, "dark"), (390, "light")))],
)
def test_axe_finds_nothing_serious_on_the_page_with_all_of_it_open(opened, width, scheme):
    page = opened(width, scheme)
    page.get_by_role("button", name="Open all").click()
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    found = Axe().run(page).response["violations"]
    told = [f"{one['id']} ({one['impact']}): {one['nodes'][0]['html'][:200]}" for one in found]
    assert not [line for line, one in zip(told, found, strict=True) if one["impact"] in ("serious", "critical")]


def test_the_first_screen_has_question_answer_four_numbers_curves_and_examples_and_the_rest_is_folded(opened):
    page = opened()
    first = page.locator("#answer")
    assert first.locator("h1").text_content().endswith("that it has not seen?")
    assert first.locator(".answer").text_content().startswith("Not to be trusted")  # shuffled labels taught something
    assert first.locator(".numbers dt").all_text_contents() == ["AUROC", "Sensitivity", "Specificity", "Brier score"]
    assert first.locator(".numbers .interval").count() >= 3
    assert first.locator(".roc path.curve").count() == 3 * 2  # models, control, pixels, each with its legend
    assert first.locator(".examples figure img").count() == 6
    assert page.locator("main > section > details").count() == page.locator("nav a").count() - 1
    assert page.locator("main > section > details[open]").count() == 0
    assert page.locator("nav").evaluate("nav => getComputedStyle(nav).position") == "sticky"


def test_a_link_of_the_contents_opens_its_section_by_keyboard_and_paper_shows_all(opened):
    page = opened()
    page.locator('nav a[href="#ladder"]').focus()
    page.keyboard.press("Enter")
    assert page.locator("#ladder > details").evaluate("one => one.open")
    assert not page.locator("#made > details").evaluate("one => one.open")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("main > section > details[open]").count() == 1


def test_every_number_stands_beside_the_name_of_a_file(opened, made):
    page = opened()
    bare = page.evaluate("""() => {
      const held = ["figure", ".scroll", "p", "li", "dl", "details details"];
      return [...document.querySelectorAll("main p, main li, main td, main figcaption, main dd .value")]
        .filter(one => /\\d\\.\\d/.test(one.textContent.replace("0.5 is chance", "")) && !one.closest(".missing"))
        .filter(one => { for (let above = one; above; above = above.parentElement)
          if (above.matches(held.join()) && above.querySelector(".from")) return false;
          return true; })
        .filter(one => !one.closest(".numbers, dl, .photos, section#published, section#answer > .answer"))
        .map(one => one.textContent.slice(0, 90)); }""")
    assert bare == []
    names = page.locator(".from").all_text_contents()
    assert len(names) > 20
    for name in {part.strip() for text in names for part in text.replace(";", ",").split(",") if "/" in part}:
        folders = ("metrics/", "reports/", "models/", "data/")
        assert name.startswith(folders), name


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground_by_four_and_a_half_to_one(opened, scheme):
    worst = opened(scheme=scheme).evaluate("""() => {
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
    }""")
    assert worst >= 4.5
