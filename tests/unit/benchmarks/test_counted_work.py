"""What can be counted of a step and a score stays within `benchmarks/bounds.json`, and unneeded work exceeds it."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import bounds, counted_work
from benchmarks.floors import products
from benchmarks.sizes import images
from benchmarks.steps import network
from iwae_tf.models.iwae import IWAE
from iwae_tf.objectives import IWAEBound

BOUNDS = bounds.read()["counts"]


def test_every_case_has_its_bounds():
    assert BOUNDS.keys() == counted_work.CASES.keys()


@pytest.mark.parametrize("case", BOUNDS)
def test_no_count_exceeds_its_bound(case):
    counts = counted_work.CASES[case]()._asdict()
    exceeded = {name: (count, BOUNDS[case][name]) for name, count in counts.items() if count > BOUNDS[case][name]}
    assert not exceeded, "count, bound; where more work is meant: python -m benchmarks --short --record"


def test_the_counts_are_those_of_the_layers():
    counts = counted_work.training_step(1, IWAEBound(50))
    layers = sum((2 + p.to_features) * p.forward_flops for p in products(network(1), 20, 50))
    beside = 2 * 20 * 784 * (200 + 1) + 2 * 1000 * 784  # W x and b . x of the images; the gradient by b
    assert counts.product_flops == layers + beside
    assert counts.encoded_rows == 20


def test_a_loop_counts_as_often_as_it_goes_round():
    one, ten = (counted_work.evaluation(1, num_samples) for num_samples in (50, 500))
    encoder = sum(p.forward_flops for p in products(network(1), 20, 50) if p.rows == 20)
    of_images = encoder + 2 * 20 * 784 * (200 + 1)  # W x and b . x too: once, as an image's 500 samples are in one tile
    assert ten.product_flops - of_images == 10 * (one.product_flops - of_images)
    assert ten.encoded_rows == one.encoded_rows == 20


def test_bytes_are_those_of_what_is_written_and_needed():
    @tf.function(autograph=False)
    def doubled(x):
        tf.square(x)  # nobody asks for it
        return tf.reshape(x + x, [-1])

    work = counted_work.work_of(doubled.get_concrete_function(tf.zeros([3, 5])).graph)
    assert work == counted_work.Work(bytes_written=3 * 5 * 4)


def test_images_k_times_through_the_encoder_exceed_the_bounds(monkeypatch):
    plain = IWAE.log_weights_from_noise

    def tiled(self, x, noise, shared=None):
        num_samples, num_images, units = noise.shape
        rows = tf.tile(x, [num_samples, 1])  # [k B, D]
        log_w = plain(self, rows, tf.reshape(noise, [1, num_samples * num_images, units]))
        return tf.reshape(log_w, [num_samples, num_images])

    monkeypatch.setattr(IWAE, "log_weights_from_noise", tiled)
    counts, bound = counted_work.training_step(1, IWAEBound(50)), BOUNDS["iwae, k = 50"]
    assert counts.encoded_rows == 50 * bound["encoded_rows"]
    assert counts.product_flops > 1.2 * bound["product_flops"]
    assert counts.bytes_written > bound["bytes_written"]


def test_a_product_too_many_exceeds_the_bounds(monkeypatch):
    plain = IWAE.log_weights_from_noise
    more = tf.constant(np.eye(50, dtype=np.float32))

    def wasteful(self, x, noise, shared=None):
        return plain(self, x, noise @ more, shared)

    monkeypatch.setattr(IWAE, "log_weights_from_noise", wasteful)
    counts, bound = counted_work.training_step(1, IWAEBound(50)), BOUNDS["iwae, k = 50"]
    assert counts.product_flops == bound["product_flops"] + 2 * 1000 * 50 * 50
    assert counts.bytes_written == pytest.approx(bound["bytes_written"] / bounds.BYTES_SLACK + 4 * 1000 * 50, rel=1e-6)


def test_the_images_have_the_size_that_is_counted():
    assert images(20).shape == (20, counted_work.DIM)
