"""`compare` as a user meets it, on scores made by hand: words and figure, refusals, forced comparisons."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import scipy.stats

from iwae_tf import plots
from iwae_tf.commands.main import main

ROOT = Path(__file__).parents[2]
N = 60
PROTOCOL = {
    "dataset": "digits",
    "source": "scikit-learn",
    "split": "first 1297, next 100, last 400",
    "part": "test",
    "num_images": N,
    "binarization": "drawn once, from (seed 0, image)",
    "images": "sha256:" + hashlib.sha256(b"pixels").hexdigest(),
    "likelihood": "bernoulli",
    "num_samples": 5000,
    "target_standard_error": None,
    "max_samples": 50000,
    "seed": 0,
    "pruned": False,
}
OTHER = {
    "dataset": "mnist",
    "source": "a file",
    "split": "another",
    "part": "valid",
    "num_images": N - 1,
    "binarization": "none",
    "images": "sha256:" + hashlib.sha256(b"other pixels").hexdigest(),
    "likelihood": "gaussian",
    "num_samples": 500,
    "target_standard_error": 0.1,
    "max_samples": 60000,
    "pruned": True,
}
IMAGES = -22 + 4 * np.random.default_rng(0).standard_normal(N)
NEW = IMAGES + 0.5 + np.random.default_rng(1).standard_normal(N)


def write_run(path, values, order=None, k=0.2, trained=False, **changes):
    """A run folder with the scores of `evaluate`, or of `train`, in rows of some order."""
    order = np.arange(len(values)) if order is None else order
    folder, name = (path, "metrics.json") if trained else (path / "evaluation", "report.json")
    folder.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text("{}")
    report = {"protocol": PROTOCOL | {"num_images": len(values)} | changes, "log_likelihood": float(np.mean(values))}
    (folder / name).write_text(json.dumps(report))
    columns = {"row": np.arange(len(values), dtype=np.int64)[order], "log_likelihood": np.asarray(values)[order]}
    columns |= {"standard_error": np.full(len(values), 0.05), "pareto_k": np.broadcast_to(k, len(values))[order]}
    columns |= {"converged": np.ones(len(values), bool), "num_samples": np.full(len(values), 5000, np.int32)}
    pyarrow.parquet.write_table(pyarrow.table(columns), folder / "scores.parquet")
    return path


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current folder, with the evaluated runs `old` and `new`; the latter is better."""
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "old", IMAGES)
    write_run(tmp_path / "new", NEW)
    return tmp_path


@pytest.fixture
def compare(here, capsys):
    """Runs the command on runs in the current folder: exit code, stdout, stderr."""

    def command(*arguments):
        code = main(["compare", *map(str, arguments)])
        return code, *capsys.readouterr()

    return command


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


def line(text, first):
    (found,) = [line for line in text.splitlines() if line.startswith(first)]
    return found


def test_it_says_what_scipy_says_and_leaves_nothing_in_the_current_folder(compare, here):
    before = sorted(here.iterdir())
    code, out, err = compare("new", "old")
    assert (code, err) == (0, "")
    test = scipy.stats.ttest_rel(NEW, IMAGES)
    low, high = test.confidence_interval(0.95)
    mean, error = (NEW - IMAGES).mean(), scipy.stats.sem(NEW - IMAGES)
    assert f"new is better by {mean:.2f} nats, 95% interval {low:.2f} to {high:.2f}" in out.splitlines()
    assert numbers(line(out, "A - B"))[:2] == [round(mean, 3), round(error, 3)]
    assert numbers(line(out, "A  "))[:2] == [round(NEW.mean(), 3), round(scipy.stats.sem(NEW), 3)]
    assert numbers(line(out, "B  "))[:2] == [round(IMAGES.mean(), 3), round(scipy.stats.sem(IMAGES), 3)]
    assert "paired by image" in line(out, "A - B")
    assert "log p(x) of 60 test images of digits, in nats" in out
    assert f"for A on {(NEW > IMAGES).mean():.1%}" in out
    assert f"{0.05 * np.sqrt(2 / N):.4f}" in line(out, "of the error")
    assert line(out, "Pareto k").endswith("0 of 60 rows")
    assert "FORCED" not in out
    assert "written" not in out
    assert sorted(here.iterdir()) == before


