"""`python -m benchmarks`: floors, timing in turns, workers, the comparison of versions, and the figures."""

import importlib.util
import itertools
import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import __main__ as command
from benchmarks import against, cases, costs, figures, peers, processes, timing
from iwae_tf import IWAE
from iwae_tf.config import PAPER_NETWORKS

UNITS = ((3, 2), ((7, 7), (4, 4)))
MODELS = [name for name in peers.PEERS if not name.startswith("floor") and name != "iwae-tf, XLA"]  # compiled: 10 s
PIXELS = np.tile(np.eye(3, 12, dtype=np.float32), (4, 1))


@pytest.mark.parametrize("layers", [1, 2])
def test_the_floor_has_every_kernel_of_the_papers_model_once(layers):
    model, found = cases.network(layers), cases.products(*timing.units(layers), 20, 50)
    assert timing.units(layers) == tuple(PAPER_NETWORKS[layers])
    kernels = sorted(tuple(v.shape) for v in model.trainable_variables if v.name == "kernel")
    assert sorted((p.units_in, p.units_out) for p in found) == kernels
    rows = [p.rows for p in found]
    assert rows.count(20) == 4  # two hidden layers, loc and scale of q(h[0] | x)
    assert set(rows) == {20, 1000}
    assert [(p.units_in, p.rows) for p in found if not p.to_features] == [(timing.DIM, 20)]


def test_the_floor_multiplies_forward_and_backward_in_any_number_of_chunks():
    needed = cases.products((3,), ((5,),), 5, 2, dim=12)
    assert sum(p.forward_flops for p in needed) == 2 * (5 * (12 * 5 + 5 * 6) + 10 * (3 * 5 + 5 * 12))
    assert cases.floor(needed, backward=False)().shape == (5, 5)
    assert cases.floor(needed, backward=True, chunks=4)().shape == (1, 5)  # the first of four chunks of 5 rows
    assert [cases.even_split(rows, 4) for rows in (5, 15, 2)] == [[1, 1, 1, 2], [3, 4, 4, 4], [1, 1]]


def test_a_row_holds_ratios_to_the_fastest_floor_within_a_round():
    times = [2.0, 20.0, 2.0, 10.0]
    rows = command.rows_of("case", {"floor": times, "floor, other": [t / 2 for t in times], "way": times})
    assert [row["ratio_to_floor"] for row in rows] == [2.0, 1.0, 2.0]
    assert rows[2] | {"floor_ms": 3000.0, "median_ms": 6000.0, "spread": [2.0, 2.0], "rounds": 4} == rows[2]


def test_a_turn_is_the_mean_of_its_calls_or_the_time_that_a_way_measured(monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: 6.0 * next(ticks)))
    assert timing.turn(lambda: None, 3) == 2.0
    assert timing.turn(lambda: timing.Seconds(0.5), 1) == 0.5
    assert timing.repeats_of(lambda: None) == 1  # six seconds are more than a turn needs
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: 1e-3 * next(ticks)))
    assert timing.repeats_of(lambda: None) == 20
    assert timing.rounds_for({"way": lambda: None}, 60) == 60


def test_cases_run_from_the_command_line_and_write_their_rows(tmp_path, monkeypatch, capsys):
    out, memory = tmp_path / "results.json", SimpleNamespace(stdout="100.04 200.06\n")
    monkeypatch.setattr(processes.subprocess, "run", lambda words, **settings: memory)
    names = ("floor", "way", "peer")
    case = cases.Case(*(lambda name=name: {name: lambda: timing.Seconds(1.0)} for name in names))
    monkeypatch.setitem(cases.CASES, "start", case)
    flags = ["--only", "star*", "memory-train-b20-k1", "--rounds", "7", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *flags])
    assert command.main() == 0
    *timed, of_memory = json.loads(out.read_text())
    assert [(row["case"], row["candidate"]) for row in timed] == [("start", name) for name in names]
    keys = {"case", "candidate", "median_ms", "floor_ms", "ratio_to_floor", "spread", "rounds"}
    assert all(row.keys() == keys and row["rounds"] == 7 for row in timed)
    memory_row = {"case": "memory-train-b20-k1", "candidate": "iwae-tf", "peak_mib": 200.1, "before_mib": 100.0}
    assert of_memory == memory_row
    assert "cores; Python" in capsys.readouterr().out


