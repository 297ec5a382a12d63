"""The pages of `report` in a real browser."""

import base64
import json
import shutil

import pytest

from iwae_tf.commands.main import main

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium with its chromedriver (Debian: chromium-driver)"),
]

SMALL = ["--hidden-units", "8", "--latent-units", "3", "--epochs", "2", "--eval-samples", "60", "--verbose", "0"]
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
WIDTHS, SCHEMES = (390, 1400), ("light", "dark")
SHOWN = """return [...document.querySelectorAll('img, svg')].map(e => {
  const box = e.getBoundingClientRect();
  return [e.tagName, e.tagName == 'IMG' ? e.naturalWidth : e.viewBox.baseVal.width, box.width, box.height];
})"""
COLOURS = "return ['color', 'background-color'].map(name => getComputedStyle(document.body)[name])"
LINE = "return getComputedStyle(document.querySelector('svg path[style*=series-1]')).stroke"


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """A page of one run, of three with long names and unlike settings, and of one that was stopped."""
    folder = tmp_path_factory.mktemp("pages")
    run = folder / "small"
    assert main(["train", "--k", "3", *SMALL, "--output-dir", str(run)]) == 0
    others = [folder / ("digits-iwae-" + "long-name-" * 8 + str(number)) for number in (1, 2)]
    for number, other in enumerate(others, start=1):
        shutil.copytree(run, other)
        config = json.loads((other / "config.json").read_text())
        config["training"]["noise"] = "x" * 80 * number
        (other / "config.json").write_text(json.dumps(config))
    stopped = folder / "stopped"
    stopped.mkdir()
    shutil.copy(run / "config.json", stopped)
    several, begun = folder / "several.html", folder / "stopped.html"
    assert main(["report", str(run), *map(str, others), "--output", str(several)]) == 0
    assert main(["report", str(stopped), "--output", str(begun)]) == 0
    return {"one": run / "report.html", "several": several, "stopped": begun}


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def show(browser, page, width=1400, scheme="light"):
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # what came before
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())


@pytest.mark.parametrize("name", ["one", "several", "stopped"])
def test_the_page_loads_without_errors_and_asks_for_nothing(browser, pages, name):
    show(browser, pages[name])
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith("data:")] == [pages[name].as_uri()]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["one", "several", "stopped"])
def test_everything_is_there_and_fits_the_width(browser, pages, name, width, scheme):
    show(browser, pages[name], width, scheme)
    shown = browser.execute_script(SHOWN)
    counts = {"one": 23 + 3, "several": 3 * 23 + 3, "stopped": 0}  # pictures, and curves, bounds and units
    assert len(shown) == counts[name]
    for tag, natural, *size in shown:
        assert natural > 0, tag
        assert min(size) > 20, tag
        assert size[0] <= width
    inner, scrolled = browser.execute_script(
        "return [document.documentElement.clientWidth, document.documentElement.scrollWidth]"
    )
    assert scrolled <= inner


def test_a_wide_table_scrolls_inside_itself(browser, pages):
    show(browser, pages["several"], 390)
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"
    assert browser.execute_script(f"return {wide}") > 0


def test_the_figures_follow_the_colour_scheme(browser, pages):
    seen = {}
    for scheme in SCHEMES:
        show(browser, pages["one"], scheme=scheme)
        seen[scheme] = (browser.execute_script(COLOURS), browser.execute_script(LINE))
    assert seen["light"][0] == ["rgb(28, 33, 39)", "rgb(255, 255, 255)"]
    assert seen["dark"][0] == ["rgb(230, 233, 237)", "rgb(20, 24, 29)"]
    assert (seen["light"][1], seen["dark"][1]) == ("rgb(27, 108, 168)", "rgb(108, 182, 240)")


@pytest.mark.parametrize("name", ["one", "several", "stopped"])
def test_the_page_prints_light_whatever_the_scheme(browser, pages, name):
    show(browser, pages[name], scheme="dark")
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert pdf.startswith(b"%PDF")
    assert pdf.rstrip().endswith(b"%%EOF")
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    assert browser.execute_script(COLOURS) == ["rgb(28, 33, 39)", "rgb(255, 255, 255)"]
    if name != "stopped":
        assert browser.execute_script("return document.querySelector('.units').getBoundingClientRect().height") > 0