def test_scores_of_training_are_compared_and_those_of_an_evaluation_come_first(compare, here):
    write_run(here / "trained", NEW, trained=True)
    expected = compare("new", "old")[1]
    assert compare("trained", "old")[1].replace("trained", "new") == expected
    write_run(here / "trained", NEW - 3.0)
    assert "old is better by" in compare("trained", "old")[1]
    (here / "trained" / "evaluation" / "report.json").unlink()  # an evaluation that was stopped
    assert compare("trained", "old")[1].replace("trained", "new") == expected


def test_several_runs_are_each_compared_with_the_first(compare, here):
    write_run(here / "third", IMAGES - 1 + 0.1 * NEW)
    code, out, _ = compare("old", "new", "third", "--output", "all.svg")
    assert code == 0
    for letter, values in (("B", NEW), ("C", IMAGES - 1 + 0.1 * NEW)):
        low, high = scipy.stats.ttest_rel(IMAGES, values).confidence_interval(0.95)
        difference, error = (IMAGES - values).mean(), scipy.stats.sem(IMAGES - values)
        assert numbers(line(out, f"A - {letter}"))[:2] == [round(difference, 3), round(error, 3)]
        assert f"interval {low:.2f} to {high:.2f}" in line(out, f"A - {letter}")
        assert numbers(line(out, f"{letter}   "))[0] == round(values.mean(), 3)
        assert f"better for A on {(values < IMAGES).mean():.1%} of the images, for {letter}" in out
        assert f"of the error of A - {letter}, by the samples" in out
    assert "old is better by" in out.splitlines()[-2]
    assert (here / "all.svg").is_file()
    assert "given twice" in compare("old", "new", "old")[2]
    assert "at most 8 runs" in compare(*["old"] * 9)[2]
    write_run(here / "less", NEW, num_samples=500)
    assert "num_samples is 5000 in A and 500 in C" in compare("old", "new", "less")[2]


def test_comparing_imports_no_tensorflow_and_prints_nothing_on_stderr(here):
    (here / "check.py").write_text(
        "import sys\nsys.orig_argv = ['python', '-m', 'iwae_tf']\n"
        "from iwae_tf.commands.main import main\nmain(['compare', 'new', 'old', '--output', 'a.png'])\n"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    command = [sys.executable, "check.py"]
    process = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=120)
    assert (process.stdout.splitlines()[-2:], process.stderr) == (["written: a.png", "set()"], "")


def test_runs_swapped_give_the_same_conclusion_and_the_negative(compare):
    outputs = [compare("new", "old")[1], compare("old", "new")[1]]
    better = {next(line for line in out.splitlines() if "is better by" in line) for out in outputs}
    assert len(better) == 1
    (mean, error, low, high), (other_mean, other_error, other_low, other_high) = (
        numbers(line(out, "A - B").replace("95%", "")) for out in outputs
    )
    assert (other_mean, other_error, other_low, other_high) == (-mean, error, -high, -low)


def test_a_run_against_itself_shows_no_difference(compare):
    code, out, _ = compare("new", "new")
    assert code == 0
    assert "no difference can be seen: A - B is 0.00 nats, 95% interval 0.00 to 0.00" in out.splitlines()


def test_rows_are_paired_by_their_number_whatever_their_order_in_the_file(compare, here):
    write_run(here / "shuffled" / "new", NEW, np.random.default_rng(2).permutation(N))
    one, other = compare("new", "old")[1], compare("shuffled/new", "old")[1]
    assert other == one


def test_doubtful_rows_are_counted_once_in_either(compare, here, monkeypatch):
    k = np.zeros((2, N))
    k[0, :3], k[1, 2:6], k[1, 10] = 0.8, np.inf, np.nan
    write_run(here / "a", NEW, k=k[0])
    write_run(here / "b", IMAGES, k=k[1])
    notes = []
    monkeypatch.setattr(plots, "save_differences", lambda *arguments: notes.append(arguments[4]))
    assert line(compare("a", "b", "--output", "x.png")[1], "Pareto k").endswith("7 of 60 rows")
    assert notes[0][0].endswith("probably too low: 7 of 60 rows")
    compare("new", "old", "--output", "x.png")
    assert "Pareto" not in notes[1][0]
    assert notes[1][0].startswith("A is better by")  # no name of a run