def test_a_short_run_times_the_floors_and_one_candidate_with_its_recorded_ratio(monkeypatch, capsys):
    ways = {"iwae-tf": lambda: timing.Seconds(2.0), "iwae-tf, --backward-samples 5": None}
    case = cases.Case(lambda: {"floor": lambda: timing.Seconds(1.0)}, lambda: ways, lambda: {"peer": None})
    monkeypatch.setattr(command, "SHORT", {"train-l1-b20-k1": "iwae-tf"})
    monkeypatch.setitem(cases.CASES, "train-l1-b20-k1", case)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "--short"])
    assert command.main() == 0
    *_, floor, candidate = capsys.readouterr().out.splitlines()
    assert "recorded" not in floor
    assert "2.00  2.00 to 2.00  (recorded: 1.42)" in candidate


def test_unknown_cases_and_versions_are_refused(monkeypatch, capsys):
    for flags, words in [
        (["--only", "nothing"], "no case is called nothing"),
        (["--against", "/nowhere"], "got /nowhere without iwae_tf/"),
    ]:
        monkeypatch.setattr(sys, "argv", ["benchmarks", *flags])
        with pytest.raises(SystemExit, match="2"):
            command.main()
        assert words in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # torch.compile
@pytest.mark.parametrize("name", MODELS)
def test_a_peer_is_the_same_model_and_climbs_the_bound_by_the_same_steps(name):
    if importlib.util.find_spec(peers.PEERS[name][0]) is None:
        pytest.skip(f"{name} needs pip install -e '.[bench]'")
    peer, model = peers.peer_class(name)(*UNITS, PIXELS, 40), IWAE(12, *UNITS)
    assert sorted(a.shape for a in peer.arrays()) == sorted(tuple(v.shape) for v in model.trainable_variables)
    peer.zero()  # q = p = N(0, 1) and every pixel 1/2, whatever the noise
    first, second = peer.step(), peer.step()
    assert first == pytest.approx(12 * np.log(0.5), rel=1e-5)  # sums of a hundred float32 numbers
    # Adam's first step moves each bias of a pixel by 0.001, along the mean of x - 1/2. Noise moves some 20 biases of
    # latent units by as much, which adds 0.001 sqrt(20 / (12 40)) = 2e-4.
    rise = 1e-3 * np.abs(PIXELS.mean(0) - 0.5).sum()
    if not name.startswith("iwae-tf"):  # tested elsewhere; its noise has a fixed seed
        assert second - first == pytest.approx(rise, abs=8e-4)  # four standard errors
    if name == MODELS[-1]:
        assert peers.peer_class("iwae-tf, XLA")(*UNITS, PIXELS, 40).model.uses_xla


def test_missing_frameworks_are_named_and_left_out(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("torch", "jax") else found(name))
    assert peers.missing() == ["torch", "jax"]
    assert not any("Torch" in name or "JAX" in name for name in peers.ways(1, 20, 50))


def test_a_worker_answers_lines_and_shows_why_it_ended(tmp_path, monkeypatch):
    program = "import os\nfrom benchmarks.timing import answer_requests\n"
    program += "answer_requests(lambda x: [os.system('echo noise'), 1 / x])"
    (tmp_path / "halves.py").write_text(program)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = timing.Worker("halves")
    assert [worker.ask(2), worker.ask(4)] == [[0, 0.5], [0, 0.25]]
    with pytest.raises(RuntimeError, match=r"(?s)`-m halves` ended at 0:.*ZeroDivisionError"):
        worker.ask(0)
    worker.close()


