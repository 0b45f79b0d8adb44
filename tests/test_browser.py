"""The page of `segkit report` in Chromium: it opens, plays, moves its playhead, and filters."""

import shutil

import pytest

from segkit.report.page import write_report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")]

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
)
"""Root has no sandbox, and a test needs no network."""


@pytest.fixture
def tab(dataset, tmp_path):
    """A page about the dataset, open; nothing was printed to the console, nothing asked for, when a test has ended."""
    from playwright.sync_api import sync_playwright

    write_report(dataset.out, tmp_path / "report.html", per_axis=2)
    said, asked = [], []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url[:60]))
        page.goto((tmp_path / "report.html").as_uri())
        yield page
        browser.close()
    assert not said and all(url.startswith(("file:", "data:")) for url in asked)


HEAD = "parseFloat(document.querySelector('.current .playhead').style.left)"
"""Where the playhead of the chosen segment stands, in percent."""


def test_a_segment_plays_and_its_playhead_moves(tab):
    tab.keyboard.press("Space")
    tab.wait_for_function(f"{HEAD} > 2")
    assert tab.locator(".playing").count() == 1
    assert tab.evaluate("document.querySelector('.playing audio').currentTime") > 0
    tab.keyboard.press("j")  # the next one takes over
    tab.wait_for_function(f"{HEAD} > 1")
    assert tab.locator(".playing").count() == 1
    tab.keyboard.press("Space")
    box = tab.locator(".current .picture").bounding_box()
    tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + 60)
    assert tab.evaluate(HEAD) == pytest.approx(50, abs=1)
    length_s, at_s = (
        tab.evaluate(f"document.querySelector('.current audio').{x}") for x in ("duration", "currentTime")
    )
    assert at_s == pytest.approx(length_s / 2, rel=0.02)


def test_keys_filter_by_axis(tab):
    every = tab.locator(".clip").count()
    assert tab.locator(".clip:visible").count() == every > 2
    tab.keyboard.press("3")
    assert {clip.get_attribute("data-axis") for clip in tab.locator(".clip:visible").all()} == {"backchannel"}
    tab.get_by_role("button", name="pause").click()
    assert {clip.get_attribute("data-axis") for clip in tab.locator(".clip:visible").all()} == {"pause"}
    tab.keyboard.press("0")
    assert tab.locator(".clip:visible").count() == every


def test_a_phone_scrolls_down_only(tab):
    tab.set_viewport_size({"width": 320, "height": 640})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 320
