"""A user's table from the file to a score: training, evaluation, export and scoring take the same raw rows."""

import csv
import json
import re

import numpy as np
import PIL.Image
import pyarrow
import pyarrow.parquet
import pytest
from shared_runs import skip_refinement

from iwae_tf import evaluation
from iwae_tf.commands.main import main
from iwae_tf.config import DataConfig, ModelConfig, OutputConfig, RunConfig
from iwae_tf.data.tables import read_rows
from iwae_tf.errors import InputError
from iwae_tf.serving.client import ScoringClient
from iwae_tf.serving.local_server import predict
from iwae_tf.serving.model_folder import load
from iwae_tf.training import run as training
from iwae_tf.training.building import load_data
from iwae_tf.training.run_folder import read_trained
from iwae_tf.training.scores_file import read_columns

ROWS = 160
SMALL = ["--latent-units", "2", "--hidden-units", "8", "--k", "2", "--epochs", "2", "--eval-samples", "100"]


def table(holes: bool = False) -> dict:
    """Columns of every kind in units of their own, an identifier and a label."""
    rng = np.random.default_rng(0)
    height = rng.normal(170, 10, ROWS)
    columns = {
        "name": [f"p, {i}" for i in range(ROWS)],
        "height": height.round(1).tolist(),
        "income": np.exp(rng.normal(10, 1, ROWS)).round(2).tolist(),
        "smokes": (rng.random(ROWS) < 0.3).astype(int).tolist(),
        "visits": rng.poisson(3, ROWS).tolist(),
        "town": rng.choice(["Bonn", "Kiel", "Ulm"], ROWS).tolist(),
        "ill": np.where(height > 180, "yes", "no").tolist(),
    }
    if holes:
        for name in ("height", "town"):
            columns[name] = [None if rng.random() < 0.2 else value for value in columns[name]]
    return columns


def write_csv(path, columns: dict) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


@pytest.fixture(scope="module", params=["complete", "missing"])
def trained(request, tmp_path_factory):
    """A folder with `rows.csv`, the same as `rows.parquet`, a run on it, and its exported model.

    With missing values proposals are refined, without them they are not, which takes half the time.
    """
    folder, missing = tmp_path_factory.mktemp(request.param), request.param == "missing"
    columns, flags = table(missing), ["--missing"] if missing else ["--likelihood", "auto"]
    write_csv(folder / "rows.csv", columns)
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "rows.parquet")
    own = ["--dataset", str(folder / "rows.csv"), "--id-column", "name", "--label-column", "ill"]
    with pytest.MonkeyPatch.context() as patch:
        if not missing:
            skip_refinement(patch)
        assert main(["train", *own, *flags, *SMALL, "--verbose", "0", "--output-dir", str(folder / "run")]) == 0
    export = ["export", str(folder / "run"), "--num-samples", "100", "--output-dir", str(folder), "--name", "m"]
    assert main([*export, "--refine", refinement(folder)]) == 0
    return folder


def refinement(folder) -> str:
    return "auto" if "missing" in str(folder) else "off"


def test_config_json_and_the_closing_numbers_are_those_of_a_table(trained):
    config = json.loads((trained / "run" / "config.json").read_text())
    kinds = {column["name"]: column["kind"] for column in config["data"]["table_columns"]}
    assert kinds == {"height": "real", "income": "real", "smokes": "binary", "visits": "count", "town": "category"}
    likelihoods = {column["name"]: column["likelihood"] for column in config["model"]["column_models"]}
    assert likelihoods["height"] == likelihoods["income"] == "student-t"
    assert (likelihoods["smokes"], likelihoods["visits"]) == ("bernoulli", "negative-binomial")
    assert (likelihoods["town"], config["model"]["column_models"][4]["levels"]) == ("categorical", 3)
    heights = load_data(config["data"]).x_train[:, 0]
    found = [config["model"]["column_models"][0][name] for name in ("loc", "scale")]
    np.testing.assert_allclose(found, [np.nanmean(heights), np.nanstd(heights)], rtol=1e-5)
    provenance = json.loads((trained / "m" / "1" / "assets.extra" / "provenance.json").read_text())
    assert provenance["columns"] == config["model"]["column_models"]
    assert provenance["missing"] == ("missing" in str(trained))
    assert provenance["config"]["data"]["table_columns"] == config["data"]["table_columns"]
    labels = json.loads((trained / "run" / "metrics.json").read_text())["labels"]
    assert labels["rarer"] == "yes"
    assert 0 <= labels["auroc"] <= 1
    assert (trained / "run" / "columns.png").exists()
    assert not (trained / "run" / "samples.png").exists()
    page = re.sub('"data:image/[^"]*"', "", (trained / "run" / "report.html").read_text())
    assert "image" not in page.split("</style>")[1]
    assert "AUROC of low scores for label yes" in page
    assert "their average precision" in page
    assert "<dt>column smokes</dt><dd>kind binary</dd>" in page
    assert "<dt>column town</dt><dd>kind category, categories Bonn, Kiel, Ulm</dd>" in page
    assert "<dt>column town</dt><dd>likelihood categorical, loc 0, scale 1, levels 3</dd>" in page


