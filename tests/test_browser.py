"""The page of `segkit report` in Chromium: it opens, plays, moves its playhead, and filters."""

import shutil
from contextlib import contextmanager

import pytest
from support import report_on_changed

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine")]

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
)
"""Root has no sandbox, and a test needs no network."""


@pytest.fixture(scope="module")
def browser():
    """Chromium, running."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser):
    """Opens a page in a window of its own; when a test has ended, nothing was printed or asked for."""

    @contextmanager
    def window(path, **view):
        said, asked = [], []
        page = browser.new_page(**{"viewport": {"width": 1200, "height": 900}} | view)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url[:60]))
        page.goto(path.as_uri())
        yield page
        page.close()
        assert not said and all(url.startswith(("file:", "data:")) for url in asked)

    return window


@pytest.fixture(scope="module")
def report(small, tmp_path_factory):
    """A page about a dataset of two corpora; tests only open it."""
    folder = tmp_path_factory.mktemp("report")
    report_on_changed(small, folder, lambda row: {"corpus": "small" if row["id"] < "4" else "big"}, per_axis=2)
    return folder / "changed.html"


@pytest.fixture
def tab(opened, report):
    """The page of `report`, open."""
    with opened(report) as page:
        yield page


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


def test_space_shows_what_it_plays(tab):
    tab.locator(".play").first.click()
    tab.keyboard.press("Space")
    tab.evaluate("document.activeElement.blur(); scrollTo({top: 0, behavior: 'instant'})")
    tab.keyboard.press("Space")
    tab.wait_for_function("document.querySelector('.playing') && scrollY > 0")
    tab.wait_for_function("document.querySelector('.playing .lane').getBoundingClientRect().top < innerHeight")


def test_elsewhere_keys_are_the_browsers(tab):
    for place in ("#counts .scroll", "nav a"):
        tab.locator(place).first.focus()
        for key in ("Space", "j", "3", "ArrowRight"):
            tab.keyboard.press(key)
        assert not tab.locator(".playing, .current").count() and not tab.locator(".clip:not(:visible)").count()


def test_arrows_move_the_chosen_segment(tab):
    """Wherever the focus is: on nothing after the space bar, and on nothing after a filter has hidden the segment."""
    tab.keyboard.press("Space")
    tab.keyboard.press("Space")
    tab.evaluate("document.activeElement.blur()")
    now = "document.querySelector('.current audio').currentTime"
    before_s = tab.evaluate(now)
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate(now) == pytest.approx(before_s + 1, abs=0.1)
    tab.keyboard.press("4")
    assert not tab.locator(".current").count()
    tab.keyboard.press("j")
    tab.keyboard.press("ArrowRight")
    assert tab.evaluate(now) == pytest.approx(1, abs=0.1)
    assert tab.locator(".current").get_attribute("data-axis") == "interruption"


def test_the_picture_is_a_slider(tab):
    picture = tab.locator(".picture").first
    start_s = float(picture.get_attribute("data-start"))
    assert picture.get_attribute("aria-valuetext") == f"{start_s:.1f} seconds"
    picture.focus()
    for key, moved_s in (("ArrowUp", 1), ("ArrowUp", 2), ("ArrowDown", 1), ("PageUp", 6), ("Home", 0)):
        tab.keyboard.press(key)
        assert float(picture.get_attribute("aria-valuenow")) == pytest.approx(start_s + moved_s, abs=0.02)
    label = tab.locator(".clip").first.get_attribute("aria-label")
    button = tab.locator(".play").first
    assert button.get_attribute("aria-label") == f"Play {label}"
    button.click()
    tab.wait_for_function("document.querySelector('.playing')")
    assert button.get_attribute("aria-label") == f"Pause {label}"


def test_pictures_without_sound_scroll(opened, small, tmp_path):
    report_on_changed(small, tmp_path, lambda row: {"user": None, "agent": None})
    with opened(tmp_path / "changed.html", viewport={"width": 360, "height": 740}) as page:
        scroll = page.locator(".clip .scroll").first
        before = scroll.evaluate("e => [e.scrollLeft, e.scrollWidth > e.clientWidth]")
        assert before[0] > 0 and before[1]  # it opens on the segment, not on its context
        scroll.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function(f"document.querySelector('.clip .scroll').scrollLeft > {before[0]}")
        page.keyboard.press("Space")
        page.wait_for_function("scrollY > 0")


def test_a_corpus_is_chosen(tab):
    tab.get_by_label("Filter by corpus").select_option("small")
    tab.locator("[data-filter=pause]").click()
    clips = tab.locator(".clip:visible").all()
    shown = {(clip.get_attribute("data-corpus"), clip.get_attribute("data-axis")) for clip in clips}
    assert shown == {("small", "pause")}


CONTRAST = """([selector, property]) => {
  const paint = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = (colour) => {
    paint.fillStyle = colour;
    paint.fillRect(0, 0, 1, 1);
    const [r, g, b] = [...paint.getImageData(0, 0, 1, 1).data].map((n) => n / 255)
      .map((n) => n <= .03928 ? n / 12.92 : ((n + .055) / 1.055) ** 2.4);
    return .2126 * r + .7152 * g + .0722 * b + .05;
  };
  const found = document.querySelector(selector);
  const ground = getComputedStyle(found.closest(".clip") || document.body).backgroundColor;
  const [a, b] = [light(getComputedStyle(found)[property]), light(ground)];
  return Math.max(a, b) / Math.min(a, b);
}"""
"""WCAG's contrast of an element with the ground it stands on."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_from_the_ground(opened, report, scheme):
    texts = [".stage .name.user", ".stage .name.agent", ".event em", ".note", ".clip dt", ".word"]
    marks = [(".histogram rect", "fill"), (".bars u", "backgroundColor"), (".picture polygon", "fill")]
    with opened(report, color_scheme=scheme) as page:
        found = {selector: page.evaluate(CONTRAST, [selector, "color"]) for selector in texts}
        assert min(found.values()) >= 4.5, found
        found = {selector: page.evaluate(CONTRAST, [selector, name]) for selector, name in marks}
        assert min(found.values()) >= 3, found


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