def test_the_seed_of_the_samples_may_differ(compare, here):
    write_run(here / "seeded", NEW, seed=5)
    code, out, _ = compare("seeded", "old")
    assert code == 0
    assert "FORCED" not in out


@pytest.mark.parametrize("name", OTHER)
def test_every_difference_of_the_protocols_is_refused_with_both_values(compare, here, name):
    changes = {name: OTHER[name]}
    write_run(here / "other", NEW[:-1] if name == "num_images" else NEW, **changes)
    code, out, err = compare("other", "old")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    values = [repr(value) for value in (OTHER[name], PROTOCOL[name])]
    if name == "images":
        values = [value[:20] for value in values]
    assert re.search(rf"{name} is {re.escape(values[0])}.* in A and {re.escape(values[1])}.* in B", err)
    assert "--force" in err
    assert not list(here.glob("*.png"))


def test_all_differences_are_named_at_once_and_what_only_one_protocol_has(compare, here):
    protocol = {name: value for name, value in OTHER.items() if name != "num_images"}
    write_run(here / "other", NEW, **protocol, new_entry=1)
    _, _, err = compare("old", "other")
    assert all(f"{name} is " in err for name in [*protocol, "new_entry"])
    assert "new_entry is absent in A and 1 in B" in err


@pytest.mark.parametrize("name", [name for name in OTHER if name not in ("images", "num_images")])
def test_forced_over_the_same_images_it_pairs_and_says_what_differs(compare, here, name):
    write_run(here / "other", NEW, **{name: OTHER[name]})
    code, out, _ = compare("other", "old", "--force")
    assert code == 0
    first, *_, conclusion = out.splitlines()
    assert first.startswith(f"FORCED: not scored alike, {name} is {OTHER[name]!r} in A and {PROTOCOL[name]!r} in B")
    assert conclusion.startswith("FORCED: other is better by")
    assert "paired by image" in line(out, "A - B")
    assert "PAIRED" not in out


@pytest.mark.parametrize("number", [N, N - 1, 2 * N])
def test_forced_over_other_images_it_never_pairs(compare, here, number):
    values = np.resize(NEW, number)
    write_run(here / "other", values, images=OTHER["images"])
    code, out, _ = compare("other", "old", "--force")
    assert code == 0
    low, high = scipy.stats.ttest_ind(values, IMAGES, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose(numbers(line(out, "A - B"))[-2:], [low, high], atol=0.006)  # two decimals are printed
    assert "NOT PAIRED" in line(out, "A - B")
    assert "compared as two samples and NOT PAIRED" in out.splitlines()[0]
    assert "for A on" not in out
    assert line(out, "Pareto k").endswith(f"0 of {number + N} rows")


def test_rows_of_other_numbers_are_never_paired(compare, here):
    write_run(here / "other", NEW)
    file = here / "other" / "evaluation" / "scores.parquet"
    table = pyarrow.parquet.read_table(file)
    pyarrow.parquet.write_table(table.set_column(0, "row", pyarrow.array(np.arange(N) + 1)), file)
    code, _, err = compare("other", "old")
    assert code == 2
    assert "rows" in err
    assert "NOT PAIRED" in compare("other", "old", "--force")[1]


def test_a_forced_figure_says_so(compare, here, monkeypatch):
    seen = []
    for name in ("save_differences", "save_distributions"):
        monkeypatch.setattr(plots, name, lambda *arguments, name=name: seen.append((name, arguments[-1])))
    write_run(here / "less", NEW, num_samples=500)
    write_run(here / "others", NEW, images=OTHER["images"])
    for other in ("less", "others", "new"):
        compare(other, "old", "--force", "--output", "x.png")
    (paired, warning), (apart, other_warning), (plain, none) = seen
    assert (paired, apart, plain) == ("save_differences", "save_distributions", "save_differences")
    assert warning.startswith("FORCED: not scored alike, num_samples is 500 in A")
    assert "NOT PAIRED" in other_warning
    assert none == ""


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["figure.png"], "figure.png"),
        (["figure.pdf"], "figure.pdf"),
        (["figure"], "figure.png"),
        (["figure", "--figure-format", "svg"], "figure.svg"),
    ],
)
def test_the_figure_goes_where_it_is_asked_to_in_the_format_of_its_suffix(compare, here, flags, name):
    _, out, _ = compare("new", "old", "--output", *flags)
    assert line(out, "written") == f"written: {name}"
    assert [file.name for file in here.glob("fig*")] == [name]
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[name[-3:]]
    assert (here / name).read_bytes().startswith(start)


