"""Several seeds of one setting or more: what is trained and what is not, the summary over refits, and refusals."""

import csv
import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
from run_files import metrics_of, write_model

from iwae_tf import InputError
from iwae_tf.commands.main import main
from iwae_tf.config import DataConfig, EvaluationConfig, ModelConfig, OutputConfig, RunConfig, TrainingConfig
from iwae_tf.training import building, callbacks, sweep
from iwae_tf.training.run_folder import model_checksum
from iwae_tf.training.sweep import Options, Sweep, finish, run_sweep, summary

VALUES = {0: -30.0, 1: -29.0, 2: -31.5, 5: -40.0}  # mean scores by seed
TINY = ["--hidden-units", "6", "--latent-units", "2", "--k", "2", "--epochs", "1", "--batch-size", "25"]


def metrics(value=-30.0, error=0.5, active=(3,), reliable=20, **changes):
    """Metrics of a run whose L_50 is a nat below its score, which is `value`."""
    counts = {"reliable": reliable, "num_rows": 20}
    found = metrics_of(log_likelihood=value, standard_error=error, active_units=list(active), reliability=counts)
    found["bounds"]["50"], found["bound_standard_errors"]["50"] = value - 1, error + 1
    return found | {"dataset": "digits"} | changes


def configs(*training, **settings):
    return [RunConfig(training=TrainingConfig(**settings | each)) for each in training or ({},)]


# the summary


def test_the_spread_is_that_of_the_runs_and_the_error_over_rows_that_of_the_first():
    runs = [metrics(-30.0, 0.5, (3, 9)), metrics(-29.0, 0.7, (5, 9), 10), metrics(-31.5, 0.9, (4, 9))]
    found = summary(runs)
    assert found["refits"] == 3
    for name, shift in (("log_likelihood", 0.0), ("bound", -1.0)):
        values = np.array([-30.0, -29.0, -31.5]) + shift
        assert found[name] == pytest.approx(values.mean())
        assert found[f"{name}_sd"] == pytest.approx(scipy.stats.tstd(values))  # n - 1
        assert found[f"{name}_standard_error"] == 0.5 - shift
    assert found["reliable"] == pytest.approx(50 / 60)
    assert found["active_units"] == "3-5+9"
    assert found["minutes"] == 1.5
    one = summary(runs[1:2])
    assert (one["log_likelihood"], one["log_likelihood_sd"], one["active_units"]) == (-29.0, None, "5+9")
    old = metrics_of()
    del old["reliability"]  # an earlier version did not write it
    assert math.isnan(summary([old])["reliable"])


@pytest.fixture
def finished(monkeypatch):
    """Lets every run count as finished with the score of its seed, ten nats higher with k = 5; returns their order."""
    order = []

    def fake(plan, options):
        for run in plan:
            training = run.config.training
            order.append((training.k, training.seed))
            value, error = VALUES[training.seed] + 10 * (training.k == 5), 0.1 * (training.seed + 1) + training.k
            yield run.path, metrics(value, error, reliable=17 if training.k == 5 else 20)

    monkeypatch.setattr(sweep, "finish", fake)
    return order