def test_the_same_rows_have_the_same_score_through_every_door(trained, capsys):
    run = read_trained(trained / "run")
    dataset = load_data(run.config["data"])
    by_training = read_columns(trained / "run" / "scores.parquet")
    assert by_training["id"].tolist() == dataset.ids["test"].tolist()
    assert by_training["label"].tolist() == dataset.labels["test"].tolist()
    python = evaluation.estimate_log_likelihood(run.model, dataset.x_test, 100, refine=refinement(trained))
    np.testing.assert_allclose(python.log_likelihood, by_training["log_likelihood"], rtol=1e-5)
    by_server = over_json(trained / "m" / "1", dataset.x_test)
    np.testing.assert_allclose(by_server, by_training["log_likelihood"], rtol=1e-4, atol=1e-4)
    with ScoringClient(trained / "m") as client:
        np.testing.assert_array_equal(client.score(dataset.x_test).log_prob, np.float32(by_server))
        raw = raw_rows(trained / "rows.csv", dataset.ids["test"].tolist())
        by_column = client.predict("score_columns", {name: [row[name] for row in raw] for name in raw[0]})
    np.testing.assert_array_equal(by_column["log_prob"], np.float32(by_server))
    body = json.dumps({"signature_name": "score_columns", "instances": raw}).encode()
    predictions = json.loads(predict(body, load(trained / "m" / "1").signatures))["predictions"]
    assert [row["log_prob"] for row in predictions] == by_server
    assert [row["p_value"] for row in predictions] == by_column["p_value"].tolist()

    for file in ("rows.csv", "rows.parquet"):
        capsys.readouterr()
        assert main(["score", str(trained / file), "--url", str(trained / "m"), "--id-column", "name"]) == 0
        lines = list(csv.DictReader(capsys.readouterr().out.splitlines()))
        assert len(lines) == ROWS
        scored = {line["id"]: float(line["log_prob"]) for line in lines}
        np.testing.assert_allclose([scored[name] for name in by_training["id"]], by_server, rtol=1e-6)


def raw_rows(file, ids: list[str]) -> list[dict]:
    """Rows of a file as any client sends them: text as it is, numbers parsed, NaN for a missing one."""
    with open(file, newline="") as lines:
        rows = {row["name"]: row for row in csv.DictReader(lines)}
    kept = [{name: rows[i][name] for name in ("height", "income", "smokes", "visits", "town")} for i in ids]
    return [row | {name: float(row[name] or "nan") for name in row if name != "town"} for row in kept]


def over_json(version, x) -> list[float]:
    """The scores of the predict call of the local server; a missing value is the bare NaN."""
    body = json.dumps({"inputs": np.asarray(x, float).tolist()}).encode()
    return json.loads(predict(body, load(version).signatures))["outputs"]["log_prob"]


