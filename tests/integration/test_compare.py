"""`compare` as a user meets it, on scores made by hand: words and figure, refusals, forced comparisons."""

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import scipy.stats
from run_files import write_model

from iwae_tf import plots
from iwae_tf.commands.compare import OF_ROWS
from iwae_tf.commands.main import main
from iwae_tf.training.run_folder import model_checksum
from iwae_tf.training.scores_file import write_columns

ROOT = Path(__file__).parents[2]
N = 60
# Entries of a protocol, and other values of them.
VALUES = {
    "dataset": ("digits", "mnist"),
    "part": ("test", "valid"),
    "num_rows": (N, N - 1),
    "binarization": ("drawn once, from (seed 0, image)", "none"),
    "content": tuple("sha256:" + hashlib.sha256(pixels).hexdigest() for pixels in (b"pixels", b"other pixels")),
    "num_samples": (5000, 500),
    "target_standard_error": (None, 0.1),
    "proposal": ("refined", "q(h|x)"),
}
PROTOCOL = {"seed": 0} | {name: value for name, (value, _) in VALUES.items()}
OTHER = {name: value for name, (_, value) in VALUES.items()}
IMAGES = -22 + 4 * np.random.default_rng(0).standard_normal(N)
NEW = IMAGES + 0.5 + np.random.default_rng(1).standard_normal(N)


def write_run(path, values, order=None, reliable=True, trained=False, bounds=None, models=(None, None), **changes):
    """A run folder with the scores of `evaluate`, or of `train`, in rows of some order.

    `models` are the checksums in the report and in the table.
    """
    order = np.arange(len(values)) if order is None else order
    folder, name = (path, "metrics.json") if trained else (path / "evaluation", "report.json")
    folder.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text("{}")
    report = {"protocol": PROTOCOL | {"num_rows": len(values)} | changes, "log_likelihood": float(np.mean(values))}
    report["model"] = models[0]
    (folder / name).write_text(json.dumps(report))
    columns = {"row": np.arange(len(values), dtype=np.int64)[order], "log_likelihood": np.asarray(values)[order]}
    columns |= {"standard_error": np.full(len(values), 0.05), "pareto_k": np.full(len(values), 0.9)}
    columns |= {"reliable": np.broadcast_to(reliable, len(values))[order]}
    columns |= {f"bound_{k}": np.asarray(bound)[order] for k, bound in (bounds or {}).items()}
    write_columns(folder / "scores.parquet", columns, models[1])
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
    assert "paired by row" in line(out, "A - B")
    assert "log p(x) of 60 test rows of digits, in nats" in out
    assert f"for A on {(NEW > IMAGES).mean():.1%}" in out
    assert f"{0.05 * np.sqrt(2 / N):.4f}" in line(out, "of the error")
    assert line(out, "scores that are not reliable").endswith("0 of 60 rows")
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


def test_bounds_are_compared_as_papers_do_whatever_the_proposal(compare, here):
    write_run(here / "off", IMAGES, bounds={5: NEW - 2.0, 60: NEW}, proposal="q(h|x)")
    write_run(here / "on", IMAGES, bounds={5: IMAGES - 2.0, 60: IMAGES})
    code, out, _ = compare("off", "on", "--bound", 60, "--output", "bounds.svg")
    assert code == 0
    assert "L_60 of 60 test rows of digits, in nats" in out
    low, high = scipy.stats.ttest_rel(NEW, IMAGES).confidence_interval(0.95)
    assert f"off is better by {(NEW - IMAGES).mean():.2f} nats, 95% interval {low:.2f} to {high:.2f}" in out
    assert "L_60 is a lower bound on log p(x)" in out
    assert "nan" not in out
    assert "not reliable" not in out
    assert "L_60 under A (nats)" in (here / "bounds.svg").read_text()
    assert compare("on", "new", "--bound", 60)[2].startswith("error: new has no L_60: --bound can be none")
    assert "on has no L_7: --bound can be 5, 60" in compare("on", "off", "--bound", 7)[2]
    assert "proposal is 'q(h|x)' in A and 'refined' in B" in compare("off", "on")[2]
    # L_5 does not depend on how many samples there are besides, and an evaluation without L_60 leaves it to `train`.
    write_run(here / "less", NEW, bounds={5: NEW}, num_samples=50, target_standard_error=0.1, max_samples=80)
    assert compare("less", "on", "--bound", 5)[0] == 0
    write_run(here / "less", NEW, trained=True, bounds={5: IMAGES, 60: NEW})
    assert f"by {(NEW - IMAGES).mean():.2f} nats" in compare("less", "on", "--bound", 60)[1]
    assert "less has no L_7: --bound can be 5, 60" in compare("less", "on", "--bound", 7)[2]


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
        assert f"better for A on {(values < IMAGES).mean():.1%} of the rows, for {letter}" in out
        assert f"of the error of A - {letter}, by the samples" in out
    assert "old is better by" in out.splitlines()[-2]
    assert (here / "all.svg").is_file()
    assert "given twice" in compare("old", "new", "old")[2]
    assert "at most 8 runs" in compare(*["old"] * 9)[2]
    write_run(here / "less", NEW, num_samples=500)
    assert "num_samples is 5000 in A and 500 in C" in compare("old", "new", "less")[2]