def test_every_setting_has_the_runs_of_its_seeds_and_the_table_is_whole_after_the_first_seed(
    finished, tmp_path, monkeypatch
):
    figures = []
    monkeypatch.setattr("iwae_tf.plots.save_sweep", lambda *given: figures.append(given))
    wanted = Sweep(configs({"k": 1}, {"k": 5}), [2, 0, 1], tmp_path)
    text, failed = run_sweep(wanted, Options(figure_format="svg"))
    assert failed == []
    assert finished == [(1, 2), (5, 2), (1, 0), (5, 0), (1, 1), (5, 1)]
    with (tmp_path / "sweep.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    mean, spread = np.mean([-31.5, -30, -29]), np.std([-31.5, -30, -29], ddof=1)
    for row, k in ((first, 1), (second, 5)):
        assert (row["k"], row["objective"], row["learning_rate"], row["refits"]) == (str(k), "iwae", "0.001", "3")
        assert float(row["log_likelihood"]) == pytest.approx(mean + 10 * (k == 5))
        assert float(row["log_likelihood_sd"]) == pytest.approx(spread)
        assert float(row["log_likelihood_standard_error"]) == pytest.approx(0.3 + k)  # of the first seed
    assert text == (tmp_path / "sweep.md").read_text()
    heading, *_, head, _, line, _ = text.splitlines()
    assert heading == "digits, objective iwae, learning rate 0.001, 60 epochs; seeds 2, 0, 1; 20 test rows; in nats."
    assert head.startswith("| k | refits | L_50 | error over rows | lower bound on log p(x) | error over rows |")
    assert line == "| 1 | 3 | -31.17 +- 1.26 | 2.30 | -30.17 +- 1.26 | 1.30 | 100.0% | 3 | 1.5 |"
    path, scores, errors, title, fixed = figures[-1]
    assert path == tmp_path / "sweep.svg"
    assert scores == {"k 1": [-31.5, -30.0, -29.0], "k 5": [-21.5, -20.0, -19.0]}
    assert (errors, title, fixed) == (
        [pytest.approx(1.3), pytest.approx(5.3)],
        "lower bound on log p(x) on digits",
        "objective iwae, learning rate 0.001, 60 epochs",
    )
    assert len(figures) == 6


def test_a_point_in_the_name_of_a_table_is_no_ending(finished, tmp_path):
    for beta in (0.05, 0.5):
        run_sweep(Sweep(configs({"k": 1}), [0], tmp_path, f"digits-ciwae-beta{beta}-seeds"), Options())
    assert {path.name for path in tmp_path.iterdir()} == {
        f"digits-ciwae-beta{beta}-seeds.{ending}" for beta in (0.05, 0.5) for ending in ("csv", "md")
    }


def test_a_table_without_a_figure_or_with_one_of_another_format_deletes_the_old_one(finished, tmp_path):
    run_sweep(Sweep(configs({"k": 1}, {"k": 5}), [0], tmp_path), Options())
    assert (tmp_path / "sweep.png").is_file()
    run_sweep(Sweep(configs({"k": 1}, {"k": 5}), [0], tmp_path), Options(figure_format="svg"))
    assert {path.name for path in tmp_path.iterdir()} == {"sweep.csv", "sweep.md", "sweep.svg"}
    run_sweep(Sweep(configs({"k": 1}), [0], tmp_path), Options())
    assert {path.name for path in tmp_path.iterdir()} == {"sweep.csv", "sweep.md"}


def test_run_folders_have_the_names_of_train_with_the_rate_if_it_varies(tmp_path):
    wanted = Sweep(configs({"objective": "dreg"}, {"objective": "stl"}, k=5), [0, 1], tmp_path)
    assert wanted.planned(wanted.configs[1], 1).path == tmp_path / "digits-stl-k5-l1-seed1"
    assert wanted.planned(wanted.configs[1], 1).config.training.seed == 1
    assert wanted.varied == ["objective"]
    rates = Sweep(configs({"learning_rate": 0.01}, {"learning_rate": 0.001}), [11], tmp_path)
    names = [rates.planned(config, 11).name for config in rates.configs]
    assert names == ["digits-iwae-k50-l1-rate0.01-seed11", "digits-iwae-k50-l1-rate0.001-seed11"]


# runs that are there already


@pytest.fixture
def there(images, tmp_path, monkeypatch):
    """Writes a finished run of a plan: a function of the run and changes of its settings and metrics."""
    monkeypatch.setattr("iwae_tf.training.run.start", None)  # nothing may be trained
    dataset = building.load_data(vars(DataConfig(images)))

    def write(run, weight=1.0, epochs=None, training=(), **of_metrics):
        write_model(run.path, weight)
        content = building.resolved(run.config, dataset).to_json()
        content["data"] |= {"num_train": 50, "num_valid": 7, "num_test": 20, "sha256": building.checksums(dataset)}
        content["training"] |= dict(training)
        (run.path / "config.json").write_text(json.dumps(content))
        of_metrics = {"model": model_checksum(run.path), "epochs": run.config.training.epochs} | of_metrics
        (run.path / "metrics.json").write_text(json.dumps(metrics(**of_metrics)))

    return write


def plan_of(images, folder, *training, seeds=(0, 1), **settings):
    model, evaluation = ModelConfig(latent_units=(2,), hidden_units=((6,),)), EvaluationConfig(50)
    wanted = Sweep(
        [RunConfig(DataConfig(images), model, config.training, evaluation=evaluation) for config in configs(*training)]
        if training
        else [RunConfig(DataConfig(images), model, TrainingConfig(**settings), evaluation=evaluation)],
        seeds,
        folder,
    )
    return [wanted.planned(config, seed) for seed in seeds for config in wanted.configs]


def test_finished_runs_are_taken_over_in_their_order(there, images, tmp_path):
    plan = plan_of(images, tmp_path, k=5, epochs=2)
    for run in plan:
        there(run, value=VALUES[run.config.training.seed])
    lines = []
    found = [*finish(plan, Options(report=lines.append))]
    assert [(path, of_run["log_likelihood"]) for path, of_run in found] == [
        (plan[0].path, -30.0),
        (plan[1].path, -29.0),
    ]
    assert lines == [f"{run.name}: finished before, in {run.path}" for run in plan]


def test_runs_after_one_that_fails_are_trained(there, images, tmp_path, monkeypatch):
    plan, lines = plan_of(images, tmp_path, seeds=(0, 1, 2), k=5), []

    def trained(run, options, callbacks, say_time_left):
        if run.config.training.seed == 1:
            raise InputError("the bound is not finite")
        return metrics(eval_seconds=1.0)

    monkeypatch.setattr(sweep, "_trained", trained)
    runs = finish(plan, Options(report=lines.append))
    found = {path: of_run and of_run["eval_seconds"] for path, of_run in runs}
    assert found == {plan[0].path: 1.0, plan[1].path: None, plan[2].path: 1.0}
    assert lines == [f"{plan[1].name}: failed: the bound is not finite"]


@pytest.mark.parametrize("stored", [{"epochs": 1}, {}])
def test_a_run_that_finished_with_fewer_epochs_is_trained_further(there, images, tmp_path, stored):
    (run,) = plan_of(images, tmp_path, seeds=[0], k=5, epochs=2)
    # Trained further and stopped before it was scored again: the settings are new, and the metrics of the old model.
    there(run, training=stored, epochs=1, model="sha256:0" if not stored else None)
    content = json.loads((run.path / "metrics.json").read_text())
    (run.path / "metrics.json").write_text(json.dumps(content | {"epochs": 1}))
    lines = []
    with pytest.raises(TypeError, match="not callable"):
        [*finish([run], Options(report=lines.append))]
    assert lines == [f"{run.name}: resumes, 2 passes, in {run.path}"]


@pytest.mark.parametrize(
    ("training", "of_metrics", "message"),
    [
        ({"k": 6}, {}, "seed1 was made with other settings: k is 6 there and 5 here"),
        ({"epochs": 3}, {}, "epochs is 3 there and 2 here"),
        ({"schedule": "paper", "epochs": 1}, {"epochs": 1}, "schedule is 'paper' there and 'constant' here"),
        ({}, {"model": "sha256:0"}, "seed1 was changed: metrics.json is of model sha256:0"),
    ],
)
def test_a_folder_with_another_run_is_refused_before_the_runs_ahead_of_it_are_trained(
    there, images, tmp_path, training, of_metrics, message
):
    _, second = plan = plan_of(images, tmp_path, k=5, epochs=2)
    there(second, training=training, **of_metrics)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message):
        next(finish(plan, Options()))
    assert sorted(tmp_path.rglob("*")) == before