@pytest.mark.parametrize("kind", ["real array with holes", "folder of colour images"])
def test_arrays_and_images_have_the_same_score_through_every_door(kind, tmp_path, capsys, without_refinement):
    rng, flags = np.random.default_rng(0), ["--likelihood", "discretized-logistic"]
    data = tmp_path / "mine"
    if kind == "real array with holes":
        data, flags = tmp_path / "mine.npy", ["--missing"]
        x = rng.normal(1000, 50, (120, 4))
        np.save(data, np.where(rng.random(x.shape) < 0.1, np.nan, x))
    else:
        for i, pixels in enumerate(rng.integers(0, 256, (80, 3, 2, 3), np.uint8)):
            pixels[0] = 0  # a border that never changes
            (data / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
            PIL.Image.fromarray(pixels).save(data / "ab"[i % 2] / f"{i}.png")
    run = str(tmp_path / "run")
    out = ["--output-dir", str(tmp_path), "--name", "m", "--num-samples", "100", "--refine", "off"]
    assert main(["train", "--dataset", str(data), *flags, *SMALL, "--verbose", "0", "--output-dir", run]) == 0
    assert main(["export", run, *out]) == 0
    trained = read_trained(tmp_path / "run")
    dataset = load_data(trained.config["data"])
    by_training = read_columns(tmp_path / "run" / "scores.parquet")
    x = dataset.intensities("test")
    python = evaluation.estimate_log_likelihood(trained.model, x, 100, refine="off").log_likelihood
    np.testing.assert_allclose(python, by_training["log_likelihood"], rtol=1e-5)
    np.testing.assert_allclose(over_json(tmp_path / "m" / "1", dataset.x_test), python, rtol=1e-4)
    assert "score_columns" not in load(tmp_path / "m" / "1").signatures  # columns without names, or none

    capsys.readouterr()
    assert main(["score", str(data), "--url", str(tmp_path / "m")]) == 0
    lines = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    if kind == "folder of colour images":
        assert set(by_training["label"]) == {"a", "b"}
        scored = {line["id"]: float(line["log_prob"]) for line in lines}
        by_score = [scored[path] for path in by_training["id"]]
    else:
        raw = np.load(data).astype(np.float32)
        rows = [int(np.flatnonzero((np.nan_to_num(raw) == np.nan_to_num(row)).all(axis=1))[0]) for row in x]
        by_score = [float(lines[row]["log_prob"]) for row in rows]
    np.testing.assert_allclose(by_score, python, rtol=1e-4)


def test_evaluate_scores_the_run_again_and_refuses_other_rows(trained, capsys):
    evaluate = ["evaluate", str(trained / "run"), "--refine", refinement(trained)]
    assert main([*evaluate, "--num-samples", "100"]) == 0
    out, err = capsys.readouterr()
    assert "AUROC" in out
    assert "row/s" in err
    assert "image" not in out + err
    assert (trained / "run" / "evaluation" / "posteriors.png").exists()
    found = read_columns(trained / "run" / "evaluation" / "scores.parquet")
    np.testing.assert_allclose(
        found["log_likelihood"], read_columns(trained / "run" / "scores.parquet")["log_likelihood"], rtol=1e-6
    )
    original = (trained / "rows.csv").read_text()
    try:
        (trained / "rows.csv").write_text(original.replace("Kiel", "Rome"))  # the same codes of another category
        assert main([*evaluate, "--overwrite"]) == 2
        assert "'Rome'" in capsys.readouterr().err
        (trained / "rows.csv").write_text(original.replace(",0,", ",1,", 1))  # the same number of rows
        assert main([*evaluate, "--overwrite"]) == 2
        assert "has changed" in capsys.readouterr().err
        flags = ["--resume", "--dataset", str(trained / "rows.csv"), "--id-column", "name", "--label-column", "ill"]
        missing = ["--missing"] if "missing" in str(trained) else []
        assert main(["train", *flags, *missing, *SMALL, "--output-dir", str(trained / "run")]) == 2
        assert "has changed" in capsys.readouterr().err
    finally:
        (trained / "rows.csv").write_text(original)


def test_an_unseen_category_and_an_impossible_count_are_the_status_of_their_rows(trained, tmp_path, capsys):
    columns = {name: values[:4] for name, values in table().items()}
    columns["town"][1], columns["visits"][2] = "Rome", -1
    write_csv(tmp_path / "new.csv", columns)
    assert main(["score", str(tmp_path / "new.csv"), "--url", str(trained / "m")]) == 0
    lines = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [line["status"] for line in lines] == ["0", "1", "1", "0"]
    assert [line["log_prob"] == "nan" for line in lines] == [False, True, True, False]
    run = read_trained(trained / "run")
    x, _ = read_rows(tmp_path / "new.csv", load_data(run.config["data"]).columns)
    assert np.isnan(over_json(trained / "m" / "1", x)).tolist() == [False, True, True, False]
    with pytest.raises(InputError, match="-1 in column 'town' of row 1"):
        run.model.log_likelihood(x, 10)


def test_an_empty_cell_is_observed_only_by_a_model_of_missing_values(trained, tmp_path, capsys):
    columns = {name: values[:2] for name, values in table().items()}
    columns["height"][1] = None
    write_csv(tmp_path / "new.csv", columns)
    assert main(["score", str(tmp_path / "new.csv"), "--url", str(trained / "m")]) == 0
    lines = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [line["status"] for line in lines] == (["0", "0"] if "missing" in str(trained) else ["0", "1"])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--url", "http://127.0.0.1:1/v1/models/m"], "give --data-of"),
        (["--url", "MODEL", "--array", "x"], "--array x is for .npz files"),
        (["--url", "MODEL", "--id-column", "nam"], "--id-column nam: no such column"),
        (["--url", "MODEL", "--data-of", "NOWHERE"], "there is no folder"),
    ],
)
def test_a_table_that_cannot_be_read_for_a_model_is_one_line(trained, flags, words, capsys):
    places = {"MODEL": str(trained / "m"), "NOWHERE": str(trained / "nowhere")}
    assert main(["score", str(trained / "rows.csv"), *(places.get(flag, flag) for flag in flags)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("change", "flags", "words"),
    [
        ({"height": None}, [], "train with --missing"),
        ({}, ["--column-likelihoods", "heigth=gaussian"], "did you mean 'height'"),
        ({}, ["--column-likelihoods", "town=gaussian"], "column 'town' is text, and gaussian is for numbers"),
        ({}, ["--column-likelihoods", "height"], "expected NAME=LIKELIHOOD"),
        ({}, ["--column-likelihoods", "height=negative-binomial"], "in column 'height'"),
        ({"height": 170.0}, [], "constant"),
        ({}, ["--drop", "nothing"], "--drop nothing: no such column"),
    ],
)
def test_a_table_that_cannot_be_trained_on_is_one_line_and_leaves_nothing(change, flags, words, tmp_path, capsys):
    columns = table()
    for name, value in change.items():
        columns[name] = [value] * ROWS if value is not None else [None, *columns[name][1:]]
    write_csv(tmp_path / "rows.csv", columns)
    own = ["--dataset", str(tmp_path / "rows.csv"), "--id-column", "name", "--label-column", "ill"]
    assert main(["train", *own, *flags, *SMALL, "--output-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_value_that_no_likelihood_takes_is_named_with_its_split_and_categories_are_those_of_all_splits(tmp_path):
    (tmp_path / "own").mkdir()
    rng = np.random.default_rng(0)
    for split, low, high in (("train", 0, 4), ("test", -1, 7)):
        codes, values = rng.integers([0, low], [high, 4], (60, 2)), rng.normal(size=60)
        lines = [f"{code},{count},{value:.3f}" for (code, count), value in zip(codes, values, strict=True)]
        (tmp_path / "own" / f"{split}.csv").write_text("\n".join(["code,count,value", *lines]))

    def start(*likelihoods):
        data, model = DataConfig(str(tmp_path / "own")), ModelConfig(column_likelihoods=likelihoods)
        run = training.start(RunConfig(data=data, model=model), OutputConfig(output_dir=str(tmp_path / "run")))
        run.close()
        return run

    with pytest.raises(InputError, match=r"own/test.csv, test split: x must be .* got -1 in column 'count' of row"):
        start("count=negative-binomial")
    assert not (tmp_path / "run").exists()
    assert start("code=categorical").model.columns[0].levels == 7


def test_pixels_that_never_change_have_no_density(tmp_path, capsys):
    pixels = np.pad(np.random.default_rng(0).integers(0, 256, (60, 2, 2), np.uint8), ((0, 0), (1, 1), (1, 1)))
    np.save(tmp_path / "grey.npy", pixels)
    words = ["train", "--dataset", str(tmp_path / "grey.npy"), *SMALL, "--verbose", "0"]
    for likelihood in ("gaussian", "student-t"):
        assert main([*words, "--likelihood", likelihood, "--output-dir", str(tmp_path / "run")]) == 2
        error = capsys.readouterr().err
        assert "12 pixels of grey have the same value in all training images, the first is (0, 0)" in error
        assert "use discretized-logistic" in error
        assert error.count("\n") == 1
        assert not (tmp_path / "run").exists()


def test_robust_scaling_is_by_median_and_quartiles_and_a_likelihood_for_all_numbers_spares_categories(
    tmp_path, without_refinement, without_figures
):
    write_csv(tmp_path / "rows.csv", table())
    own = ["--dataset", str(tmp_path / "rows.csv"), "--id-column", "name", "--label-column", "ill"]
    own += ["--scaling", "robust"]
    likelihood = ["--likelihood", "gaussian", "--column-likelihoods", "income=student-t"]
    assert main(["train", *own, *likelihood, *SMALL, "--verbose", "0", "--output-dir", str(tmp_path / "run")]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    found = {column["name"]: column for column in config["model"]["column_models"]}
    x = load_data(config["data"]).x_train[:, 1].astype(np.float64)
    low, middle, high = np.quantile(x, (0.25, 0.5, 0.75))
    np.testing.assert_allclose(
        [found["income"][n] for n in ("loc", "scale")], [middle, (high - low) / 1.349], rtol=1e-5
    )
    kinds = [found[name]["likelihood"] for name in ("height", "income", "smokes", "visits", "town")]
    assert kinds == ["gaussian", "student-t", "gaussian", "gaussian", "categorical"]
    x, _ = read_rows(tmp_path / "rows.csv", load_data(config["data"]).columns)
    assert np.isfinite(read_trained(tmp_path / "run").model.log_likelihood(x[:3], 10)).all()
