"""The Space in real Chromium, as visitors use it. Screenshots are kept in outputs/screenshots."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.spaces.conftest import COUNTS, SHOTS, TIMEOUT_MS
from tests.spaces.hostile import write_hostile

DRAWN = "document.querySelector('#status')?.innerText.includes(' s ·')"
TOTAL = sum(COUNTS.values())


def shot(page, name):
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=True)


def upload(page, *files):
    page.locator("#subjects input[type=file]").first.set_input_files([str(file) for file in files])


def toast(page):
    """The message that has come up, which also stays beside the results."""
    page.wait_for_selector("[data-testid=toast-body]")
    return page.locator("[data-testid=toast-body]").last.inner_text()


def pixels(page, selector):
    """An element as it is seen, (H, W, 3)."""
    return np.array(Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB"), int)


def put_number(page, label, value):
    field = page.get_by_label(f"number input for {label}")
    field.fill(str(value))
    field.press("Tab")
    page.wait_for_function("([label, value]) => [...document.querySelectorAll('input[type=range]')].some(e => "
                           "e.ariaLabel.endsWith(' ' + label) && e.value === value)", arg=[label, str(value)])


def open_scene(page, photo):
    page.get_by_role("button", name="Put it into a scene").click()
    page.wait_for_selector("#scene canvas")
    page.locator("#scene input[type=file]").first.set_input_files(str(photo))
    page.wait_for_timeout(1500)       # nothing in the page says that the canvas has its picture


def paint(page):
    page.locator("#scene button[aria-label=Brush]").click()
    page.locator("#scene canvas").first.scroll_into_view_if_needed()
    box = page.locator("#scene canvas").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x - 40, y)
    page.mouse.down()
    page.mouse.move(x + 40, y + 30, steps=8)
    page.mouse.up()
    page.wait_for_timeout(500)


def test_upload_paint_run_and_compare(page, photo):
    upload(page, photo)
    page.wait_for_selector("#subjects .thumbnail-item img")
    page.get_by_label("Prompt").fill("a mug on the moon")
    page.get_by_role("button", name="Settings", exact=False).first.click()
    put_number(page, "Pictures", 2)
    put_number(page, "Steps", 3)
    open_scene(page, photo)
    paint(page)
    page.get_by_role("button", name="Draw", exact=True).click()
    page.wait_for_function(DRAWN)
    assert page.locator("#status").inner_text().startswith("2 pictures in")
    assert page.locator("#pictures .thumbnail-item").count() == 2
    page.wait_for_timeout(800)
    shot(page, "drawn_into_a_scene")

    handle = page.get_by_role("slider", name="Before and after")
    middle = pixels(page, "#slider")
    box = handle.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] - 150, box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    assert handle.bounding_box()["x"] < box["x"] - 100
    assert (np.abs(pixels(page, "#slider") - middle).max(-1) > 10).any(), "more of the result is seen"
    before = handle.bounding_box()["x"]
    handle.focus()
    page.keyboard.press("ArrowRight")
    assert handle.bounding_box()["x"] > before + 5, "the keyboard moves it too"

    first = page.locator("#slider img").nth(1).get_attribute("src")
    page.locator("#pictures .thumbnail-item").nth(1).click()
    page.wait_for_function("old => document.querySelectorAll('#slider img')[1]?.src !== old", arg=first)


def test_examples_work_at_the_first_click(page):
    for name in ("Duck in the snow", "Cat on the moon"):
        page.evaluate("document.querySelector('#status').innerHTML.length")
        old = page.locator("#status").inner_text()
        page.get_by_role("button", name=name).click()
        page.wait_for_function(f"old => {DRAWN} && document.querySelector('#status').innerText !== old", arg=old)
        assert page.locator("#slider img").count() == 2


def test_friendly_errors(page, photo, tmp_path):
    page.get_by_role("button", name="Draw", exact=True).click()
    assert "Add a photo of your subject first" in toast(page)
    upload(page, write_hostile(tmp_path)["text"])
    page.wait_for_function("document.body.innerText.includes('cannot be read as a picture')")
    upload(page, photo)
    page.wait_for_selector("#subjects .thumbnail-item img")
    page.get_by_label("Prompt").fill("x" * 10_000)
    page.get_by_role("button", name="Draw", exact=True).click()
    page.wait_for_function("document.body.innerText.includes('The prompt has 10,000 characters')")
    shot(page, "friendly_errors")
    page.get_by_label("Prompt").fill("<img src=x onerror=\"document.title='hacked'\"><b>a mug</b>")
    open_scene(page, photo)
    page.get_by_role("button", name="Draw", exact=True).click()
    page.wait_for_function("document.body.innerText.includes('Paint on the scene')")
    page.get_by_label("On the left").check()
    page.get_by_role("button", name="Draw", exact=True).click()
    page.wait_for_function(DRAWN)
    assert page.title() == "Toffee"


def open_dataset(page):
    page.get_by_role("tab", name="Dataset").click()
    page.wait_for_selector("#pairs li.pair")


def test_filter_the_dataset(page):
    open_dataset(page)
    assert page.locator("#summary strong").inner_text() == str(TOTAL)
    page.get_by_label("kept", exact=True).uncheck()
    page.wait_for_function(f"document.querySelector('#summary strong').innerText === '{COUNTS['rejected']}'")
    assert page.locator("#pairs .verdict.rejected").count() == COUNTS["rejected"]
    page.get_by_label("kept", exact=True).check()
    page.wait_for_function(f"document.querySelector('#summary strong').innerText === '{TOTAL}'")

    slider = page.get_by_label("range slider for Same subject: at least (seg_dino)")
    slider.focus()
    slider.evaluate("e => { e.value = 0.7; e.dispatchEvent(new Event('input', { bubbles: true })) }")
    page.wait_for_function(f"document.querySelector('#summary strong').innerText !== '{TOTAL}'")
    kept = page.locator("#keeps-seg_dino b").inner_text()
    assert 0 < int(kept) < TOTAL and page.locator("#summary strong").inner_text() == kept
    page.keyboard.press("ArrowRight")
    page.get_by_label("style", exact=True).uncheck()
    page.wait_for_function("!document.querySelector('#pairs').innerText.includes('style ·')")
    shot(page, "dataset_filtered")


def test_every_control_and_picture_has_a_name(page):
    page.get_by_role("button", name="Cat on the moon").click()
    page.wait_for_function(DRAWN)
    page.get_by_role("button", name="Settings", exact=False).first.click()
    open_dataset(page)
    unnamed = page.evaluate("""() => [...document.querySelectorAll('button, input, select, textarea, [role=slider]')]
        .filter(e => e.offsetParent && e.type !== 'file')
        .filter(e => !(e.innerText || e.ariaLabel || e.title || e.labels?.length || e.alt))
        .map(e => e.outerHTML.slice(0, 200))""")
    assert unnamed == []
    assert page.evaluate("[...document.querySelectorAll('#pairs img')].every(e => e.alt)")
    assert page.evaluate("document.documentElement.lang") and page.locator("h1").count() == 1


def test_tab_goes_through_the_page_in_its_order(page):
    wanted = ["Draw", "Duck in the snow", "Cat on the moon", "a duck in the snow", "Put it into a scene of yours"]
    page.get_by_role("tab", name="Draw").wait_for()
    seen = []
    for _ in range(20):
        page.keyboard.press("Tab")
        name, outline = page.evaluate("""(e => e === document.body ? ['', ''] : [(e.ariaLabel || e.innerText
            || e.placeholder || '').trim(), getComputedStyle(e).outlineStyle])(document.activeElement)""")
        seen += [name] if name else []        # after the last control comes the page itself
        assert outline == ("solid" if name else ""), name
    places = [next(i for i, name in enumerate(seen) if name.startswith(part)) for part in wanted]
    assert places == sorted(places)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1600])
def test_it_fits(browser, space, width, scheme):
    context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(TIMEOUT_MS)
    page.goto(space.url)
    page.wait_for_selector("#draw")
    page.get_by_role("button", name="Cat on the moon").click()
    page.wait_for_function(DRAWN)
    page.wait_for_timeout(1000)
    shot(page, f"draw_{width}_{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    open_dataset(page)
    page.wait_for_timeout(500)
    shot(page, f"dataset_{width}_{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    context.close()
