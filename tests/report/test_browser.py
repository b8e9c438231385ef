"""The report in a real browser: Debian's Chromium, headless. Skipped where there is none."""

import base64
import dataclasses
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from crackflow.core.config.search import TuneConfig
from crackflow.data import overlays, reviews
from crackflow.evaluation import metrics, results, slices
from crackflow.report import findings_page, rendering, run_page, search_page
from tests.helpers import inspections, predictions, review_files, search_results
from tests.helpers.evaluations import evaluation, report
from tests.helpers.trials import outcome

BROWSER, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs Chromium and ChromeDriver (Debian: chromium-driver)"),
    pytest.mark.xdist_group("browser"),
]
WIDE, NARROW = (1280, 900), (390, 800)


def full(name="metu", wrong=6):
    """An evaluation that has every section."""
    whole = evaluation(wrong=wrong, name=name)
    picture = overlays.as_png(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    mistakes = [results.Mistake(f"Positive/{field}.jpg", "Positive", 0.05, picture) for field in range(3)]
    sharpness = {"sharpness": np.arange(200.0), "crack width": np.where(whole.labels, np.arange(200.0), np.nan)}
    return results.Evaluation(
        **{
            field: getattr(whole, field) for field in ("name", "split", "metrics", "labels", "probabilities", "classes")
        },
        mistakes=mistakes,
        review={
            "low": 0.3,
            "high": 0.5,
            "count": 4,
            "share": 0.02,
            "accuracy": 0.98,
            "accuracy_ci95": [0.95, 0.99],
            "missed": 2,
        },
        suspects=mistakes,
        slices=slices.divide(whole.labels, whole.probabilities >= 0.37, sharpness, {"folder": ["a", "b"] * 100}),
    )


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    quiet = ("--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run")
    folder = tmp_path_factory.mktemp("browser")
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", *quiet, f"--user-data-dir={folder}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(autouse=True)
def leave_page(browser):
    """What the browser says of a page that warns before it is left does not reach the next test."""
    yield
    browser.get("about:blank")
    browser.get_log("browser")


@pytest.fixture(scope="module")
def report_path(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    run_page.write(report(evaluations=[full(), full("walls", wrong=40)]), path)
    return path


@pytest.fixture
def open_page(browser, report_path):
    browser.set_window_size(*WIDE)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    browser.get(report_path.as_uri())
    browser.execute_script(
        "document.documentElement.style.scrollBehavior = 'auto'"
    )  # a click must not meet a moving page
    return browser


def texts(driver, selector):
    return [element.text for element in driver.find_elements(By.CSS_SELECTOR, selector)]


def test_the_page_loads_without_an_error_or_a_request(open_page):
    assert open_page.get_log("browser") == []
    requested = open_page.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    assert [url for url in requested if not url.startswith("data:")] == []


def test_an_injected_script_does_not_run(browser, tmp_path):
    nasty = full(name="<img src=x onerror='document.title=1'><script>document.title=2</script>")
    run_page.write(report(evaluations=[nasty], title="quiet"), tmp_path / "report.html")
    browser.get((tmp_path / "report.html").as_uri())
    browser.execute_script(
        "const s = document.createElement('script'); s.text = 'document.title=3'; document.body.append(s)"
    )
    assert browser.title == "quiet"
    assert "Content Security Policy" in browser.get_log("browser")[0]["message"]


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.1, 0.5, 0.905, 1.0])
def test_the_slider_recomputes_the_matrix_and_the_rates(open_page, threshold):
    box = open_page.find_element(By.CSS_SELECTOR, ".threshold")
    slider = box.find_element(By.TAG_NAME, "input")
    open_page.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))", slider, threshold
    )
    sample = full()
    expected = metrics.measure(sample.labels, sample.probabilities, np.arange(200), threshold, 2, 0)
    displayed = {
        part.get_dom_attribute("data-is"): part.text for part in box.find_elements(By.CSS_SELECTOR, "[data-is]")
    }
    assert displayed["threshold"] == f"{threshold:.3f}"
    assert {name: int(displayed[name]) for name in ("tn", "fp", "fn", "tp")} == expected["confusion"]
    for name in ("accuracy", "recall", "specificity", "precision", "f1"):
        assert displayed[name].replace("\u00a0", " ") == rendering.percent(expected[name]).replace("\u00a0", " "), name


def test_the_slider_starts_at_the_models_threshold_and_comes_back_to_it(open_page):
    box = open_page.find_element(By.CSS_SELECTOR, ".threshold")
    slider, before = box.find_element(By.TAG_NAME, "input"), texts(box, "[data-is]")
    assert before[0] == "0.370" and before[1:5] == ["100", "0", "6", "94"]
    slider.send_keys(Keys.END)
    assert texts(box, "[data-is]")[0] == "1.000"
    box.find_element(By.TAG_NAME, "button").click()
    assert texts(box, "[data-is]") == before


def test_a_threshold_between_two_places_of_the_slider_is_the_one_that_counts(browser, tmp_path):
    sample = full()
    probabilities = sample.probabilities.copy()
    probabilities[0] = 0.3702  # the slider stands at 0.370, the threshold lies above
    measured = metrics.measure(sample.labels, probabilities, np.arange(200), 0.3704, 2, 0)
    between = dataclasses.replace(sample, probabilities=probabilities, metrics=measured)
    run_page.write(report(evaluations=[between]), tmp_path / "report.html")
    browser.get((tmp_path / "report.html").as_uri())
    box = browser.find_element(By.CSS_SELECTOR, ".threshold")
    expected = [str(measured["confusion"][name]) for name in ("tn", "fp", "fn", "tp")]
    assert texts(box, "[data-is]")[1:5] == expected
    box.find_element(By.TAG_NAME, "input").send_keys(Keys.END)
    assert texts(box, "[data-is]")[1:5] != expected
    box.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert texts(box, "[data-is]")[1:5] == expected


