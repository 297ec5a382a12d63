"""`python -m iwae_tf report` from run folders to a page, as a user meets it."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import iwae_tf
from iwae_tf.commands.main import main
from iwae_tf.data.binarization import binarize_once

SMALL = ["--hidden-units", "8", "--latent-units", "3", "--epochs", "2", "--eval-samples", "60", "--verbose", "0"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "small"
    assert main(["train", "--k", "3", *SMALL, "--output-dir", str(path)]) == 0
    return path


@pytest.fixture
def run(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "small")
    return tmp_path / "small"


def report(*words) -> int:
    return main(["report", *map(str, words)])


def error_of(capfd, *words) -> str:
    capfd.readouterr()
    assert report(*words) == 2
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def images(text: str) -> list[str]:
    return re.findall(r'<img src="data:image/png;base64,[^"]+" width="\d+" height="\d+" alt="([^"]+)">', text)


# ---------------------------------------------------------------------------------------------- one run


def test_training_ends_with_the_page_and_the_scores_of_the_images(finished):
    text = (finished / "report.html").read_text(encoding="utf-8")
    metrics = json.loads((finished / "metrics.json").read_text())
    with np.load(finished / "scores.npz") as scores:
        log_p, errors, activities = (scores[n] for n in ("log_likelihood", "standard_error", "unit_activities_1"))
    assert log_p.shape == errors.shape == (400,)
    assert log_p.mean() == pytest.approx(metrics["log_likelihood"], rel=1e-9)
    assert [(activities > 0.01).sum()] == metrics["active_units"]
    assert f"{metrics['log_likelihood']:.2f}".replace("-", "−") in text
    found = images(text)
    assert found[:3] == [
        "100 samples of the model",
        "20 test images, each above its reconstruction",
        "4 rows, each from one test image to another by way of the model's own".replace("'", "&#39;"),
    ]
    best, worst = int(log_p.argmax()), int(log_p.argmin())
    assert found[3].startswith(f"Test image {best}, ")
    assert found[13].startswith(f"Test image {worst}, ")
    assert len(found) == 23


def test_the_scores_that_are_kept_are_those_of_the_test_images(finished):
    import keras

    model = keras.saving.load_model(finished / "model.keras", compile=False)
    x = binarize_once(iwae_tf.data.load("digits").intensities("test"), "test")[:5]
    with np.load(finished / "scores.npz") as scores:
        # Two passes of float32 networks over batches of other sizes.
        np.testing.assert_allclose(scores["log_likelihood"][:5], model.log_likelihood(x, 60), rtol=1e-5)


def test_the_page_is_the_same_when_it_is_made_again(run, capsys):
    before = (run / "report.html").read_text()
    (run / "report.html").unlink()
    assert report(run) == 0
    assert capsys.readouterr().out == f"written: {run / 'report.html'}\n"
    again = (run / "report.html").read_text()
    assert len(images(again)) == 23
    # Only the path in the commands is another; pictures of two processes may differ by rounding, here is one.
    assert re.sub(r"/\S+/small\b", "RUN", again) == re.sub(r"/\S+/small\b", "RUN", before)


def test_nothing_that_the_folder_holds_is_computed_again(run, monkeypatch):
    def computed(*arguments, **options):
        raise AssertionError("computed again")

    monkeypatch.setattr("iwae_tf.evaluation.unit_activities", computed)
    monkeypatch.setattr(iwae_tf.IWAE, "log_weight_chunks", computed)
    assert report(run) == 0


def test_an_older_run_without_scores_still_has_its_page(run):
    (run / "scores.npz").unlink()
    config = json.loads((run / "config.json").read_text())
    del config["model"]["latent"], config["model"]["precision"], config["objective"], config["training"]["init_from"]
    (run / "config.json").write_text(json.dumps(config))
    assert report(run) == 0
    text = (run / "report.html").read_text()
    assert "the command Evaluate below leaves them" in text
    assert len(images(text)) == 3
    assert "unit 0</span>" in text  # measured again


def test_an_evaluation_of_an_older_run_gives_best_and_worst(run):
    (run / "scores.npz").unlink()
    assert main(["evaluate", str(run), "--num-samples", "60", "--verbose", "0"]) == 0
    assert report(run) == 0
    assert len(images((run / "report.html").read_text())) == 23


def test_a_run_whose_data_have_gone_shows_samples_and_says_why(run, capsys):
    config = json.loads((run / "config.json").read_text())
    config["data"]["dataset"] = "gone.npz"
    (run / "config.json").write_text(json.dumps(config))
    assert report(run) == 0
    text = (run / "report.html").read_text()
    assert "could not be read: there is no file gone.npz" in text
    assert images(text) == ["100 samples of the model"]
    assert text.count('<span class="score">') == 20


def test_a_run_that_replaces_another_leaves_none_of_its_scores(run):
    (run / "evaluation").mkdir()
    (run / "evaluation" / "report.json").write_text("{}")
    assert main(["train", "--k", "2", *SMALL, "--output-dir", str(run), "--overwrite"]) == 0
    assert not (run / "evaluation").exists()
    assert "<dt>k</dt><dd>2</dd>" in (run / "report.html").read_text()


# ---------------------------------------------------------------------------------------------- other runs


@pytest.mark.slow
def test_rows_of_numbers_without_validation_data_and_binary_units_in_two_layers(finished, tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "rows.npz", x_train=rng.random((40, 7)), x_test=rng.random((9, 7)))
    rows, binary = tmp_path / "rows", tmp_path / "binary"
    flags = ["--dataset", str(tmp_path / "rows.npz"), "--likelihood", "gaussian", "--k", "2", *SMALL]
    assert main(["train", *flags, "--output-dir", str(rows)]) == 0
    units = ["--layers", "2", "--latent", "bernoulli", "--objective", "vimco", "--k", "3"]
    flags = [*SMALL, *units, "--latent-units", "4", "3", "--hidden-units", "8", "none"]
    assert main(["train", *flags, "--output-dir", str(binary)]) == 0
    text = (rows / "report.html").read_text()
    assert images(text) == []
    assert "has the shape 1 x 7, which is no grey image" in text
    assert "there are no validation images" in text
    assert text.count('<span class="score">') == 9
    text = (binary / "report.html").read_text()
    assert len(images(text)) == 23
    assert "Layer 1, nearest x" in text
    assert "Layer 2: " in text

    page = tmp_path / "all.html"
    capsys.readouterr()
    assert report(finished, rows, binary, "--output", page) == 0
    assert capsys.readouterr().out == f"written: {page}\n"
    text = page.read_text()
    assert "3 runs side by side" in text
    assert "do not compare: they differ in dataset, source, split" in text
    assert [alt for alt in images(text) if "Test image" not in alt].count("100 samples of the model") == 2


def test_several_runs_go_into_the_current_folder(run, finished, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert report(finished, run) == 0
    assert capsys.readouterr().out == "written: report.html\n"
    assert "2 runs side by side" in Path("report.html").read_text()


def test_a_run_that_was_stopped_before_it_was_evaluated_has_a_page(run):
    for name in ("metrics.json", "scores.npz", "report.html"):
        (run / name).unlink()
    assert report(run) == 0
    text = (run / "report.html").read_text()
    assert "trained, but not evaluated" in text
    assert len(images(text)) == 3  # there is a model
    (run / "model.keras").unlink()
    assert report(run) == 0
    assert images((run / "report.html").read_text()) == []


# ---------------------------------------------------------------------------------------------- bad input


def test_bad_input_is_one_line_and_exit_code_2(run, capfd, tmp_path):
    assert "is not the folder of a run" in error_of(capfd, tmp_path)
    assert "did you mean" in error_of(capfd, tmp_path / "smal")
    assert "expected .html" in error_of(capfd, run, "--output", tmp_path / "page.txt")
    assert "cannot be written" in error_of(capfd, run, "--output", tmp_path / "no" / "page.html")
    assert "given twice" in error_of(capfd, run, run)
    assert "required: RUN" in error_of(capfd)
    (run / "model.keras").write_text("cut short")
    assert "model.keras cannot be read" in error_of(capfd, run)