SHIFTS = {"a": (0.0, 0.3, -0.1), "b": (0.2, -0.3, 0.4, 0.0)}  # of the runs of two groups


@pytest.fixture
def groups(here):
    """The folders of two groups of runs, of which the first is better, and their scores."""
    rng, values = np.random.default_rng(5), {}
    for name, shifts in SHIFTS.items():
        base = NEW if name == "a" else IMAGES
        values |= {f"{name}-seed{i}": base + shift + 0.3 * rng.standard_normal(N) for i, shift in enumerate(shifts)}
    for name, scores in values.items():
        write_run(here / name, scores, reliable=np.arange(N) >= int(name[-1]))
    return [{name: scores for name, scores in values.items() if name.startswith(letter)} for letter in SHIFTS]


def test_groups_have_an_interval_over_rows_and_another_one_over_refits(compare, here, groups):
    first, second = groups
    code, out, err = compare("--group", *first, "--group", *second, "--output", "groups.svg")
    assert (code, err) == (0, "")
    by_row = [np.mean([*group.values()], axis=0) for group in groups]
    by_run = [np.mean([*group.values()], axis=1) for group in groups]
    rows = scipy.stats.ttest_rel(*by_row).confidence_interval(0.95)
    refits = scipy.stats.ttest_ind(*by_run, equal_var=False).confidence_interval(0.95)
    of_rows, of_refits = [line for line in out.splitlines() if line.startswith("A - B")]
    difference = round(by_row[0].mean() - by_row[1].mean(), 3)
    spread = np.sqrt(sum(np.var(means, ddof=1) / len(means) for means in by_run))
    assert numbers(of_rows)[:2] == [difference, round(scipy.stats.sem(by_row[0] - by_row[1]), 3)]
    assert numbers(of_refits)[:2] == [difference, round(spread, 3)]
    assert of_rows.endswith(f"interval {rows.low:.2f} to {rows.high:.2f}, paired by row")
    assert of_refits.endswith(f"interval {refits.low:.2f} to {refits.high:.2f}, over 3 and 4 refits")
    assert line(out, "would these runs differ on other rows? a-seed0 and 2 more is better by").endswith(
        f"interval {rows.low:.2f} to {rows.high:.2f}"
    )
    assert f"{refits.low:.2f} to {refits.high:.2f}" in line(out, "would runs of other seeds differ on these rows? ")
    assert "b-seed0 and 3 more, 60 rows" in line(out, "B  ")
    assert line(out, "scores that are not reliable").endswith("3 of 60 rows")
    assert (here / "groups.svg").is_file()


def test_a_group_of_one_run_has_no_spread(compare, groups):
    _, out, _ = compare("--group", *groups[0], "--group", "b-seed1")
    assert "paired by row" in line(out, "A - B")
    assert out.splitlines()[-1].endswith("on these rows? not known, as a group has one run")
    assert "nan" not in out


def test_groups_of_other_rows_or_protocols_or_a_run_in_two_are_refused(compare, here, groups):
    first, second = groups
    write_run(here / "less", NEW, num_samples=500)
    write_run(here / "others", NEW, content=OTHER["content"])
    for flags, message in (
        (["--group", *first, "--group", *second, "a-seed0"], "a-seed0 is given twice"),
        (["old", "--group", *first], "old and --group: give runs, or a --group for each setting"),
        (["--group", *first], "--group twice or more, got 1"),
        (["old"], "give two runs or more"),
        (["--group", "a-seed0", "less", "--group", *second], "num_samples is 5000 in A and 500 in less"),
        (["--group", *first, "--group", "b-seed1", "less"], "num_samples is 5000 in A and 500 in less"),
        (
            ["--group", "old", "new", "--group", "b-seed1", "others", "--force"],
            "others was scored on other rows than old",
        ),
        ([word for i in range(9) for word in ("--group", f"x{i}")], "at most 8 runs"),
    ):
        code, out, err = compare(*flags)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err
    assert "FORCED: would" in compare("--group", "old", "less", "--group", *second, "--force")[1]