def test_an_objective_that_does_not_take_a_setting_is_refused_before_anything_is_trained(there, images, tmp_path):
    plan = plan_of(images, tmp_path, {"objective": "iwae", "k": 1}, {"objective": "vimco", "k": 1})
    with pytest.raises(InputError, match="vimco needs at least 2 samples"):
        next(finish(plan, Options()))
    with pytest.raises(InputError, match="not enough memory"):
        next(finish(plan_of(images, tmp_path, {"k": 1}, {"k": 500_000_000}), Options()))


# the time left


def test_the_time_left_is_said_once_after_a_minute_at_the_speed_without_the_first_steps(monkeypatch):
    said, now = [], iter([100.0, 130.0, 159.0, 161.0, 300.0])
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: next(now))
    clock = callbacks.TimeLeft(1000, lambda *seconds: said.append(seconds))
    model = SimpleNamespace(step=20)
    clock.set_model(model)
    for step in (20, 30, 40, 50, 60):
        model.step = step
        clock.on_train_batch_end(0)
        assert len(said) == (step >= 50)
    assert said == [(pytest.approx(61 / 30 * 950), pytest.approx(61 / 30 * 1000))]


def test_the_time_of_later_runs_is_that_of_the_running_one_by_epochs_layers_and_k(there, images, tmp_path, monkeypatch):
    lines, (first, second, third, fourth) = (
        [],
        plan_of(images, tmp_path, {"k": 2}, {"k": 12, "epochs": 120}, seeds=(0, 1)),
    )
    there(third)

    def trained(run, options, callbacks, say_time_left):
        say_time_left(1800.0, 3600.0)
        return metrics(eval_seconds=600.0)

    monkeypatch.setattr(sweep, "_trained", trained)
    [*finish([first, second, third, fourth], Options(report=lines.append))]
    lines = [line for line in lines if "finished" not in line]
    # Twice the epochs and (8 + 12) / (8 + 2) the time of a step; two of those to come, the third run is finished.
    assert (
        lines[0] == f"{first.name}: about 30 min of training to go; all 3 runs left: about 8.5 h, scoring not included"
    )
    assert lines[1] == f"{second.name}: about 30 min of training to go; all 2 runs left: about 1.8 h"  # two scorings
    assert lines[2] == f"{fourth.name}: about 30 min of training to go, scoring not included"


