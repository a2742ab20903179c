"""The page of `glaucoma serve` in a real browser: photographs dropped, heat on click, CSV, keyboard, telephone."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect, sync_playwright
from test_page import CHROMIUM
from test_serve import Server, models, serving
from trees import bomb, jpeg

__all__ = ["models"]  # a fixture

DROP = """([names, contents]) => {
  const carried = new DataTransfer();
  names.forEach((name, i) => carried.items.add(new File([Uint8Array.from(contents[i])], name)));
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: carried, bubbles: true }));
}"""


@pytest.fixture(scope="module")
def server(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("page"), models, "--threshold", "0.5") as found:
        yield found


@pytest.fixture(scope="module")
def guarded(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("guarded"), models / "fold1.onnx", "--host", "0.0.0.0") as found:
        yield found


@pytest.fixture
def opened() -> Iterator[Callable[..., Page]]:
    """Opens the page of a server; what the browser complains of, or asks of anybody else, fails."""
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    troubles: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

        def opens(server: Server, *, path: str = "/", width: int = 1280, scheme: str = "light") -> Page:
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.on("console", lambda said: troubles.append(said.text) if "401" not in said.text else None)
            page.on("pageerror", lambda error: troubles.append(str(error)))
            ours = (server.url, "blob:", "data:")
            page.on("request", lambda asked: None if asked.url.startswith(ours) else troubles.append(asked.url))
            page.goto(server.url + path)
            return page

        yield opens
        browser.close()
    assert troubles == []


def drop(page: Page, files: dict[str, bytes]) -> None:
    page.evaluate(DROP, [list(files), [list(content) for content in files.values()]])


FILES = {f"eye{i}.jpg": jpeg(i, size=300) for i in range(3)} | {"=note.png": b"a note", "large.png": bomb(9000, 9000)}


def test_dropped_photographs_get_rows_heat_and_a_csv(server, opened, tmp_path):
    page = opened(server)
    expect(page.locator("#about")).to_contain_text("2 networks, 32 × 32 pixels")
    drop(page, FILES)
    expect(page.locator("#said")).to_contain_text("2 cannot be read.")
    lines = page.locator("#photographs > tbody > tr")
    assert lines.count() == 5
    told = requests.post(
        f"{server.url}/predict", files=[("photographs", (name, content)) for name, content in FILES.items()], timeout=60
    ).json()["photographs"]
    for i, row in enumerate(told):
        text = lines.nth(i).inner_text()
        assert row["image"] in text
        assert row["decision"] in text.split() or row["fault"]
        known = row["probability"] is not None
        assert (f"{row['probability']:.3f}" if known else f"cannot be read: {row['fault']}") in text
        if row["warnings"]:
            assert row["warnings"] in text
    assert page.locator("canvas").count() == 3

    button = page.get_by_role("button", name="Heat of eye1.jpg")
    button.focus()
    page.keyboard.press("Enter")
    pictures = page.locator(".pair img")
    expect(pictures).to_have_count(2)
    assert pictures.evaluate_all("all => all.every(one => one.complete && one.naturalWidth === 300 && one.alt)")
    expect(page.locator("#heard")).to_contain_text("Heat of eye1.jpg: Occlusion")
    assert button.get_attribute("aria-expanded") == "true"
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    button.press("Space")
    expect(page.locator(".pair")).to_be_hidden()

    with page.expect_download() as begun:
        page.get_by_role("button", name="Download CSV").click()
    assert begun.value.suggested_filename == "predictions.csv"
    table = list(csv.DictReader(io.StringIO(Path(begun.value.path()).read_text("utf-8-sig"))))
    assert [line["image"] for line in table] == ["eye0.jpg", "eye1.jpg", "eye2.jpg", "'=note.png", "large.png"]
    for line, row in zip(table, told, strict=True):
        assert line["decision"] == row["decision"]
        assert line["fault"] == row["fault"]
        assert line["warnings"] == row["warnings"]
        assert (float(line["probability"]) if line["probability"] else None) == row["probability"]
        assert (float(line["spread"]) if line["spread"] else None) == row["spread"]

    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#photographs")).to_be_hidden()


def test_another_threshold_decides_anew_without_sending_anything(server, opened):
    page = opened(server)
    drop(page, {name: FILES[name] for name in ("eye0.jpg", "eye1.jpg")})
    expect(page.locator("#said")).to_contain_text("2 photographs")
    expect(page.locator("#said")).not_to_contain_text("to go")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.get_by_label("Abnormal from a probability of").select_option("")
    for threshold, word in (("0", "abnormal"), ("1", "normal")):
        page.get_by_label("Threshold, 0 to 1").fill(threshold)
        counted = "2 abnormal, 0 normal" if word == "abnormal" else "0 abnormal, 2 normal"
        expect(page.locator("#said")).to_have_text(f"2 photographs: {counted}, 0 cannot be read.")
        assert page.locator("tbody td:nth-child(3)").all_inner_texts() == [word] * 2
    assert asked == []


def test_a_folder_is_looked_through_for_photographs(server, opened, tmp_path):
    for name in ("one/a.jpg", "one/two/b.JPG", "one/notes.txt", "one/two/.hidden", "one/DICOMDIR"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(FILES["eye0.jpg"])
    page = opened(server)
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a folder").press("Enter")
    chooser.value.set_files(tmp_path / "one")
    expect(page.locator("#said")).to_contain_text("2 photographs")
    expect(page.locator("tbody")).to_contain_text("one/two/b.JPG")


def test_where_a_token_is_needed_the_printed_address_has_it_or_the_page_asks(guarded, opened):
    page = opened(guarded, path=f"/#token={guarded.token}")
    expect(page.locator("#about")).to_contain_text("Model fold1.onnx")
    assert page.url == f"{guarded.url}/"
    page = opened(guarded)
    drop(page, {"eye.jpg": FILES["eye0.jpg"]})
    page.get_by_label("Token").fill(guarded.token)
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_contain_text("1 photograph:")
    expect(page.locator("#said")).not_to_contain_text("to go")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_telephone_and_every_control_has_a_name(server, opened, width, scheme):
    page = opened(server, width=width, scheme=scheme)
    drop(page, {"a long name " * 8 + ".jpg": FILES["eye0.jpg"], "=note.png": b"a note"})
    page.get_by_role("button", name="Heat of").click()
    expect(page.locator(".pair img")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    nameless = """[...document.querySelectorAll("button, select, input:not([hidden])")]
      .filter(one => !(one.textContent.trim() || one.labels?.length || one.ariaLabel)).length"""
    assert page.evaluate(nameless) == 0
    found = Axe().run(page).response["violations"]
    assert [f"{one['id']}: {one['nodes'][0]['html']}" for one in found] == []
