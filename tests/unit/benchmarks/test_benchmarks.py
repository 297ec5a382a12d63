"""`python -m benchmarks`: what is counted as the floor, that the peer is the same model, and what is written."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import iwae_tf
from benchmarks import __main__ as command
from benchmarks.cases import CASES
from benchmarks.floors import _even, floor, products
from benchmarks.steps import network

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("layers", [1, 2])
def test_the_floor_has_every_kernel_of_the_model_once(layers):
    model = network(layers)
    sizes = sum(int(np.prod(v.shape)) for v in model.trainable_variables if v.name == "kernel")
    assert sum(p.units_in * p.units_out for p in products(model, 20, 50)) == sizes
    rows = [p.rows for p in products(model, 20, 50)]
    assert rows.count(20) == 4  # two hidden layers, mean and scale of q(h[0] | x)
    assert set(rows) == {20, 1000}
    assert [p.to_features for p in products(model, 20, 50)].count(False) == 1  # nobody asks for the gradient by x


def test_the_floor_is_computed_forward_and_backward():
    needed = products(iwae_tf.IWAE(12, (3,), ((5,),)), 4, 2)
    for backward in (False, True):
        assert np.isfinite(floor(needed, backward)()).all()
    assert sum(p.forward_flops for p in needed) == 2 * (4 * (12 * 5 + 5 * 6) + 8 * (3 * 5 + 5 * 12))


def test_the_floor_in_parts_has_all_rows_and_the_same_results():
    needed = products(iwae_tf.IWAE(12, (3,), ((5,),)), 5, 3)
    whole, cut = (floor(needed, backward=True, parts=parts)() for parts in (1, 4))
    assert whole.shape == (5, 5)
    assert len(cut) == 1  # the first part of 5 rows in 4 parts
    assert [_even(rows, 4) for rows in (5, 15, 2)] == [[1, 1, 1, 2], [3, 4, 4, 4], [1, 1]]


def test_a_row_holds_ratios_to_the_fastest_floor():
    rows = command.rows_of(
        "case", {"floor": [2.0, 4.0, 6.0, 8.0], "floor, other": [1.0, 2.0, 3.0, 4.0], "way": [2.0, 4.0, 6.0, 8.0]}
    )
    assert [row["ratio_to_floor"] for row in rows] == [2.0, 1.0, 2.0]  # the faster floor counts
    assert rows[2]["spread"] == [2.0, 2.0]
    assert rows[2]["floor_ms"] == 2500.0


def test_all_cases_of_the_table_are_there():
    assert {
        "train-l1-b20-k50",
        "train-l2-b100-k50",
        "evaluate-l1",
        "fit-k1",
        "fit-k50",
        "batches-n60000",
        "start",
        "first-step",
        "serve-l1",
    } <= set(CASES)


@pytest.mark.slow
def test_a_case_runs_from_the_command_line_and_writes_its_rows(tmp_path):
    out = tmp_path / "results.json"
    words = [
        "-m",
        "benchmarks",
        "--only",
        "train-l2-b20-k1",
        "batches-n1000",
        "memory-train-b20-k1",
        "--rounds",
        "5",
        "--out",
        str(out),
    ]
    process = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    rows = json.loads(out.read_text())
    assert {row["case"] for row in rows} == {"train-l2-b20-k1", "batches-n1000", "memory-train-b20-k1"}
    assert {"floor", "iwae-tf", "iwae-tf, XLA", "TFP, x tiled k times"} <= {row["candidate"] for row in rows}
    keys = {"case", "candidate", "median_ms", "floor_ms", "ratio_to_floor", "spread", "rounds"}
    *timed, of_memory = rows
    assert all(row.keys() == keys and row["median_ms"] > 0 for row in timed)
    assert of_memory["peak_mib"] > of_memory["before_mib"] > 100  # an interpreter with TensorFlow has more
    assert "cores; Python" in process.stdout
    unknown = subprocess.run([sys.executable, "-m", "benchmarks", "--only", "nothing"], cwd=ROOT, capture_output=True)
    assert unknown.returncode == 2
    assert b"no case is called nothing" in unknown.stderr