# the commands


@pytest.mark.slow
def test_seeds_of_train_share_the_folders_of_single_runs_and_nothing_is_trained_twice(
    images, tmp_path, monkeypatch, without_figures, without_refinement, capsys
):
    monkeypatch.chdir(tmp_path)
    words = ["train", "--dataset", images, *TINY, "--eval-samples", "20", "--verbose", "0"]
    assert main([*words, "--seed", "1"]) == 0
    single = Path("runs/mine-iwae-k2-l1-seed1/metrics.json").read_text()
    capsys.readouterr()
    pages = []
    monkeypatch.setattr("iwae_tf.report.page.write_report", lambda records, path: pages.append(path))
    assert main([*words, "--seeds", "0,1"]) == 0
    assert pages == [Path("runs/mine-iwae-k2-l1-seed0/report.html")]
    printed = capsys.readouterr().out
    starts, before, *_ = printed.splitlines()
    assert starts == "mine-iwae-k2-l1-seed0: starts, 1 passes, in runs/mine-iwae-k2-l1-seed0"
    assert before == "mine-iwae-k2-l1-seed1: finished before, in runs/mine-iwae-k2-l1-seed1"
    assert Path("runs/mine-iwae-k2-l1-seed1/metrics.json").read_text() == single
    assert "written: runs/mine-iwae-k2-l1-seeds.csv, runs/mine-iwae-k2-l1-seeds.md" in printed
    other = json.loads(Path("runs/mine-iwae-k2-l1-seed0/metrics.json").read_text())
    (row,) = csv.DictReader(Path("runs/mine-iwae-k2-l1-seeds.csv").read_text().splitlines())
    values = [other["log_likelihood"], json.loads(single)["log_likelihood"]]
    assert float(row["log_likelihood_sd"]) == pytest.approx(np.std(values, ddof=1))
    assert json.loads(Path("runs/mine-iwae-k2-l1-seed0/config.json").read_text())["training"]["seed"] == 0
    monkeypatch.setattr("iwae_tf.training.run.start", None)
    assert main([*words, "--seeds", "2"]) == 0
    assert capsys.readouterr().out.count("finished before") == 2


@pytest.fixture
def swept(monkeypatch, tmp_path):
    """Runs a command up to the training: a function of its words that returns the `Sweep`."""
    monkeypatch.chdir(tmp_path)
    seen = []
    monkeypatch.setattr("iwae_tf.commands.train.run_all", lambda wanted, arguments: seen.append(wanted) or 0)

    def call(*words):
        assert main([*words]) == 0
        return seen.pop()

    return call


def test_a_sweep_is_the_product_of_its_lists(swept, tmp_path):
    wanted = swept("sweep", "--k", "1,5", "--objective", "dreg, iwae", "--seeds", "2", "--seed", "7", "--epochs", "3")
    settings = [(config.training.objective, config.training.k) for config in wanted.configs]
    assert settings == [("dreg", 1), ("dreg", 5), ("iwae", 1), ("iwae", 5)]
    assert {config.training.epochs for config in wanted.configs} == {3}
    assert (wanted.seeds, wanted.folder, wanted.name) == ([7, 8], Path("runs/sweep-digits-objective-k"), "sweep")
    (tmp_path / "s.toml").write_text("k = [1, 5]\nlearning-rate = [0.1, 0.01]\nseeds = [4, 2]\n")
    wanted = swept("sweep", "--config", "s.toml", "--learning-rate", "0.5", "--output-dir", "out")
    assert [(config.training.k, config.training.learning_rate) for config in wanted.configs] == [(1, 0.5), (5, 0.5)]
    assert (wanted.seeds, wanted.folder) == ([4, 2], Path("out"))
    other = swept("sweep", "--k", "1,5", "--objective", "ciwae", "--beta", "0.1", "--layers", "2")
    assert other.folder == Path("runs/sweep-digits-k-ciwae-beta0.1-l2")  # another table
    one = swept("sweep")
    assert (len(one.configs), one.seeds, one.folder) == (1, [0], Path("runs/sweep-digits"))
    assert one.configs[0] == RunConfig()