def test_tables_sort_by_any_column_both_ways(open_page):
    table = open_page.find_element(By.CSS_SELECTOR, "#slices table")
    headings = table.find_elements(By.TAG_NAME, "button")

    def column(number):
        cells = table.find_elements(By.CSS_SELECTOR, f"tbody tr td:nth-child({number})")
        return [cell.get_dom_attribute("data-value") for cell in cells]

    headings[4].click()
    up = [float(value) for value in column(5)]
    assert up == sorted(up) and len(set(up)) > 1
    headings[4].click()
    assert [float(value) for value in column(5)] == up[::-1]
    headings[6].click()  # specificity, which the slices of crack width do not have
    values = [float(value) for value in column(7)]
    known = [value for value in values if value == value]
    assert known == sorted(known) and all(value != value for value in values[len(known) :]) and len(known) < len(values)
    headings[0].click()
    kinds = texts(table, "tbody tr td:first-child")
    assert kinds == sorted(kinds)
    assert table.find_elements(By.TAG_NAME, "th")[0].get_dom_attribute("aria-sort") == "ascending"


def test_pictures_enlarge_and_close_by_mouse_and_keyboard(open_page):
    image, dialog = (open_page.find_element(By.CSS_SELECTOR, selector) for selector in (".gallery img", "dialog"))
    small = image.size["width"]
    assert not dialog.is_displayed()
    open_page.execute_script("arguments[0].scrollIntoView({behavior: 'instant', block: 'center'})", image)
    image.click()
    large = dialog.find_element(By.TAG_NAME, "img")
    assert dialog.is_displayed() and large.size["width"] > 2 * small
    assert "Positive/0.jpg" in dialog.text and "missed crack" in dialog.text
    large.click()
    assert not dialog.is_displayed()
    image.send_keys(Keys.ENTER)
    assert dialog.is_displayed()
    webdriver.ActionChains(open_page).send_keys(Keys.ESCAPE).perform()
    assert not dialog.is_displayed()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_page_fits_and_can_be_read_in_light_and_dark_narrow_and_wide(open_page, scheme, size):
    open_page.set_window_size(*size)
    device = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    open_page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    open_page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        assert open_page.execute_script("return document.documentElement.scrollWidth") <= size[0]
        text, ground = open_page.execute_script(
            "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
        )
        assert contrast(text, ground) > 7
        assert (brightness(ground) > 0.5) == (scheme == "light")
        fallen = open_page.execute_script("return getComputedStyle(document.querySelector('td.fallen')).color")
        assert contrast(fallen, ground) > 4.5
    finally:
        open_page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def brightness(colour):
    """Relative luminance of 'rgb(r, g, b)', as WCAG 2 defines it."""
    parts = [float(channel) / 255 for channel in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4 for channel in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a, b):
    high, low = sorted((brightness(a), brightness(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def require_readable(browser, selector):
    """The text of the first element that matches has a contrast above 4.5 to what lies behind it."""
    text, ground = browser.execute_script(
        "let one = document.querySelector(arguments[0]); const text = getComputedStyle(one).color; let ground;"
        "do ground = getComputedStyle(one).backgroundColor; while (ground === 'rgba(0, 0, 0, 0)' && (one = "
        "one.parentElement)); return [text, ground]",
        selector,
    )
    assert contrast(text, ground) > 4.5, (selector, text, ground)


def test_the_contents_lead_to_every_section(open_page):
    for link in open_page.find_elements(By.CSS_SELECTOR, "nav a"):
        anchor = link.get_dom_attribute("href")[1:]
        assert open_page.find_element(By.ID, anchor).find_element(By.TAG_NAME, "h2").text.startswith(link.text)


def test_what_is_worse_than_on_the_first_data_set_is_red(open_page):
    rows = open_page.find_elements(By.CSS_SELECTOR, "#matrix tbody tr")
    assert len(rows) == 2 and not rows[0].find_elements(By.CLASS_NAME, "fallen")
    fallen = rows[1].find_elements(By.CLASS_NAME, "fallen")
    assert (
        fallen
        and open_page.execute_script("return getComputedStyle(arguments[0]).color", fallen[0]) == "rgb(192, 22, 44)"
    )


def test_the_page_prints_to_a_pdf_of_some_pages(open_page, tmp_path):
    data = base64.b64decode(open_page.print_page())
    assert data.startswith(b"%PDF") and 2 <= data.count(b"/Type /Page\n") + data.count(b"/Type /Page ") <= 30


def test_without_scripts_the_page_says_the_same(browser, report_path):
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.get(report_path.as_uri())
        assert texts(browser, ".threshold [data-is]")[:5] == ["0.370", "100", "0", "6", "94"]
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_a_screenshot_is_not_blank(open_page, tmp_path):
    open_page.save_screenshot(str(tmp_path / "page.png"))
    assert len(np.unique(np.asarray(Image.open(tmp_path / "page.png")).reshape(-1, 4), axis=0)) > 50


@pytest.fixture(scope="module")
def photographs(browser, tmp_path_factory):
    """A page of findings: one cracked, one in between, one clean."""
    page = findings_page.FindingsPage(10)
    for prediction in (
        predictions.photo("wall.jpg"),
        predictions.photo("pale.jpg", 0.5, (predictions.FAINT,), "review"),
        predictions.photo("clean.jpg", 0.1, (), "clean"),
    ):
        page.add(prediction, np.full((64, 100, 3), 150, np.uint8))
    path = tmp_path_factory.mktemp("album") / "report.html"
    page.write(path, predictions.CONTENT, 3, "--photos=a\n")
    return path


def load_page(browser, path, size=WIDE):
    browser.set_window_size(*size)
    browser.get(f"file://{path}")
    return browser


def box(browser, index=0):
    svg = browser.find_elements(By.TAG_NAME, "svg")[index]
    return [float(number) for number in svg.get_dom_attribute("viewBox").split()]


def set_threshold(browser, value):
    browser.execute_script(
        "const s = document.getElementById('threshold'); s.value = arguments[0]; s.dispatchEvent(new Event('input'));",
        value,
    )


def outlines(browser):
    return sum(polygon.is_displayed() for polygon in browser.find_elements(By.TAG_NAME, "polygon"))


def test_the_album_opens_without_a_complaint(browser, photographs):
    load_page(browser, photographs)
    assert not [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert browser.find_element(By.ID, "counts").text == "cracked 1, review 1, clean 1"
    assert outlines(browser) == 3


def test_the_album_s_threshold_hides_outlines_and_counts_anew(browser, photographs):
    load_page(browser, photographs)
    set_threshold(browser, 0.7)
    assert browser.find_element(By.ID, "counts").text == "cracked 1, review 0, clean 2" and outlines(browser) == 1
    set_threshold(browser, 0.95)
    assert browser.find_element(By.ID, "counts").text == "cracked 0, review 0, clean 3" and outlines(browser) == 0
    set_threshold(browser, 0.4)
    assert browser.find_element(By.ID, "counts").text == "cracked 1, review 1, clean 1" and outlines(browser) == 3


def test_a_photograph_is_enlarged_moved_and_made_whole_again(browser, photographs):
    load_page(browser, photographs)
    larger, smaller, whole = browser.find_elements(By.CSS_SELECTOR, "figure")[0].find_elements(By.TAG_NAME, "button")
    larger.click()
    x, y, width, height = box(browser)
    assert width == pytest.approx(100 / 1.5) and height == pytest.approx(64 / 1.5) and x > 0 and y > 0
    svg = browser.find_elements(By.TAG_NAME, "svg")[0]
    webdriver.ActionChains(browser).drag_and_drop_by_offset(svg, -80, 0).perform()
    assert box(browser)[0] > x and box(browser)[2] == pytest.approx(width)
    smaller.click()
    smaller.click()
    assert box(browser) == pytest.approx([0, 0, 100, 64])
    larger.click()
    whole.click()
    assert box(browser) == [0, 0, 100, 64]


def test_the_album_is_used_with_the_keyboard(browser, photographs):
    load_page(browser, photographs)
    svg = browser.find_elements(By.TAG_NAME, "svg")[0]
    svg.send_keys("++")
    x, _, width, _ = box(browser)
    svg.send_keys(Keys.ARROW_RIGHT)
    assert width < 50 and box(browser)[0] > x
    svg.send_keys("0")
    assert box(browser) == [0, 0, 100, 64]


def test_a_wheel_enlarges_where_the_pointer_is(browser, photographs):
    load_page(browser, photographs)
    svg = browser.find_elements(By.TAG_NAME, "svg")[0]
    origin = ScrollOrigin.from_element(svg, -200, -100)
    webdriver.ActionChains(browser).scroll_from_origin(origin, 0, -400).perform()
    x, y, width, height = box(browser)
    assert width == pytest.approx(100 / np.e, rel=0.05)
    assert x + width / 2 < 50 and y + height / 2 < 32


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_album_never_scrolls_sideways(browser, photographs, size):
    load_page(browser, photographs, size)
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


@pytest.fixture(scope="module")
def search_page_path(tmp_path_factory):
    """The page of a search of 20 trials, one of which failed."""
    outcomes = [
        *search_results.random_trials(20),
        outcome("20", status="failed", score=None, accuracy=None, message="no"),
    ]
    path = tmp_path_factory.mktemp("trials") / "report.html"
    search_page.write(path, search_results.search_result(outcomes), TuneConfig(data="/d", out="/o"))
    return path


def test_the_page_of_a_search_opens_without_a_complaint(browser, search_page_path):
    load_page(browser, search_page_path)
    assert browser.get_log("browser") == []
    assert len(browser.find_elements(By.CSS_SELECTOR, "#lines polyline")) == 20


def test_a_row_under_the_pointer_shows_its_line_and_says_what_it_is(browser, search_page_path):
    load_page(browser, search_page_path)
    row = browser.find_element(By.CSS_SELECTOR, '#trials tr[data-trial="07"]')
    webdriver.ActionChains(browser).scroll_to_element(row).move_to_element(row).perform()
    highlighted = browser.find_elements(By.CSS_SELECTOR, "#lines polyline.chosen")
    assert [line.get_attribute("data-trial") for line in highlighted] == ["07"]
    assert browser.find_element(By.ID, "told").text.startswith("trial 07: ")


def test_the_trials_sort_by_number_and_by_word(browser, search_page_path):
    load_page(browser, search_page_path)

    def column(number):
        rows = browser.find_elements(By.CSS_SELECTOR, "#trials tbody tr")
        return [row.find_elements(By.TAG_NAME, "td")[number].text for row in rows]

    headings = {heading.text: heading for heading in browser.find_elements(By.CSS_SELECTOR, "#trials th button")}
    headings["images/s"].click()
    speeds = [float(text.replace(",", "")) for text in column(2) if text]
    assert speeds == sorted(speeds, reverse=True)
    headings["images/s"].click()
    speeds = [float(text.replace(",", "")) for text in column(2) if text]
    assert speeds == sorted(speeds)
    headings["block"].click()
    assert column(list(headings).index("block")) == sorted(column(list(headings).index("block")), reverse=True)


@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_page_of_a_search_never_scrolls_sideways(browser, search_page_path, size):
    load_page(browser, search_page_path, size)
    wide = browser.execute_script("return document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0


DIGESTS = {"wall.jpg": "1" * 64, "pale.jpg": "2" * 64, "clean.jpg": "3" * 64}


def write_review_page(path, earlier=None, names=tuple(DIGESTS), digests=None):
    """The photographs of `photographs`, with the SHA-256 that a review needs."""
    page = findings_page.FindingsPage(10)
    samples = {
        "wall.jpg": predictions.photo("wall.jpg"),
        "pale.jpg": predictions.photo("pale.jpg", 0.5, (predictions.FAINT,), "review"),
        "clean.jpg": predictions.photo("clean.jpg", 0.1, (), "clean"),
    }
    for name in names:
        page.add(samples[name], np.full((64, 100, 3), 150, np.uint8))
    photos = [predictions.entry(samples[name], (DIGESTS | (digests or {}))[name]) for name in names]
    page.write(path, predictions.CONTENT | {"photos": photos}, len(names), "--photos=a\n", earlier)
    return path


def open_review(browser, path, size=WIDE, clear=True):
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(path.parent / "downloads")}
    )
    load_page(browser, path, size)
    if clear:  # the browser stores it for the next page of the same findings
        browser.execute_script("localStorage.clear()")
        load_page(browser, path, size)
    return browser


@pytest.fixture
def review_page(browser, tmp_path):
    return open_review(browser, write_review_page(tmp_path / "report.html"))


def progress(browser):
    return browser.find_element(By.ID, "progress").text


def press(browser, keys):
    for key in keys if isinstance(keys, str) else [keys]:
        webdriver.ActionChains(browser).send_keys(key).perform()


def verdict_buttons(browser, section, row):
    """Of row `row` of the tables of a photograph: findings first, then boxes."""
    photo = browser.find_elements(By.CSS_SELECTOR, ".photo")[section]
    for details in photo.find_elements(By.TAG_NAME, "details"):
        browser.execute_script("arguments[0].open = true", details)
    rows = photo.find_elements(By.CSS_SELECTOR, "tr[data-n]") + photo.find_elements(By.CSS_SELECTOR, ".marks tbody tr")
    return rows[row].find_elements(By.TAG_NAME, "button")


def click(browser, button):
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
    button.click()


def pressed(buttons):
    return [button.text for button in buttons if button.get_dom_attribute("aria-pressed") == "true"]


def warns_before_leaving(browser):
    return browser.execute_script(
        "const leaving = new Event('beforeunload', {cancelable: true}); dispatchEvent(leaving); "
        "return leaving.defaultPrevented"
    )


def download(browser, tmp_path):
    """The reviews that the page offers, read as crackflow reads them."""
    path = tmp_path / "downloads" / "reviews.json"
    path.unlink(missing_ok=True)
    click(browser, browser.find_element(By.ID, "download"))
    WebDriverWait(browser, 20).until(lambda _: path.exists() and path.stat().st_size)
    return reviews.read(path)


def drag(browser, section, start, end):
    """Presses the mouse at `start` and lets it go at `end`, both in pixels of the photograph."""
    svg = browser.find_elements(By.CSS_SELECTOR, ".photo svg")[section]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", svg)
    points = [
        browser.execute_script(
            "const p = new DOMPoint(arguments[1], arguments[2]).matrixTransform(arguments[0].getScreenCTM());"
            "return [Math.round(p.x), Math.round(p.y)]",
            *(svg, *point),
        )
        for point in (start, end)
    ]
    actions = ActionBuilder(browser)
    actions.pointer_action.move_to_location(*points[0]).pointer_down().move_to_location(*points[1]).pointer_up()
    actions.perform()


def choose_file(browser, path):
    browser.find_element(By.ID, "load").send_keys(str(path))
    WebDriverWait(browser, 20).until(lambda _: browser.find_element(By.ID, "message").text)
    return browser.find_element(By.ID, "message").text


def test_the_page_to_review_opens_without_a_complaint_or_a_request(review_page):
    assert not [entry for entry in review_page.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    requested = review_page.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    assert [url for url in requested if not url.startswith("data:")] == []
    assert progress(review_page) == "0 of 3 findings judged, 0 of 3 photographs looked through"
    assert not warns_before_leaving(review_page)


def test_verdicts_are_given_and_taken_back_with_buttons(review_page):
    crack, no_crack, unsure = verdict_buttons(review_page, 0, 1)
    assert [button.text for button in (crack, no_crack, unsure)] == ["crack", "not a crack", "unsure"]
    click(review_page, no_crack)
    assert pressed([crack, no_crack, unsure]) == ["not a crack"]
    assert progress(review_page).startswith("1 of 3 findings") and warns_before_leaving(review_page)
    assert review_page.find_element(By.ID, "which").text == "wall.jpg: finding 2"
    click(review_page, review_page.find_element(By.CSS_SELECTOR, "#current [data-verdict=crack]"))
    assert pressed([crack, no_crack, unsure]) == ["crack"]
    click(review_page, crack)
    assert pressed([crack, no_crack, unsure]) == [] and progress(review_page).startswith("0 of 3 findings")


def test_a_review_by_keys_alone(review_page):
    press(review_page, "j")
    assert review_page.find_element(By.ID, "which").text == "wall.jpg: finding 1"
    first = review_page.find_element(By.CSS_SELECTOR, ".photo")
    assert first.find_element(By.TAG_NAME, "details").get_dom_attribute("open") is not None
    assert [one.get_dom_attribute("data-n") for one in first.find_elements(By.CSS_SELECTOR, ".current")] == ["1", "1"]
    press(review_page, "1j")
    x, y, width, height = box(review_page)
    assert 10 * 10 == pytest.approx(width * height / 4, rel=0.4)  # the finding is 10 x 10
    assert x <= 80 and y <= 5 and x + width >= 90 and y + height >= 15
    press(review_page, "2j3")
    assert progress(review_page) == "3 of 3 findings judged, 0 of 3 photographs looked through"
    press(review_page, "j")
    assert review_page.find_element(By.ID, "which").text == "clean.jpg: no finding"
    press(review_page, "1l")
    assert progress(review_page) == "3 of 3 findings judged, 1 of 3 photographs looked through"
    press(review_page, "uuu")
    assert progress(review_page) == "1 of 3 findings judged, 0 of 3 photographs looked through"
    press(review_page, "kk")
    assert review_page.find_element(By.ID, "which").text == "wall.jpg: finding 2"
    press(review_page, "uuuu")
    assert progress(review_page).startswith("0 of 3") and not review_page.find_element(By.ID, "undo").is_enabled()


def test_keys_in_the_field_of_the_name_are_letters(review_page, tmp_path):
    name = review_page.find_element(By.ID, "reviewer")
    name.send_keys("julm 123")
    assert name.get_property("value") == "julm 123" and progress(review_page).startswith("0 of 3")
    click(review_page, verdict_buttons(review_page, 0, 0)[2])
    file = download(review_page, tmp_path)
    assert file.reviewer == file.photographs[0].verdicts[0].reviewer == "julm 123"


def test_a_missed_crack_is_marked_judged_removed_and_brought_back(review_page, tmp_path):
    press(review_page, "m")
    assert "drag a box" in review_page.find_element(By.ID, "which").text
    drag(review_page, 0, (20, 30), (60, 42))
    assert box(review_page) == [0, 0, 100, 64]  # the photograph did not move
    assert [row.text.split("\n")[0] for row in review_page.find_elements(By.CSS_SELECTOR, ".marks tbody td")][:2] == [
        "drawn box 1", "crack",
    ]  # fmt: skip
    (photo,) = download(review_page, tmp_path).photographs
    (drawn,) = photo.verdicts
    assert drawn.box == pytest.approx((20, 30, 40, 12), abs=0.3)
    assert (drawn.verdict, drawn.source, drawn.probability) == ("crack", "drawn", None)
    assert progress(review_page).startswith("0 of 3 findings")
    drag(review_page, 0, (60, 30), (50, 30))  # no longer marking: this moves the photograph, which is whole
    assert len(review_page.find_elements(By.CSS_SELECTOR, "rect.mark")) == 1
    press(review_page, "3")
    assert pressed(verdict_buttons(review_page, 0, 2)) == ["unsure"]
    click(review_page, verdict_buttons(review_page, 0, 2)[3])
    assert not review_page.find_elements(By.CSS_SELECTOR, "rect.mark, .marks tr")
    press(review_page, "u")
    assert pressed(verdict_buttons(review_page, 0, 2)) == ["unsure"]


def test_marking_is_left_with_escape_and_a_point_is_no_box(review_page):
    press(review_page, "m")
    drag(review_page, 0, (20, 30), (20, 30))
    assert "too small" in review_page.find_element(By.ID, "message").text
    press(review_page, Keys.ESCAPE)
    drag(review_page, 0, (20, 30), (60, 42))
    assert not review_page.find_elements(By.CSS_SELECTOR, "rect.mark")


def test_a_box_may_be_drawn_from_any_corner_and_beyond_the_edge(review_page, tmp_path):
    button = review_page.find_elements(By.CSS_SELECTOR, ".reviewing button")[1]
    click(review_page, button)
    drag(review_page, 1, (60, 40), (40, 30))
    (photo,) = download(review_page, tmp_path).photographs
    assert photo.path == "pale.jpg" and photo.verdicts[0].box == pytest.approx((40, 30, 20, 10), abs=0.3)


def test_the_download_holds_what_was_said_and_ends_the_warning(review_page, tmp_path):
    press(review_page, "j1j2lj3")
    assert warns_before_leaving(review_page)
    file = download(review_page, tmp_path)
    assert not warns_before_leaving(review_page)
    assert (file.crackflow, file.model_sha256) == (predictions.CONTENT["crackflow"], "a" * 64)
    wall, pale = file.photographs
    assert (wall.path, wall.sha256, wall.width, wall.height) == ("wall.jpg", "1" * 64, 100, 64)
    assert wall.looked_through and not pale.looked_through
    assert [(said.verdict, said.source, said.probability, said.box) for said in wall.verdicts] == [
        ("crack", "finding", 0.9, (10.0, 20.0, 60.0, 30.0)),
        ("not_a_crack", "finding", 0.5, (80.0, 5.0, 10.0, 10.0)),
    ]
    assert [said.verdict for said in pale.verdicts] == ["unsure"]
    press(review_page, "u")
    assert warns_before_leaving(review_page)


def test_a_tick_says_that_a_photograph_was_looked_through(review_page, tmp_path):
    ticks = review_page.find_elements(By.CSS_SELECTOR, ".reviewing input")
    click(review_page, ticks[2])
    assert progress(review_page).endswith("1 of 3 photographs looked through")
    (photo,) = download(review_page, tmp_path).photographs
    assert photo.path == "clean.jpg" and photo.looked_through and photo.verdicts == ()
    click(review_page, ticks[2])
    assert progress(review_page).endswith("0 of 3 photographs looked through")


def earlier_reviews():
    """Of another model: one verdict that meets a finding, one that meets none, a drawn box, and another photograph."""
    wall = review_files.photo_review(
        review_files.verdict((14.0, 22.0, 58.0, 28.0), "not_a_crack"),
        review_files.verdict((2.0, 2.0, 6.0, 6.0), "unsure"),
        review_files.verdict((30.0, 55.0, 20.0, 6.0), source="drawn"),
        looked_through=True,
    )
    other = review_files.photo_review(review_files.verdict(), path="elsewhere.jpg", sha256="9" * 64)
    return review_files.reviews_of(wall, other)


def test_an_earlier_file_goes_on_where_it_ended(review_page, tmp_path):
    reviews.write(tmp_path / "old.json", earlier_reviews())
    message = choose_file(review_page, tmp_path / "old.json")
    assert message == (
        "old.json: verdicts on findings of this page: 1, on other boxes: 2; photographs that are not on this page and "
        "stay in the file: 1"
    )
    assert progress(review_page) == "1 of 3 findings judged, 1 of 3 photographs looked through"
    assert pressed(verdict_buttons(review_page, 0, 0)) == ["not a crack"]
    assert [row.text.split(" 1 ")[0] for row in review_page.find_elements(By.CSS_SELECTOR, ".marks tbody tr")] == [
        "earlier box", "drawn box",
    ]  # fmt: skip
    assert not warns_before_leaving(review_page)
    assert review_page.find_element(By.ID, "reviewer").get_property("value") == "Ann"
    file = download(review_page, tmp_path)
    assert file.photographs == earlier_reviews().photographs  # nothing is lost
    click(review_page, verdict_buttons(review_page, 0, 0)[0])
    wall = download(review_page, tmp_path).photographs[0]
    assert (wall.verdicts[0].verdict, wall.verdicts[0].box) == ("crack", (10.0, 20.0, 60.0, 30.0))
    assert set(wall.verdicts[1:]) == set(earlier_reviews().photographs[0].verdicts[1:])


def test_a_file_that_was_downloaded_is_loaded_into_a_fresh_page(review_page, tmp_path):
    press(review_page, "j1j2lm")
    drag(review_page, 0, (84, 10), (88, 14))  # on what is enlarged
    first = download(review_page, tmp_path)
    os.rename(tmp_path / "downloads/reviews.json", tmp_path / "first.json")
    open_review(review_page, tmp_path / "report.html")
    assert progress(review_page).startswith("0 of 3")
    choose_file(review_page, tmp_path / "first.json")
    assert download(review_page, tmp_path) == first
    choose_file(review_page, tmp_path / "first.json")
    assert download(review_page, tmp_path) == first  # twice is once
    press(review_page, "u")
    press(review_page, "u")
    assert progress(review_page) == "0 of 3 findings judged, 0 of 3 photographs looked through"


def test_of_two_verdicts_the_page_takes_the_newest(review_page, tmp_path):
    press(review_page, "j1")
    reviews.write(tmp_path / "old.json", earlier_reviews())
    choose_file(review_page, tmp_path / "old.json")
    assert pressed(verdict_buttons(review_page, 0, 0)) == ["crack"]
    late = review_files.verdict(predictions.FOUND.box, "unsure", time="2999-01-01T00:00:00Z")
    reviews.write(tmp_path / "new.json", review_files.reviews_of(review_files.photo_review(late)))
    choose_file(review_page, tmp_path / "new.json")
    assert pressed(verdict_buttons(review_page, 0, 0)) == ["unsure"] and warns_before_leaving(review_page)


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda content: content.update(schema_version=2), "it is no reviews.json of version 1"),
        (lambda content: content["photographs"][0].update(sha256="x"), "a photograph in it is damaged"),
        (lambda content: content["photographs"].append(content["photographs"][0]), "wall.jpg is in it twice"),
        (
            lambda content: content["photographs"][0]["verdicts"][0].update(verdict="maybe"),
            "a verdict about wall.jpg is",
        ),
        (
            lambda content: content["photographs"][0]["verdicts"][0].update(box=[0, 0, 101, 9]),
            "a verdict about wall.jpg",
        ),
        (
            lambda content: content["photographs"][0]["verdicts"][0].update(time="2026-13-01T00:00:00Z"),
            "a verdict about",
        ),
    ],
)
def test_a_file_that_cannot_be_is_refused_by_the_page(review_page, tmp_path, change, reason):
    content = review_files.content()
    change(content)
    assert choose_file(review_page, review_files.put(tmp_path / "bad.json", content)).startswith(
        f"bad.json can't be used: {reason}"
    )
    assert progress(review_page).startswith("0 of 3 findings judged, 0 of 3")


def test_what_was_said_survives_a_reload(review_page, tmp_path):
    press(review_page, "j1l")
    open_review(review_page, tmp_path / "report.html", clear=False)
    assert progress(review_page) == "1 of 3 findings judged, 1 of 3 photographs looked through"
    assert warns_before_leaving(review_page)  # it was not downloaded
    download(review_page, tmp_path)
    open_review(review_page, tmp_path / "report.html", clear=False)
    assert progress(review_page).startswith("1 of 3") and not warns_before_leaving(review_page)


def test_where_the_browser_stores_nothing_the_page_works_all_the_same(browser, tmp_path):
    refusal = (
        "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('no', 'SecurityError'); }})"
    )
    script = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": refusal})
    try:
        open_review(browser, write_review_page(tmp_path / "report.html"), clear=False)
        press(browser, "j1")
        assert progress(browser).startswith("1 of 3") and download(browser, tmp_path).photographs
        assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    finally:
        browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_reviews_within_the_page_are_there_at_once_and_are_only_text(browser, tmp_path):
    nasty = "</script><script>document.title='owned'</script><!--<script>"
    earlier = earlier_reviews()
    wall = dataclasses.replace(earlier.photographs[0], path=nasty)
    earlier = dataclasses.replace(earlier, reviewer=nasty, photographs=(wall, *earlier.photographs[1:]))
    path = write_review_page(tmp_path / "report.html", reviews.as_dict(earlier))
    open_review(browser, path)
    assert progress(browser) == "1 of 3 findings judged, 1 of 3 photographs looked through"
    assert browser.title.startswith("crackflow") and not warns_before_leaving(browser)
    assert browser.find_element(By.ID, "reviewer").get_property("value") == nasty
    assert download(browser, tmp_path).photographs[1] == earlier.photographs[1]
    press(browser, "j3")
    open_review(browser, path, clear=False)  # what was said since is not overwritten by what came with the page
    assert pressed(verdict_buttons(browser, 0, 0)) == ["unsure"]


def test_findings_below_the_threshold_are_not_asked_about(review_page):
    press(review_page, "jj")
    assert review_page.find_element(By.ID, "which").text == "wall.jpg: finding 2"
    set_threshold(review_page, 0.7)
    assert progress(review_page).startswith("0 of 1 findings") and not review_page.find_element(By.ID, "which").text
    press(review_page, "jj")
    assert review_page.find_element(By.ID, "which").text == "pale.jpg: no finding"


def test_a_copy_of_a_photograph_is_reviewed_once(browser, tmp_path):
    path = write_review_page(tmp_path / "report.html", names=("wall.jpg", "pale.jpg"), digests={"pale.jpg": "1" * 64})
    open_review(browser, path)
    assert progress(browser) == "0 of 2 findings judged, 0 of 1 photographs looked through"
    assert "A copy of a photograph above" in browser.find_elements(By.CSS_SELECTOR, ".photo")[1].text


def test_without_scripts_the_page_of_findings_has_no_tools(browser, tmp_path):
    path = write_review_page(tmp_path / "report.html")
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        load_page(browser, path)
        assert not [one for one in browser.find_elements(By.CSS_SELECTOR, "button, input") if one.is_displayed()]
        assert outlines(browser) == 3
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_on_paper_there_are_no_tools(review_page):
    press(review_page, "j1")
    review_page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        displayed = [one for one in review_page.find_elements(By.CSS_SELECTOR, "button, input") if one.is_displayed()]
        assert not displayed and outlines(review_page) == 3
    finally:
        review_page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_review_can_be_read_and_fits_narrow_and_wide_light_and_dark(browser, tmp_path, scheme, size):
    path = write_review_page(tmp_path / "report.html")
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    device = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    try:
        open_review(browser, path, size)
        press(browser, "j1m")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
        for selector in ("#current [aria-pressed=true]", "#current [aria-pressed=false]", "#progress"):
            require_readable(browser, selector)
        browser.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
        for button in browser.find_elements(By.CSS_SELECTOR, "#current button, .verdicts button"):
            assert button.accessible_name and button.get_property("type") == "button"
        browser.execute_script("arguments[0].focus()", browser.find_element(By.ID, "download"))
        press(browser, Keys.TAB)
        focused = "return getComputedStyle(document.activeElement).outlineStyle + document.activeElement.id"
        assert browser.execute_script(focused) == "solidload"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


@pytest.fixture(scope="module")
def inspection_path(tmp_path_factory):
    """A page of twelve photographs with widths, places and hard names."""
    items, content = inspections.inspection(12, 4)
    page = findings_page.FindingsPage(20)
    for prediction, picture, _ in items:
        page.add(prediction, picture)
    path = tmp_path_factory.mktemp("inspection") / "report.html"
    page.write(path, content, len(items), "--photos=a\n")
    return path


def rows_of(browser, name):
    """Texts of the cells of the rows of a table that are displayed."""
    return browser.execute_script(
        "return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].filter((row) => row.offsetHeight)"
        ".map((row) => [...row.cells].map((cell) => cell.innerText.replace('\\u00a0', ' ').trim()))",
        name,
    )


def heading(browser, name, text):
    buttons = browser.find_elements(By.CSS_SELECTOR, f"#{name} th button")
    return next(button for button in buttons if button.text == text)


def test_a_page_with_many_photographs_is_closed_and_complains_of_nothing(browser, inspection_path):
    load_page(browser, inspection_path)
    assert browser.get_log("browser") == []
    requested = browser.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    assert [url for url in requested if not url.startswith("data:")] == []
    assert not [svg for svg in browser.find_elements(By.CSS_SELECTOR, ".photo svg") if svg.is_displayed()]
    assert len(rows_of(browser, "photographs")) == 12 and len(rows_of(browser, "findings")) == 28


def test_tables_sort_by_figures_with_what_is_not_known_last(browser, inspection_path):
    load_page(browser, inspection_path)
    for before, order in (("none", "descending"), ("descending", "ascending")):
        button = heading(browser, "photographs", "total length")
        sorting = button.find_element(By.XPATH, "..").get_dom_attribute("aria-sort")
        assert (sorting or "none") == before
        button.send_keys(Keys.ENTER)
        lengths = [row[5].split("\n")[0] for row in rows_of(browser, "photographs")]
        known = [float(text.removesuffix(" mm").replace(",", "")) for text in lengths if text.endswith("mm")]
        assert known == sorted(known, reverse=order == "descending") and len(known) > 2
        assert not any(text.endswith("mm") for text in lengths[len(known) :])
    heading(browser, "photographs", "name").click()
    sorting = browser.find_elements(By.CSS_SELECTOR, "#photographs th[aria-sort]")
    assert [(one.text, one.get_dom_attribute("aria-sort")) for one in sorting] == [("name", "ascending")]


def test_tables_are_filtered_by_decision_and_name(browser, inspection_path):
    load_page(browser, inspection_path)
    browser.find_element(By.ID, "photographs-decision").send_keys("clean")
    assert {row[2] for row in rows_of(browser, "photographs")} == {"clean"}
    text = browser.find_element(By.ID, "findings-text")
    text.send_keys("DSC_0009 SITE")
    assert {row[0] for row in rows_of(browser, "findings")} == {"site/DSC_0009.jpg"}
    output = browser.find_element(By.CSS_SELECTOR, '.filters[data-table="findings"] output')
    assert output.text == "3 of 28 findings"
    text.clear()
    text.send_keys("nothing has this name")
    assert rows_of(browser, "findings") == [] and output.text == "0 of 28 findings"


def test_tables_follow_the_threshold_and_the_summary_says_that_it_moved(browser, inspection_path):
    load_page(browser, inspection_path)
    moved = browser.find_element(By.ID, "moved")
    assert not moved.is_displayed()
    set_threshold(browser, 0.9)
    assert {row[2] for row in rows_of(browser, "photographs") if float(row[3]) >= 0.9} == {"cracked"}
    assert {row[2] for row in rows_of(browser, "photographs") if float(row[3]) < 0.9} == {"clean"}
    assert min(float(row[3]) for row in rows_of(browser, "findings")) >= 0.9
    assert moved.is_displayed() and "moved to 0.900" in moved.text and "threshold, 0.400" in moved.text
    set_threshold(browser, 0.4)
    assert not moved.is_displayed() and len(rows_of(browser, "findings")) == 28


def test_a_row_leads_to_its_photograph_and_its_finding(browser, inspection_path):
    load_page(browser, inspection_path)
    browser.find_elements(By.CSS_SELECTOR, "#findings tbody a")[1].send_keys(Keys.ENTER)
    opened = browser.find_elements(By.CSS_SELECTOR, ".sheet[open]")
    assert len(opened) == 1 and browser.find_element(By.ID, "which").text.endswith(": finding 2")
    assert opened[0].find_element(By.CSS_SELECTOR, "tr.current").get_dom_attribute("data-n") == "2"
    x, y, width, height = (
        float(part) for part in opened[0].find_element(By.TAG_NAME, "svg").get_dom_attribute("viewBox").split()
    )
    left, top, wide, high = map(
        float, opened[0].find_element(By.CSS_SELECTOR, "tr.current").get_dom_attribute("data-box").split()
    )
    assert width < 2400 and x <= left and y <= top and x + width >= left + wide and y + height >= top + high
    click(browser, browser.find_elements(By.CSS_SELECTOR, "#photographs tbody a")[2])
    assert len(browser.find_elements(By.CSS_SELECTOR, ".sheet[open]")) == 2


def test_only_so_many_rows_are_laid_out_until_all_are_asked_for(browser, tmp_path):
    items, content = inspections.inspection(6, 70)
    page = findings_page.FindingsPage(6)
    for prediction, picture, _ in items:
        page.add(prediction, picture)
    page.write(tmp_path / "report.html", content, 6, "")
    load_page(browser, tmp_path / "report.html")
    count = sum(len(photo["findings"]) for photo in content["photos"])
    assert len(rows_of(browser, "findings")) == 200 < count
    click(browser, browser.find_element(By.CSS_SELECTOR, '.filters[data-table="findings"] .all'))
    assert len(rows_of(browser, "findings")) == count


def test_widths_are_switched_off_and_on(browser, inspection_path):
    load_page(browser, inspection_path)
    browser.execute_script("for (const one of document.querySelectorAll('.sheet')) one.open = true")
    parts = [browser.find_element(By.CSS_SELECTOR, selector) for selector in (".widths path", ".legend")]
    assert all(part.is_displayed() for part in parts)
    click(browser, browser.find_element(By.ID, "widths"))
    assert not any(part.is_displayed() for part in parts)


def test_on_paper_photographs_with_findings_are_open_and_there_is_a_line_to_sign(browser, inspection_path):
    load_page(browser, inspection_path)
    browser.execute_script("dispatchEvent(new Event('beforeprint'))")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        sections = browser.find_elements(By.CSS_SELECTOR, ".photo")
        for section in sections:
            has_findings = bool(section.find_elements(By.CSS_SELECTOR, "tr[data-n]"))
            assert section.is_displayed() == has_findings
            assert not has_findings or section.find_element(By.CSS_SELECTOR, "tr[data-n]").is_displayed()
        assert browser.find_element(By.CLASS_NAME, "sign").is_displayed()
        assert not [one for one in browser.find_elements(By.CSS_SELECTOR, "select, input") if one.is_displayed()]
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
        browser.execute_script("dispatchEvent(new Event('afterprint'))")
    assert not browser.find_elements(By.CSS_SELECTOR, ".sheet[open]")


def test_verdicts_of_a_person_are_words_on_paper(review_page):
    press(review_page, "j2")
    review_page.find_element(By.ID, "reviewer").send_keys("Ann")
    review_page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert review_page.find_element(By.ID, "reviewed").text == (
            "Reviewed on this page by Ann: 1 of 3 findings judged, 0 of 3 photographs looked through."
        )
        cell = review_page.find_element(By.CSS_SELECTOR, "td[data-said]")
        word = "return getComputedStyle(arguments[0], '::after').content"
        assert cell.is_displayed() and review_page.execute_script(word, cell) == '"not a crack"'
    finally:
        review_page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1400, 900), (420, 800)])
def test_an_inspection_with_hard_names_fits_and_can_be_read(browser, inspection_path, scheme, size):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    device = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    try:
        load_page(browser, inspection_path, size)
        browser.execute_script("for (const one of document.querySelectorAll('details')) one.open = true")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= size[0]
        selectors = (
            ".headline",
            "dt",
            "dd small",
            ".list small",
            ".list a",
            ".list .cracked",
            ".list .review",
            ".legend li",
        )
        for selector in (*selectors, ".list .clean", ".list th button", ".filters output"):
            require_readable(browser, selector)
        for control in browser.find_elements(By.CSS_SELECTOR, "input, select, button, .scroll.tall"):
            assert control.accessible_name or not control.is_displayed(), control.get_attribute("outerHTML")
        browser.execute_script("document.querySelector('#photographs th button').focus()")
        press(browser, Keys.TAB)
        assert browser.execute_script("return getComputedStyle(document.activeElement).outlineStyle") == "solid"
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