def test_a_group_whose_runs_differ_in_more_than_the_seed_is_refused(compare, here, groups):
    first, second = groups

    def settings(name, rows="abc", **training):
        content = {"data": {"sha256": {"train": rows}}, "training": training}
        (here / name / "config.json").write_text(json.dumps(content))

    for number, name in enumerate(first):
        settings(name, k=5, seed=number, init_from=f"start-{number}", init_from_model=str(number))
    flags = ["--group", *first, "--group", *second]
    assert compare(*flags)[0] == 0
    settings("a-seed2", k=50, learning_rate=0.1)
    code, out, err = compare(*flags)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "a-seed2 is no refit of a-seed0" in err
    assert "k is 5 there and 50 here; learning_rate is 0.001 there and 0.1 here" in err
    settings("a-seed2", k=5)
    assert "started from a run is True there and False here" in compare(*flags)[2]
    settings("a-seed2", rows="other", k=5, init_from="start-2")
    assert "training rows is 'abc' there and 'other' here" in compare(*flags)[2]
    for name in ("a-seed0", "a-seed2"):
        write_run(here / name, first[name], models=2 * ["sha256:1"])
        settings(name, k=5, init_from="start")
    assert "a-seed0 and a-seed2 have the same weights: a refit needs another seed" in compare(*flags)[2]


def test_comparing_imports_no_tensorflow_and_prints_nothing_on_stderr(here):
    write_model(here / "new")
    write_run(here / "new", NEW, models=2 * [model_checksum(here / "new")])
    (here / "check.py").write_text(
        "import sys\nsys.orig_argv = ['python', '-m', 'iwae_tf']\n"
        "from iwae_tf.commands.main import main\nmain(['compare', 'new', 'old', '--output', 'a.png'])\n"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    command = [sys.executable, "check.py"]
    process = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=120)
    assert (process.stdout.splitlines()[-2:], process.stderr) == (["written: a.png", "set()"], "")


def test_runs_swapped_give_the_same_conclusion_and_the_negative_and_a_run_is_equal_to_itself(compare):
    outputs = [compare("new", "old")[1], compare("old", "new")[1]]
    better = {next(line for line in out.splitlines() if "is better by" in line) for out in outputs}
    assert len(better) == 1
    (mean, error, low, high), (other_mean, other_error, other_low, other_high) = (
        numbers(line(out, "A - B").replace("95%", "")) for out in outputs
    )
    assert (other_mean, other_error, other_low, other_high) == (-mean, error, -high, -low)
    code, out, _ = compare("new", "new")
    assert code == 0
    assert "no difference can be seen: A - B is 0.00 nats, 95% interval 0.00 to 0.00" in out.splitlines()


def test_rows_are_paired_by_their_number_and_the_seed_of_the_samples_may_differ(compare, here):
    write_run(here / "shuffled" / "new", NEW, np.random.default_rng(2).permutation(N), seed=5)
    one, other = compare("new", "old"), compare("shuffled/new", "old")
    assert other == one
    assert "FORCED" not in one[1]
    write_run(here / "x" / "new", IMAGES)
    assert "shuffled/new is better by" in compare("shuffled/new", "x/new")[1]  # two runs of one name


def test_doubtful_rows_are_counted_once_in_either(compare, here, monkeypatch):
    rows = np.arange(N)
    write_run(here / "a", NEW, reliable=rows >= 3)
    write_run(here / "b", IMAGES, rows[::-1], reliable=(rows < 2) | (rows > 5) & (rows != 10))
    notes = []
    monkeypatch.setattr(plots, "save_differences", lambda *arguments: notes.append(arguments[4]))
    assert line(compare("a", "b", "--output", "x.png")[1], "scores that are not reliable").endswith("7 of 60 rows")
    assert notes[0][0].endswith("may be too low: 7 of 60 rows")
    compare("new", "old", "--output", "x.png")
    assert "reliable" not in notes[1][0]
    assert notes[1][0].startswith("A is better by")  # no name of a run