def test_seeds_of_train_go_to_the_folders_of_single_runs(swept):
    wanted = swept("train", "--seeds", "5,0", "--k", "3")
    assert (wanted.seeds, wanted.folder, wanted.name) == ([5, 0], Path("runs"), "digits-iwae-k3-l1-seeds")
    assert [config.training.k for config in wanted.configs] == [3]
    assert swept("train", "--seeds", "2", "--seed", "3", "--output-dir", "out").seeds == [3, 4]


def test_a_sweep_shows_its_table_and_then_what_failed(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)

    Path("out").mkdir()  # as the first run would

    def fake(plan, options):
        for run in plan:
            yield run.path, None if run.config.training.learning_rate > 1 else metrics()

    monkeypatch.setattr(sweep, "finish", fake)
    assert main(["sweep", "--learning-rate", "1e30,0.001", "--output-dir", "out"]) == 2
    printed = capsys.readouterr()
    assert "| 0.001 | 1 | -31.00 |" in printed.out
    assert "written: out/sweep.csv, out/sweep.md, out/sweep.png" in printed.out
    assert printed.err == ("error: not in the table, for the reasons above: out/digits-iwae-k50-l1-rate1e+30-seed0\n")
    assert main(["sweep", "--learning-rate", "1e30", "--output-dir", "out"]) == 2
    assert "written" not in capsys.readouterr().out


def test_a_stopped_sweep_says_how_to_go_on(monkeypatch, tmp_path, capsys):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("iwae_tf.commands.train.run_sweep", stop)
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "iwae_tf", "sweep", "--k", "1,5"])
    assert main(["sweep", "--k", "1,5"]) == 130
    assert "stopped; resume with: python -m iwae_tf sweep --k 1,5\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("train --seeds 0,0", "--seeds: 0 is given twice in 0,0"),
        ("train --seeds -1", "-1 must be a number of seeds from 1 to 1000"),
        ("train --seeds=", "invalid number or list of integers value: ''"),
        ("train --seeds 0,x", "invalid number or list of integers value: '0,x'"),
        ("train --seeds=-1,0", "seed must be an integer in [0, 2147483647], got -1"),
        ("train --seeds 2 --seed 2147483647", "seed must be an integer in [0, 2147483647], got 2147483648"),
        ("train --seeds 0,1 --seed 3", "--seed 3 and --seeds 0,1: give one of them"),
        ("train --seeds 2 --resume", "--resume is for a single run"),
        ("train --seeds 2 --overwrite", "delete the folders of runs"),
        ("train --seeds 2 --export", "python -m iwae_tf export exports a run"),
        ("train --seeds 2 --strategy multiworker", "--strategy multiworker trains a single run"),
        ("train --seeds 2 --callback nothing", "expected MODULE:FACTORY"),
        ("train --seeds 2 --epochs 0", "epochs must be an integer >= 1"),
        ("reproduce table1 --seeds 0,0", "--seeds: 0 is given twice in 0,0"),
        ("sweep --objective iwae,dregg", "unknown objective 'dregg': did you mean 'dreg'"),
        ("sweep --k 1,1", "--k: 1 is given twice in 1,1"),
        ("sweep --k 1,0", "k must be an integer >= 1, got 0"),
        ("sweep --k 1,five", "--k: invalid list of integers value: '1,five'"),
        ("sweep --learning-rate 0.1,1e-1", "--learning-rate: 0.1 is given twice in 0.1,1e-1"),
        ("sweep --learning-rate 0.1,-1", "learning_rate must be a positive number, got -1.0"),
        ("sweep --resume", "unknown argument --resume"),
        ("sweep --objective iwae,piwae --groups 5", "objective 'iwae' has no --groups"),
    ],
)
def test_bad_seeds_and_lists_are_one_line_and_write_nothing(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("iwae_tf.training.run.start", None)  # nothing may be trained
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_output_is_that_of_single_runs(monkeypatch, tmp_path):
    seen = []

    def start(config, output, workers):
        seen.append((output, workers))
        raise InputError("stopped by the test")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("iwae_tf.training.run.start", start)
    assert main(["sweep", "--tensorboard", "--verbose", "2", "--strategy", "mirrored", "--output-dir", "out"]) == 2
    (output, workers) = seen[0]
    path = str(Path("out/digits-iwae-k50-l1-seed0"))
    assert output == OutputConfig(output_dir=path, tensorboard=True, verbose=2)
    assert workers.strategy == "mirrored"
