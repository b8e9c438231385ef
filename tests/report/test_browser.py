"""The report in a real browser: Debian's Chromium, headless. Skipped where there is none."""

import base64
import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from crackflow.core.config.search import TuneConfig
from crackflow.data import overlays
from crackflow.evaluation import metrics, results, slices
from crackflow.report import findings_page, rendering, run_page, search_page
from tests.helpers import predictions, search_results
from tests.helpers.evaluations import evaluation, report
from tests.helpers.trials import outcome

BROWSER, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
pytestmark = [
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
