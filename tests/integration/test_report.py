"""`python -m iwae_tf report` from run folders to a page, as a user meets it."""

import base64
import io
import itertools
import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from matplotlib.image import imread
from shared_runs import change_model, skip_figures

import iwae_tf
from iwae_tf.commands.main import main
from iwae_tf.data.binarization import binarize_once
from iwae_tf.plots import image_grid, style
from iwae_tf.report.record import read_record
from iwae_tf.training.scores_file import read_columns

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
GRIDS = [
    "Means of p(x | h), h from the prior",
    "Test images and their reconstructions",
    "Test images at both ends, means of p(x | h) on the line between their posterior means",
    "Highest and lowest log p(x) of test images, in nats",
]


def report(*words) -> int:
    return main(["report", *map(str, words)])


def page_of(run) -> str:
    assert report(run) == 0
    return (run / "report.html").read_text(encoding="utf-8")


def grids(text: str) -> dict[str, bytes]:
    """Description to PNG file of the image grids; descriptions of several lines are joined by blanks."""
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)">', text)
    return {alt: base64.b64decode(content) for content, alt in found}


def config_with(run, **data) -> None:
    """Changes settings of the run's data."""
    config = json.loads((run / "config.json").read_text())
    config["data"] |= data
    (run / "config.json").write_text(json.dumps(config))


def test_training_ends_with_the_page_of_its_scores_and_pictures(trained):
    finished = trained.path
    text, record = (finished / "report.html").read_text(encoding="utf-8"), read_record(finished)
    metrics, scores = json.loads((finished / "metrics.json").read_text()), record.scores
    assert scores.log_likelihood.shape == (400,)
    assert scores.log_likelihood.mean() == pytest.approx(metrics["log_likelihood"], rel=1e-9)
    assert [(layer > 0.01).sum() for layer in scores.unit_activities] == metrics["active_units"]
    assert f"{metrics['log_likelihood']:.2f}".replace("-", "−") in text
    found = grids(text)
    assert list(found) == GRIDS
    model = keras.saving.load_model(finished / "model.keras", compile=False)
    x = binarize_once(iwae_tf.data.load("digits").intensities("test"), "test")
    # Two passes of float32 networks over batches of other sizes.
    bounds = read_columns(finished / "scores.parquet")["bound_60"]
    np.testing.assert_allclose(bounds[:5], model.log_likelihood(x[:5], 60, seed=3), rtol=1e-5)
    for name, figure in (
        (GRIDS[0], image_grid.samples_figure(model.sample(100, 3, mean=True), (8, 8))),
        (GRIDS[1], image_grid.reconstructions_figure(x[:20], model.reconstruct(x[:20]), (8, 8))),
        (GRIDS[3], image_grid.extremes_figure(x, scores.log_likelihood, (8, 8))),
    ):
        drawn, expected = (imread(io.BytesIO(file)) for file in (found[name], style.encode(figure, "png")))
        np.testing.assert_allclose(drawn, expected, atol=1 / 255)  # means of two processes differ by rounding
    best = int(scores.log_likelihood.argmax())
    assert f'<li class="score">row {best}: ' in text


def test_the_page_is_the_same_when_it_is_made_again_and_nothing_is_scored_again(run, capsys, monkeypatch):
    def computed(*arguments, **options):
        raise AssertionError("computed again")

    monkeypatch.setattr("iwae_tf.evaluation.unit_activities", computed)
    monkeypatch.setattr(iwae_tf.IWAE, "log_weight_chunks", computed)
    before = (run / "report.html").read_text()
    (run / "report.html").unlink()
    again = page_of(run)
    assert capsys.readouterr().out == f"written: {run / 'report.html'}\n"
    assert re.sub(r"/\S+/run\b", "RUN", again) == re.sub(r"/\S+/run\b", "RUN", before)  # a path in the commands


def test_a_run_whose_data_have_gone_shows_samples_and_says_why_and_rows_that_are_no_images_have_no_grids(run):
    config_with(run, dataset="gone.npz")
    text = page_of(run)
    assert "there is no file gone.npz" in text
    assert list(grids(text)) == GRIDS[:1]
    config_with(run, image_shape=[1, 64])
    text = page_of(run)
    assert grids(text) == {}
    assert "has the shape 1 x 64, which is no image" in text
    assert text.count('<li class="score">') == 20


@pytest.mark.slow
def test_binary_units_in_two_layers_over_gaussian_rows_go_next_to_images(trained, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "rows.npz", x_train=rng.random((40, 7)), x_test=rng.random((9, 7)))
    flags = ["--dataset", str(tmp_path / "rows.npz"), "--likelihood", "gaussian", "--layers", "2"]
    flags += ["--latent", "bernoulli", "--objective", "vimco", "--k", "3", "--epochs", "1", "--eval-samples", "60"]
    flags += ["--latent-units", "4", "3", "--hidden-units", "8", "none", "--output-dir", str(tmp_path / "rows")]
    with monkeypatch.context() as patch:
        skip_figures(patch)
        assert main(["train", *flags, "--verbose", "0"]) == 0
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert report(trained.path, "rows") == 0
    assert capsys.readouterr().out == "written: report.html\n"
    text = Path("report.html").read_text()
    assert "2 runs side by side" in text
    assert "do not compare: they differ in test rows" in text
    assert text.count(f'alt="{GRIDS[0]}"') == 1
    assert "has the shape 1 x 7, which is no image" in text
    assert text.count('<li class="score">') == 20 + 9
    assert "Activity of each unit, layer 2" in text


