"""`python -m benchmarks`: what is counted as the floor, that the peer is the same model, and what is written."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import iwae_tf
from benchmarks import __main__ as command
from benchmarks.cases import CASES, network
from benchmarks.floors import floor, products
from benchmarks.peers import TiledTFP

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


def test_the_peer_is_the_same_model():
    units = ((3, 2), ((7, 7), (4, 4)))
    mine, peer = iwae_tf.IWAE(12, *units), TiledTFP(*units, 12, 400)
    sizes = [sorted(tuple(v.shape) for v in model.trainable_variables) for model in (mine, peer)]
    assert sizes[0] == sizes[1]
    keras.utils.set_random_seed(0)
    for variables in (mine.trainable_variables, peer.trainable_variables):
        for variable in variables:  # all networks at zero: q = p = N(0, 1), every pixel 1/2
            variable.assign(tf.zeros_like(variable))
    x = tf.constant(np.eye(3, 12, dtype=np.float32))
    expected = 12 * np.log(0.5)
    np.testing.assert_allclose(peer.log_weights(x), np.full((400, 3), expected), rtol=1e-5)
    np.testing.assert_allclose(mine.log_weights(x, 50), np.full((50, 3), expected), rtol=1e-5)
    assert float(peer.train_step(x)["bound"]) == pytest.approx(expected, rel=1e-5)


def test_a_row_holds_ratios_to_the_first_way():
    rows = command.rows_of("case", {"floor": [1.0, 2.0, 3.0, 4.0], "way": [2.0, 4.0, 6.0, 8.0]})
    assert [row["ratio_to_floor"] for row in rows] == [1.0, 2.0]
    assert rows[1]["spread"] == [2.0, 2.0]
    assert rows[1]["floor_ms"] == 3000.0


def test_all_cases_of_the_table_are_there():
    assert {"train-l1-b20-k50", "train-l2-b100-k50", "evaluate-l1", "fit-k1", "fit-k50", "batches", "start"} <= set(
        CASES
    )


@pytest.mark.slow
def test_a_case_runs_from_the_command_line_and_writes_its_rows(tmp_path):
    out = tmp_path / "results.json"
    words = ["-m", "benchmarks", "--only", "train-l2-b20-k1", "batches", "--rounds", "5", "--out", str(out)]
    process = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    rows = json.loads(out.read_text())
    assert {row["case"] for row in rows} == {"train-l2-b20-k1", "batches"}
    assert {"floor", "iwae-tf", "iwae-tf, XLA", "TFP, x tiled k times"} <= {row["candidate"] for row in rows}
    keys = {"case", "candidate", "median_ms", "floor_ms", "ratio_to_floor", "spread", "rounds"}
    assert all(row.keys() == keys and row["median_ms"] > 0 for row in rows)
    assert "cores; Python" in process.stdout
    unknown = subprocess.run([sys.executable, "-m", "benchmarks", "--only", "nothing"], cwd=ROOT, capture_output=True)
    assert unknown.returncode == 2
    assert b"no case is called nothing" in unknown.stderr
