"""An exported model with binary units: what the SavedModel answers is what Python computes."""

import json

import numpy as np
import pytest
import reference_bernoulli as reference
from binary_models import belief_network, generative_weights
from served import scores_request, through_python
from small_models import binary_images

from iwae_tf.serving import export_saved_model
from iwae_tf.serving.model_folder import PROVENANCE

DIM, UNITS = 6, (3, 2)


@pytest.fixture(scope="module")
def model():
    return belief_network(DIM, UNITS, gain=1.0)


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    return export_saved_model(model, tmp_path_factory.mktemp("m") / "belief", num_samples=500, max_samples=5000)


def test_scores_are_log_p_of_x_by_the_sum_over_all_states(model, folder):
    x = binary_images(8, DIM)
    truth = reference.log_prob(x, UNITS, **generative_weights(model))
    default, more = through_python(folder, [("serving_default", {"x": x}), scores_request(x, 5000)])
    for scores in (default, more):
        assert (scores["status"] == 0).all()
        assert (np.abs(scores["log_prob"] - truth) < 4.0 * scores["standard_error"]).all()  # standard errors, 8 images
    assert more["standard_error"].max() < 0.06


def test_encodings_and_reconstructions_are_the_models(model, folder):
    x = binary_images(5, DIM)
    encoded, reconstructed = through_python(folder, [("encode", {"x": x}), ("reconstruct", {"x": x})])
    assert encoded.keys() == {"probability_1", "probability_2", "status"}
    close = {"rtol": 1e-5, "atol": 1e-6}  # float32, one row at a time or five together
    for number, layer in enumerate(model.encode(x), start=1):
        np.testing.assert_allclose(encoded[f"probability_{number}"], layer.probability, **close)
    np.testing.assert_allclose(reconstructed["x_mean"], model.reconstruct(x), **close)


def test_served_samples_are_as_frequent_as_the_model_says(model, folder):
    n = 4000
    (drawn,) = through_python(folder, [("sample", {"seed": np.arange(n, dtype=np.int64)})])
    number = drawn["x"] @ 2 ** np.arange(DIM)[::-1]
    frequency = np.bincount(number.astype(int), minlength=2**DIM) / n
    p = np.exp(reference.log_prob(reference.states(DIM), UNITS, **generative_weights(model)))
    assert (np.abs(frequency - p) < 4.5 * np.sqrt(p / n)).all()  # 4.5 standard errors for each of 64 images


def test_provenance_names_the_units(folder):
    provenance = json.loads((folder / PROVENANCE).read_text())
    assert (provenance["latent"], provenance["likelihood"]) == ("bernoulli", "bernoulli")
