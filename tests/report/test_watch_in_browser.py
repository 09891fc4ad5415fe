"""The page that plays drives, in a browser."""

import re
import time

import numpy as np
import pytest

from beamkd.report.watch import page
from tests.report.browser import CHROMIUM, Browser
from tests.report.made_up import FRAMES, NAMES, OBSERVED, drives

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")

WIDE, NARROW = 1280, 390


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def arrays():
    return drives()


@pytest.fixture(scope="module")
def file(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "watch.html"
    path.write_text(page(arrays, NAMES, "Data: made up."), "utf-8")
    return path


@pytest.fixture(scope="module", params=[WIDE, NARROW])
def window(browser, file, request):
    browser.open(file, request.param)
    return browser


@pytest.fixture
def opened(window):
    """The page, paused at the first guess of the first network along the first drive."""
    choose(window, "network", 0)
    choose(window, "drive", 0)
    return window


def shown(browser):
    """The number of the frame, from 0; the page counts from 1."""
    words = browser.value("document.getElementById('clock').textContent").split()
    assert words[0] == "frame"
    return int(words[1]) - 1


def click(browser, name):
    browser.value(f"document.getElementById('{name}').click()")


def choose(browser, name, place):
    at = f"document.getElementById('{name}')"
    browser.value(f"{at}.value = {place}, {at}.dispatchEvent(new Event('change'))")


def scrub(browser, frame):
    at = "document.getElementById('frame')"
    browser.value(f"{at}.value = {frame}, {at}.dispatchEvent(new Event('input'))")


def mistakes(arrays, drive, network):
    """Frames of a drive in which a network's likeliest beam is not the best."""
    own = arrays["drive"] == np.unique(arrays["drive"])[drive]
    first = arrays["beams"][network, own, 0, 0]
    return np.flatnonzero((first >= 0) & (first != arrays["power"][own].argmax(-1))).tolist()


def troubles(browser):
    """Errors that the browser told of."""
    kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Network.loadingFailed")
    return [event for event in browser.events if event[0] in kinds]


def requests(browser):
    sent = [params["request"]["url"] for method, params in browser.events if method == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith("data:")]


def test_the_page_opens_without_trouble_and_asks_for_nothing_else(opened, file, tmp_path):
    assert shown(opened) == OBSERVED - 1
    for drive in (1, 0):
        choose(opened, "drive", drive)
    opened.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert requests(opened) == [file.as_uri()] and not troubles(opened)


def test_nothing_is_wider_than_the_window(opened):
    width = opened.value("innerWidth")
    assert opened.value("document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('body *')].filter(e => !e.closest('.table, svg, option, head'))"
    assert opened.value(f"Math.max(...{wide}.map(e => e.getBoundingClientRect().right))") <= width


def test_scrubbing_shows_the_frame(opened):
    for frame in (0, 17, FRAMES[0] - 1):
        scrub(opened, frame)
        assert shown(opened) == frame
    assert opened.value("document.getElementById('frame').getAttribute('aria-valuetext')").startswith("frame 30 of 30")


@pytest.mark.parametrize("network", [0, 1])
def test_next_mistake_is_the_next_frame_in_which_the_network_is_wrong(opened, arrays, network):
    choose(opened, "network", network)
    scrub(opened, 0)
    found = []
    for _ in mistakes(arrays, 0, network):
        click(opened, "mistake")
        found.append(shown(opened))
        assert opened.value("document.getElementById('outcome').textContent") == "✗ Mistake"
    assert found == mistakes(arrays, 0, network)
    opened.press("n", "n")
    assert opened.value("document.getElementById('drive').value") == "1"
    assert shown(opened) == mistakes(arrays, 1, network)[0]


def test_what_a_mistake_costs_is_said(opened, arrays):
    frame = mistakes(arrays, 1, 0)[-1]
    choose(opened, "drive", 1)
    scrub(opened, frame)
    power, beam = arrays["power"][FRAMES[0] + frame].astype(float), arrays["beams"][0, FRAMES[0] + frame, 0, 0]
    lost, share = 10 * np.log10(power.max() / power[beam]), arrays["probabilities"][0, FRAMES[0] + frame, 0, 0]
    said = opened.value("document.getElementById('cost').textContent").replace("\u00a0", " ")
    found = float(re.search(r"It loses (\S+) dB", said)[1])
    assert f": beam {beam} ({100 * share:.0f} % sure), but beam {power.argmax()} is the best" in said
    assert found == pytest.approx(lost, abs=0.056)
    row = opened.value("document.querySelector('tr.chosen td').textContent").replace("\u00a0", " ")
    assert row.startswith(f"{beam} · {100 * share:.0f} %✗ −")


def test_it_plays_and_pauses_and_stops_at_the_end(opened):
    scrub(opened, 0)
    for _ in range(6):
        click(opened, "faster")
    click(opened, "play")
    assert opened.value("document.getElementById('play').textContent") == "Pause"
    deadline = time.monotonic() + 10
    while shown(opened) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    click(opened, "play")
    stopped = shown(opened)
    time.sleep(0.15)
    assert shown(opened) == stopped and opened.value("document.getElementById('play').textContent") == "Play"
    scrub(opened, FRAMES[0] - 2)
    click(opened, "play")
    while opened.value("document.getElementById('play').textContent") == "Pause":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert shown(opened) == FRAMES[0] - 1


def test_keys_do_what_buttons_do(opened):
    scrub(opened, 10)
    for key, frame in {"ArrowRight": 11, "ArrowLeft": 10, "End": FRAMES[0] - 1, "Home": 0}.items():
        opened.press(key)
        assert shown(opened) == frame
    speed = opened.value("document.getElementById('speed').textContent")
    opened.press("-", "-")
    assert opened.value("document.getElementById('speed').textContent") != speed
    opened.press("+", "+")
    assert opened.value("document.getElementById('speed').textContent") == speed
    opened.press(" ", " ")
    assert opened.value("document.getElementById('play').textContent") == "Pause"
    opened.press(" ", " ")
    assert opened.value("document.getElementById('play').textContent") == "Play"


def test_what_has_the_focus_keeps_its_keys_and_shows_it(opened):
    scrub(opened, 10)
    opened.value("document.getElementById('frame').focus()")
    opened.press("ArrowRight")
    assert shown(opened) == 11
    opened.value("document.getElementById('play').focus()")
    opened.press(" ", " ")
    assert opened.value("document.getElementById('play').textContent") == "Pause"
    opened.value("document.getElementById('drive').focus()")
    opened.press("n", "n")
    assert opened.value("document.getElementById('play').textContent") == "Pause"
    assert opened.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_whatever_can_be_used_has_a_name(opened):
    roots = "[...document.querySelectorAll('button, select, input, canvas')]"
    named = "e => (e.textContent.trim() && e.tagName === 'BUTTON') || e.labels?.length || e.getAttribute('aria-label')"
    assert opened.value(f"{roots}.filter(e => !({named})(e)).map(e => e.id)") == []


def test_colours_follow_the_browser(browser, file):
    found = []
    for dark in (False, True):
        browser.open(file, WIDE, dark=dark)
        found.append(browser.value("getComputedStyle(document.body).backgroundColor"))
    assert found[0] != found[1] and not troubles(browser)
