"""Sigmoid belief networks learn: log p(x), summed over all states, rises under every objective they have."""

import keras
import numpy as np
import pytest
import reference_bernoulli
from binary_models import belief_network, generative_weights

from iwae_tf.objectives import RWS, TVO, VIMCO, RWSSleep

UNITS = (3, 2)
OBJECTIVES = {
    "vimco": VIMCO(8),
    "rws": RWS(8),
    "rws-sleep": RWSSleep(8),
    "tvo": TVO(8),
    "vimco, 2 backward": VIMCO(8, backward_samples=2),
}


def _images():
    """Two patterns of 6 pixels with one pixel in ten flipped: far from independent pixels; [200, 6]."""
    rng = np.random.default_rng(0)
    patterns = np.array([[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]])[rng.integers(0, 2, 200)]
    return np.abs(patterns - (rng.random((200, 6)) < 0.1)).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_sigmoid_belief_network_learns(name):
    model, x = belief_network(6, UNITS, gain=1.0), _images()

    def log_p_x():
        return reference_bernoulli.log_prob(x, UNITS, **generative_weights(model)).mean()

    independent = -6 * np.log(2.0)  # what pixels that are 1 half of the time, each on its own, have
    before = log_p_x()
    model.compile(keras.optimizers.Adam(0.02), objective=OBJECTIVES[name])
    model.fit(np.tile(x, (8, 1)), epochs=10, batch_size=50, verbose=0)
    assert log_p_x() > before + 0.5
    assert log_p_x() > independent + 0.5  # the patterns are found, not the mean of the pixels alone
    bound = model.evaluate(x, batch_size=200, verbose=0, return_dict=True)["bound"]
    assert bound < log_p_x()