def test_versions_are_compared_by_the_ratio_of_this_to_that_within_a_round(tmp_path, monkeypatch, capsys):
    class Fake:
        def __init__(self, module, root):
            self.that = root != str(timing.ROOT)

        def ask(self, request):
            if request == {"case": "new"}:
                return {"error": "KeyError: new"} if self.that else {"candidates": ["way"]}
            return {"candidates": ["way", "that's alone"][: 1 + self.that]} if "case" in request else 1.0 + self.that

        def close(self):
            pass

    monkeypatch.setattr(against, "Worker", Fake)
    against.compare(tmp_path, ["old", "new"], 7)
    *notes, _, line = capsys.readouterr().out.splitlines()
    words = ["old", "way", "1000.00", "2000.00", "0.500", "0.50", "to", "0.50;", "0.50", "0.50", "0.50"]
    assert line.split() == words
    assert notes == [
        line for pair in (1, 2, 3) for line in (f"pair {pair} of 3", "new left out: that version raises KeyError: new")
    ]


def test_the_process_of_a_version_times_its_own_package(tmp_path, monkeypatch):
    answers = []
    monkeypatch.setattr(against, "answer_requests", answers.append)
    monkeypatch.setattr(sys, "path", sys.path[:])
    with pytest.raises(ImportError, match=f"must come from {tmp_path}, got"):
        against.main(str(tmp_path))
    against.main(str(timing.ROOT))
    assert answers[0]({"case": "batches-n1000"}) == {"candidates": ["batches"]}
    assert 0 < answers[0]({"time": "batches"}) < 10
    assert answers[0]({"case": "none"})["error"].startswith("KeyError")


def test_the_figure_of_growth_has_a_point_for_every_size():
    names, times = ("floor", "iwae-tf", "batches"), {"median_ms": 3.0, "floor_ms": 2.0}
    rows = [{"case": case, "candidate": name, **times} for case in cases.CASES for name in names]
    rows += [{"case": case, "candidate": "iwae-tf", "peak_mib": 800.0} for case in processes.MEMORY]
    axes = figures.growth_figure(rows).axes
    lengths = [[len(line.get_xdata()) for line in one.lines] for one in axes]
    assert lengths == [[4, 4], [3, 3], [4, 4], [4], [4, 4], [3, 3]]
    assert [line.get_ydata()[0] for line in axes[0].lines] == [3.0, 2.0]


def test_the_labels_of_the_race_do_not_touch_and_stand_in_the_order_of_the_lines():
    bounds = {m: -100.0 - abs(m - 5) / 100 for m in costs.BACKWARD_SAMPLES}  # 50 below 1 below 5
    rows = [(m, 10.0 * turn, 100 * turn, bound) for turn in (1, 2, 3) for m, bound in bounds.items()]
    (axes,) = costs.race_figure(rows, "a race").axes
    assert [len(line.get_xdata()) for line in axes.lines] == [3, 3, 3]
    texts = [text for text in axes.texts if text.get_alpha() is None]
    texts = sorted(texts, key=lambda text: text.get_window_extent().y0)
    assert [text.get_text().split(":")[0] for text in texts] == ["m = 50", "m = 1", "m = 5"]
    assert min(np.diff([text.get_window_extent().y0 for text in texts])) >= 14  # pixels; a line of text has 13


def test_every_model_of_the_race_gets_the_same_time(monkeypatch):
    ticks, x = itertools.count(), np.zeros((30, 12), np.uint8)
    monkeypatch.setattr(costs, "time", SimpleNamespace(perf_counter=lambda: 0.25 * next(ticks)))
    data = cases.iwae_tf.data.Dataset("small", x, x, x, 255.0, (4, 3), "random", "none")
    racers = [costs.Racer(data, m, 10) for m in (50, 1)]
    for racer in racers:
        racer.train(1.0)
    assert [(racer.steps, racer.seconds) for racer in racers] == [(3, 1.25), (3, 1.25)]  # the clock is read once a step
    assert [racer.model.objective.backward_samples for racer in racers] == [None, 1]