def test_a_run_without_scores_or_not_evaluated_has_the_page_of_its_model(run):
    (run / "scores.parquet").unlink()
    text = page_of(run)
    assert "the command Evaluate below writes them" in text
    assert list(grids(text)) == GRIDS[:3]
    assert "unit 0: " in text  # measured again
    (run / "metrics.json").unlink()
    assert "trained, but not evaluated" in page_of(run)
    (run / "model.keras").unlink()
    assert grids(page_of(run)) == {}


def test_bad_input_is_one_line_and_exit_code_2(run, capfd, tmp_path):
    def error_of(*words) -> str:
        capfd.readouterr()
        assert report(*words) == 2
        captured = capfd.readouterr()
        assert captured.out == ""
        assert re.fullmatch(r"error: .+\n", captured.err)
        return captured.err

    assert "is not the folder of a run" in error_of(tmp_path)
    assert "did you mean" in error_of(tmp_path / "smal")
    assert "expected .html" in error_of(run, "--output", tmp_path / "page.txt")
    assert "cannot be written" in error_of(run, "--output", tmp_path / "no" / "page.html")
    assert "given twice" in error_of(run, run)
    assert "required: RUN" in error_of()
    change_model(run)
    assert "metrics.json is not of the run's model (metrics.json is of model sha256:" in error_of(run)
    (run / "model.keras").write_text("cut short")
    assert "model.keras cannot be read" in error_of(run)


# ---------------------------------------------------------------------------------------------- in a real browser

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


def in_browser(test):
    missing = "no chromium with its chromedriver (Debian: chromium-driver)"
    return pytest.mark.slow(pytest.mark.skipif(not (CHROMIUM and DRIVER), reason=missing)(test))


PAGES = {"one": 4 + 3, "several": 2 * 4 + 3, "stopped": 0}  # grids and curves
SHOWN = """return [...document.querySelectorAll('img')].map(e => {
  const box = e.getBoundingClientRect();
  return [e.naturalWidth, box.width, box.height, getComputedStyle(e).backgroundColor];
})"""
CUT_OFF = """return [...document.querySelectorAll('table')].filter(table => {
  const box = table.parentElement;
  return table.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX != 'auto';
}).length"""
COLOUR = "return ['color', 'background-color'].map(name => getComputedStyle(document.body)[name])"
COLOURS = {"light": ["rgb(28, 33, 39)", "rgb(255, 255, 255)"], "dark": ["rgb(230, 233, 237)", "rgb(20, 24, 29)"]}


@pytest.fixture(scope="module")
def pages(trained, tmp_path_factory):
    """A page of one run, of one that was stopped, and of these and one with a long name and other settings."""
    folder, run = tmp_path_factory.mktemp("pages"), trained.path
    other = Path(shutil.copytree(run, folder / ("digits-iwae-" + "long-name-" * 8)))
    config_with(other, source="x" * 80)
    (folder / "stopped").mkdir()
    shutil.copy(run / "config.json", folder / "stopped")
    assert report(run, other, folder / "stopped", "--output", folder / "several.html") == 0
    assert report(folder / "stopped", "--output", folder / "stopped.html") == 0
    return {name: folder / f"{name}.html" for name in PAGES} | {"one": run / "report.html"}


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


@in_browser
@pytest.mark.parametrize("name", PAGES)
def test_the_page_loads_without_errors_asks_for_nothing_and_fits_the_width(browser, pages, name):
    for width, scheme in itertools.product((390, 1400), COLOURS):
        show(browser, pages[name], width, scheme)
        assert browser.get_log("browser") == []
        messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
        urls = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        assert [url for url in urls if not url.startswith("data:")] == [pages[name].as_uri()]
        shown = browser.execute_script(SHOWN)
        assert len(shown) == PAGES[name]
        for natural, wide, high, card in shown:
            assert natural > 0
            assert min(wide, high) > 50
            assert wide <= width
            assert card == "rgb(255, 255, 255)"  # figures are drawn for a white page
        assert browser.execute_script(CUT_OFF) == 0
        root = "document.documentElement"
        assert browser.execute_script(f"return {root}.scrollWidth <= {root}.clientWidth")
        assert browser.execute_script(COLOUR) == COLOURS[scheme]


@in_browser
def test_a_wide_table_scrolls_inside_itself(browser, pages):
    show(browser, pages["several"], 390)
    wide = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length"
    assert browser.execute_script(f"return {wide}") > 0


@in_browser
def test_the_page_prints_light_and_unfolded_whatever_the_scheme(browser, pages):
    show(browser, pages["one"], scheme="dark")
    pdf = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    assert pdf.startswith(b"%PDF")
    assert pdf.rstrip().endswith(b"%%EOF")
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": features})
    assert browser.execute_script(COLOUR) == COLOURS["light"]
    assert browser.execute_script("return document.querySelector('details .list').getBoundingClientRect().height") > 0