def test_runs_of_one_name_are_told_apart_by_their_paths(compare, here):
    write_run(here / "x" / "run", NEW)
    write_run(here / "y" / "run", IMAGES)
    _, out, _ = compare("x/run", "y/run")
    assert "x/run is better by" in out


@pytest.mark.parametrize(
    ("output", "message"),
    [("a.jpg", "expected .png, .pdf, .svg"), ("no/a.png", "folder does not exist"), ("taken.png", "a folder")],
)
def test_a_figure_that_cannot_be_written_is_refused_before_anything_else(compare, here, output, message):
    (here / "taken.png").mkdir()
    code, out, err = compare("new", "old", "--output", output)
    assert (code, out) == (2, "")
    assert message in err


# ---------------------------------------------------------------------------------------------- what is not there


def refused(compare, first="new", second="old"):
    """The one line that the command ends with, forced too."""
    for force in ([], ["--force"]):
        code, out, err = compare(first, second, *force)
        assert (code, out) == (2, "")
        (message,) = err.splitlines()
    return message


def test_a_run_without_an_evaluation_is_told_how_to_get_one(compare, here):
    (here / "new" / "evaluation" / "report.json").unlink()
    assert refused(compare).endswith("make them by: python -m iwae_tf evaluate new")
    (here / "a b").mkdir()
    assert refused(compare, second="a b", first="old").endswith("evaluate 'a b'")


def test_a_run_that_is_not_there_gets_the_nearest_name(compare):
    assert "there is no run folder oldd; did you mean old?" in refused(compare, first="oldd")


def damage_report(change):
    def apply(folder):
        report = json.loads((folder / "report.json").read_text())
        change(report)
        (folder / "report.json").write_text(json.dumps(report))

    return apply


def damage_table(change):
    def apply(folder):
        table = pyarrow.parquet.read_table(folder / "scores.parquet")
        pyarrow.parquet.write_table(change(table), folder / "scores.parquet")

    return apply


def column(name, values):
    return lambda table: table.set_column(table.schema.get_field_index(name), name, pyarrow.array(values))


DAMAGE = {
    "cut report": (lambda folder: (folder / "report.json").write_text('{"protocol": {'), "cannot be read as JSON"),
    "list": (lambda folder: (folder / "report.json").write_text("[]"), "holds no settings"),
    "no protocol": (damage_report(lambda report: report.pop("protocol")), "no protocol, or no result"),
    "no checksum": (damage_report(lambda report: report["protocol"].pop("images")), "no protocol, or no result"),
    "no result": (damage_report(lambda report: report.pop("log_likelihood")), "no protocol, or no result"),
    "another result": (damage_report(lambda report: report.update(log_likelihood=-21.0)), "unlike report.json"),
    "another number": (damage_report(lambda report: report["protocol"].update(num_images=N + 1)), "60 rows"),
    "cut rows": (damage_table(lambda table: table.slice(0, N - 1)), "59 rows"),
    "no rows": (damage_table(lambda table: table.slice(0, 0)), "no row"),
    "no column": (damage_table(lambda table: table.drop_columns(["pareto_k"])), "pareto_k"),
    "a row twice": (damage_table(column("row", [0, *range(N - 1)])), "twice"),
    "words": (damage_table(column("log_likelihood", ["a"] * N)), "no numbers in"),
    "no table": (lambda folder: (folder / "scores.parquet").write_bytes(b"PAR1"), "is damaged"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_evaluation_is_refused_in_one_line(compare, here, name):
    apply, message = DAMAGE[name]
    apply(here / "new" / "evaluation")
    assert message in refused(compare)
    assert message in refused(compare, "old", "new")


def test_a_table_cut_short_is_refused(compare, here):
    file = here / "new" / "evaluation" / "scores.parquet"
    file.write_bytes(file.read_bytes()[:-20])
    assert "scores.parquet is damaged" in refused(compare)


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_a_score_that_is_not_finite_has_no_mean_to_compare(compare, here, value):
    values = NEW.copy()
    values[4] = value
    write_run(here / "broken", values)
    assert "log p(x) of A is not finite for 1 of 60 images, first in row 4" in refused(compare, first="broken")