@pytest.mark.parametrize("name", OTHER)
def test_every_difference_of_the_protocols_is_refused_with_both_values_and_said_when_forced(compare, here, name):
    changes = {name: OTHER[name]} | ({"content": OTHER["content"]} if name in OF_ROWS else {})
    write_run(here / "other", NEW[:-1] if name == "num_rows" else NEW, **changes)
    code, out, err = compare("other", "old")
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    values = [re.escape(repr(value)[:20]) for value in (OTHER[name], PROTOCOL[name])]  # checksums are cut
    words = rf"{name} is {values[0]}.* in A and {values[1]}.* in B"
    assert re.search(words, err)
    assert "--force" in err
    code, out, _ = compare("other", "old", "--force")
    assert code == 0
    first, *_, conclusion = out.splitlines()
    assert re.match(f"FORCED: not scored alike, {words}", first)
    paired = name not in ("content", "num_rows", *OF_ROWS)
    assert conclusion.startswith("FORCED: other is better by" if paired else "FORCED: no difference can be seen")
    assert ("NOT PAIRED" in out, "paired by row" in line(out, "A - B")) == (not paired, paired)


def test_equal_rows_are_compared_whatever_their_data_set_file_and_split_are_called(compare, here):
    names = {"dataset": "./mnist.csv", "source": "/mnt/mnist.npz", "split": "none", "part": "valid"}
    write_run(here / "other", NEW, **names, binarization="none")
    code, out, err = compare("other", "old")
    assert (code, err) == (0, "")
    assert "FORCED" not in out
    assert "paired by row" in line(out, "A - B")


def test_all_differences_are_named_at_once_and_what_only_one_protocol_has(compare, here):
    write_run(here / "other", NEW, **OTHER | {"num_rows": N, "new_entry": 1})
    _, _, err = compare("old", "other")
    assert all(f"{name} is " in err for name in OTHER if name != "num_rows")
    assert "new_entry is absent in A and 1 in B" in err


@pytest.mark.parametrize("number", [N, 2 * N])
def test_forced_over_other_images_it_never_pairs(compare, here, number):
    values = np.resize(NEW, number)
    write_run(here / "other", values, content=OTHER["content"])
    code, out, _ = compare("other", "old", "--force")
    assert code == 0
    low, high = scipy.stats.ttest_ind(values, IMAGES, equal_var=False).confidence_interval(0.95)
    np.testing.assert_allclose(numbers(line(out, "A - B"))[-2:], [low, high], atol=0.006)  # two decimals are printed
    assert "NOT PAIRED" in line(out, "A - B")
    assert "compared as two samples and NOT PAIRED" in out.splitlines()[0]
    assert "for A on" not in out
    assert line(out, "scores that are not reliable").endswith(f"0 of {number + N} rows")


def test_rows_of_other_numbers_are_never_paired(compare, here):
    column("row", np.arange(N) + 1)(here / "new" / "evaluation")
    code, _, err = compare("new", "old")
    assert code == 2
    assert "rows are 1 to 60 in A and 0 to 59 in B" in err
    assert "NOT PAIRED" in compare("new", "old", "--force")[1]


def test_a_forced_figure_says_so(compare, here, monkeypatch):
    seen = []
    for name in ("save_differences", "save_distributions"):
        monkeypatch.setattr(plots, name, lambda *arguments, name=name: seen.append((name, arguments[-2])))
    write_run(here / "less", NEW, num_samples=500)
    write_run(here / "others", NEW, content=OTHER["content"])
    for other in ("less", "others", "new"):
        compare(other, "old", "--force", "--output", "x.png")
    assert [name for name, _ in seen] == ["save_differences", "save_distributions", "save_differences"]
    assert seen[0][1].startswith("FORCED: not scored alike, num_samples is 500 in A")
    assert "NOT PAIRED" in seen[1][1]
    assert seen[2][1] == ""


@pytest.mark.parametrize(
    ("flags", "name"),
    [(["figure.pdf"], "figure.pdf"), (["figure"], "figure.png"), (["figure", "--figure-format", "svg"], "figure.svg")],
)
def test_the_figure_goes_where_it_is_asked_to_in_the_format_of_its_suffix(compare, here, flags, name):
    _, out, _ = compare("new", "old", "--output", *flags)
    assert line(out, "written") == f"written: {name}"
    assert [file.name for file in here.glob("fig*")] == [name]
    start = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[name[-3:]]
    assert (here / name).read_bytes().startswith(start)


def test_a_figure_that_cannot_be_written_is_refused_before_anything_else(compare):
    for output, message in (("a.jpg", "expected .png, .pdf, .svg"), ("no/a.png", "folder does not exist")):
        code, out, err = compare("new", "old", "--output", output)
        assert (code, out) == (2, "")
        assert message in err


