"""The peers: the same model in other ways, each skipped where its framework is missing."""

import importlib.util

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import peers, sizes
from benchmarks.timing import Seconds
from iwae_tf import IWAE
from iwae_tf.config import PAPER_NETWORKS

UNITS = ((3, 2), ((7, 7), (4, 4)))
# What torch.compile imports.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")
MODELS = [name for name in peers.PEERS if not name.startswith("floor")]


def peer_of(name: str, x: np.ndarray, k: int):
    package = peers.PEERS[name][0]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install -e '.[bench]'")
    return peers.peer_class(name)(*UNITS, x, k)


def pixels() -> np.ndarray:
    return np.tile(np.eye(3, 12, dtype=np.float32), (4, 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_peer_is_the_same_model(name):
    peer = peer_of(name, pixels(), 40)
    mine = IWAE(12, *UNITS)
    sizes_of = [sorted(a.shape for a in arrays) for arrays in (peer.arrays(), [v.numpy() for v in mine.weights])]
    assert sizes_of[0] == sizes_of[1]
    peer.zero()  # q = p = N(0, 1) and every pixel 1/2, whatever the noise
    assert peer.step() == pytest.approx(12 * np.log(0.5), rel=1e-5)  # sums of a hundred float32 numbers


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if not name.startswith("iwae-tf")])
def test_a_peer_climbs_the_bound_by_the_same_steps(name):
    peer = peer_of(name, pixels(), 40)
    peer.zero()
    first, second = peer.step(), peer.step()
    # From zero weights the gradient by the biases of the pixels is the mean of x - 1/2, and Adam's first step moves
    # each by 0.001. Noise moves some 20 biases of latent units by as much, which adds 0.001 sqrt(20 / (12 40)) = 2e-4.
    rise = 1e-3 * np.abs(pixels().mean(0) - 0.5).sum()
    assert second - first == pytest.approx(rise, abs=8e-4)  # four standard errors
    last = [peer.step() for _ in range(30)][-1]
    assert last > second + 10 * rise  # 30 steps of about as much


def test_peers_and_the_package_have_the_networks_of_the_paper():
    for layers in (1, 2):
        assert sizes.units(layers) == tuple(PAPER_NETWORKS[layers])


def test_what_is_missing_is_named_and_left_out(monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("torch", "jax") else found(name))
    assert peers.missing() == ["torch", "jax"]
    assert not any("Torch" in name or "JAX" in name for name in peers.ways(1, 20, 50))


@pytest.mark.slow
def test_a_peer_answers_from_a_process_of_its_own_with_its_own_clock():
    way = peers.ways(1, 2, 1)["TFP, x tiled k times"]
    seconds = way()
    assert isinstance(seconds, Seconds)
    assert 0 < seconds < 10
    assert tf.config.threading.get_intra_op_parallelism_threads() in (0, 1)
