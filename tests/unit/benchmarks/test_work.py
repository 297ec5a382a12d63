"""Counts of a step and of a score stay within `benchmarks/bounds.json`, and unneeded work exceeds it."""

import json

import pytest
import tensorflow as tf

from benchmarks import work
from benchmarks.cases import products
from benchmarks.peer_tfp import TiledTFP
from benchmarks.timing import DIM, images, units
from benchmarks.work import Work, work_of

BOUNDS = work.read_bounds()["counts"]


@pytest.mark.parametrize("case", work.CASES)
def test_no_count_exceeds_its_bound(case):
    counts = work.CASES[case]()
    assert not work.exceeded(counts, BOUNDS[case]), "more work is meant: python -m benchmarks --short --record"
    if case == "iwae, k = 50":
        layers = sum((2 + p.to_features) * p.forward_flops for p in products(*units(1), 20, 50))
        of_pixels = 2 * 20 * DIM * (200 + 1) + 2 * 1000 * DIM  # W x and b . x of the images; the gradient by b
        assert layers <= counts.product_flops <= layers + of_pixels
        assert counts.encoded_rows == 20


@pytest.mark.parametrize("transpose_b", [False, True])
def test_a_product_counts_its_operations_rows_and_bytes_and_a_loop_as_often_as_it_runs(transpose_b):
    @tf.function(autograph=False)
    def product(x, kernel):
        tf.matmul(x, x, transpose_b=True)  # not needed
        square = tf.while_loop(lambda y: True, lambda y: (y @ y,), (tf.ones([4, 4]),), maximum_iterations=7)[0]
        return tf.reshape(tf.matmul(x, kernel, transpose_b=transpose_b), [-1]), square

    kernel = tf.zeros([5, DIM] if transpose_b else [DIM, 5])
    work = work_of(product.get_concrete_function(tf.zeros([3, DIM]), kernel).graph)
    assert work.product_flops == 2 * 3 * 5 * DIM + 7 * 2 * 4**3
    assert work.encoded_rows == (0 if transpose_b else 3)  # a transposed kernel gives a gradient by features
    assert work.bytes_written == pytest.approx(4 * 3 * 5 + 7 * 4 * 4 * 4, abs=100)  # and the loop's counter


def test_images_k_times_through_the_encoder_exceed_the_bounds():
    model = TiledTFP(*units(1), images(20), 50)
    found = work_of(model.compiled_step.get_concrete_function(model.x).graph)
    exceeded = work.exceeded(found, BOUNDS["iwae, k = 50"])
    assert exceeded.keys() == set(Work._fields)
    assert exceeded["encoded_rows"] == (50 * 20, 20)


def test_recorded_bounds_are_the_counts_with_slack_for_bytes(monkeypatch, tmp_path):
    monkeypatch.setattr(work, "CASES", {"case": lambda: Work(7, 3, 1000)})
    monkeypatch.setattr(work, "BOUNDS", tmp_path / "bounds.json")
    work.record({"train": 1.5})
    written = {"product_flops": 7, "encoded_rows": 3, "bytes_written": 1010}
    assert json.loads((tmp_path / "bounds.json").read_text()) == {"counts": {"case": written}, "ratios": {"train": 1.5}}