def refused(compare, first="new", second="old"):
    """The one line that the command ends with, forced too."""
    for force in ([], ["--force"]):
        code, out, err = compare(first, second, *force)
        assert (code, out) == (2, "")
        (message,) = err.splitlines()
    return message


def test_a_run_without_an_evaluation_is_told_how_to_get_one_and_a_missing_one_gets_the_nearest_name(compare, here):
    (here / "new" / "evaluation" / "report.json").unlink()
    assert refused(compare).endswith("make them by: python -m iwae_tf evaluate new")
    (here / "a b").mkdir()
    assert refused(compare, second="a b", first="old").endswith("evaluate 'a b'")
    assert "there is no run folder oldd; did you mean old?" in refused(compare, first="oldd")


def report(change):
    """A function that changes the report in a folder."""

    def apply(folder):
        content = json.loads((folder / "report.json").read_text())
        change(content)
        (folder / "report.json").write_text(json.dumps(content))

    return apply


def table(change):
    """A function that changes the table in a folder."""

    def apply(folder):
        changed = change(pyarrow.parquet.read_table(folder / "scores.parquet"))
        pyarrow.parquet.write_table(changed, folder / "scores.parquet")

    return apply


def column(name, values):
    return table(lambda found: found.set_column(found.schema.get_field_index(name), name, pyarrow.array(values)))


DAMAGE = [
    (lambda folder: (folder / "report.json").write_text('{"protocol": {'), "cannot be read as JSON"),
    (report(lambda content: content.pop("protocol")), "no protocol, or no result"),
    (report(lambda content: content["protocol"].pop("content")), "no protocol, or no result"),
    (report(lambda content: content.pop("log_likelihood")), "no protocol, or no result"),
    (report(lambda content: content.update(log_likelihood=-21.0)), "unlike report.json"),
    (report(lambda content: content["protocol"].update(num_rows=N + 1)), "60 rows"),
    (table(lambda found: found.slice(0, N - 1)), "59 rows"),
    (table(lambda found: found.slice(0, 0)), "no row"),
    (table(lambda found: found.drop_columns(["reliable"])), "no values in ['reliable']"),
    (column("reliable", [0.2] * N), "no values in ['reliable']"),
    (column("row", [0, *range(N - 1)]), "twice"),
    (column("log_likelihood", ["a"] * N), "no values in"),
    (lambda folder: os.truncate(folder / "scores.parquet", 900), "scores.parquet is damaged"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_damaged_evaluation_is_refused_in_one_line(compare, here, damage, message):
    damage(here / "new" / "evaluation")
    assert message in refused(compare)
    assert message in refused(compare, "old", "new")


def test_a_score_that_is_not_finite_has_no_mean_to_compare(compare, here):
    for value in (-np.inf, np.nan):
        write_run(here / "broken", np.where(np.arange(N) == 4, value, NEW))
        assert "log p(x) of A is not finite for 1 of 60 rows, first in row 4" in refused(compare, first="broken")


@pytest.mark.parametrize(("trained", "name"), [(False, "report.json"), (True, "metrics.json")])
def test_scores_of_another_model_than_the_runs_are_refused_naming_the_files(compare, here, trained, name):
    write_model(here / "run")
    own, other = model_checksum(here / "run"), "sha256:" + 64 * "0"
    for models in ((own, own), (own, None), (None, None)):
        write_run(here / "run", NEW, trained=trained, models=models)
        assert compare("run", "old")[0] == 0
    for models in ((own, other), (other, own), (other, other), (None, other)):
        write_run(here / "run", NEW, trained=trained, models=models)
        message = refused(compare, "run")
        assert message == refused(compare, "old", "run")
        assert message.startswith("error: the scores in run are not of one model: ")
        for file, checksum in zip((name, "scores.parquet", "model.keras"), (*models, own), strict=True):
            assert (f"{file} is of model {checksum and checksum[:19]}..." in message) == (checksum is not None)
        assert message.endswith("make them again by: python -m iwae_tf evaluate run --overwrite")
    (here / "run" / "model.keras").unlink()  # to save space; the scores are still those of one model
    write_run(here / "run", NEW, trained=trained, models=(other, other))
    assert compare("run", "old")[0] == 0
    write_run(here / "run", NEW, trained=trained, models=(other, own))
    assert "not of one model" in refused(compare, "run")
