"""What `IWAE` takes: images in their shape, datasets, names, brackets left out; and one clear line for all else."""

import copy
import pickle

import keras
import numpy as np
import pytest
import scipy.sparse
import tensorflow as tf

from iwae_tf import IWAE, InputError
from iwae_tf.evaluation import estimate_log_likelihood
from iwae_tf.objectives import DReG, IWAEBound
from iwae_tf.serving.client import ScoringClient

X = (np.random.default_rng(0).random((8, 12)) < 0.5).astype(np.float32)


def compiled():
    model = IWAE(12, 3, 8)
    model.compile(objective=IWAEBound(2))
    return model


@pytest.fixture(scope="module")
def model():
    return compiled()


def batches(x=X):
    return tf.data.Dataset.from_tensor_slices(x).batch(4)


@pytest.mark.parametrize(
    "same",
    [
        X.reshape(8, 3, 4),
        X.reshape(8, 3, 2, 2),
        X.tolist(),
        X.astype(np.int64),
        X.astype(bool),
        batches(),
        batches((X.reshape(8, 3, 4), np.zeros(8))).map(lambda x, y: (tf.reshape(x, [-1, 12]), y)),
    ],
    ids=["images", "colour images", "lists", "integers", "booleans", "dataset", "dataset with labels"],
)
def test_scores_of_the_same_rows_in_any_form(model, same):
    np.testing.assert_array_equal(model.log_likelihood(same, 20), model.log_likelihood(X, 20))
    np.testing.assert_array_equal(model.encode(same)[0].loc, model.encode(X)[0].loc)
    np.testing.assert_array_equal(model.reconstruct(same), model.reconstruct(X))
    found = [estimate_log_likelihood(model, x, 20, batch_size=4).log_likelihood for x in (same, X)]
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize(
    "source",
    [
        lambda: X.reshape(8, 3, 4),
        lambda: batches(X.reshape(8, 3, 4)),
        lambda: batches().map(lambda x: tf.numpy_function(lambda rows: rows, [x], tf.float32)),  # of unknown rank
        lambda: tf.data.Dataset.from_generator(lambda: iter(X.reshape(2, 4, 12)), output_types=tf.float32),
        lambda: ((rows,) for rows in X.reshape(2, 4, 12)),
    ],
    ids=["images", "dataset of images", "numpy_function", "from_generator", "generator"],
)
@pytest.mark.filterwarnings("ignore:.*ran out of data", "ignore:`shuffle=True`")
def test_training_on_the_same_rows_in_any_form(source):
    given = compiled()
    given.fit(source(), batch_size=4, shuffle=False, verbose=0)
    expected = compiled()
    expected.fit(X, batch_size=4, shuffle=False, verbose=0)
    for one, other in zip(given.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


UNUSABLE = {
    "sparse": (scipy.sparse.csr_matrix(X), "dense array, got csr_matrix"),
    "ragged": (tf.ragged.constant([[1.0] * 12, [0.0] * 11]), "dense array, got RaggedTensor"),
    "objects": (X.astype(object), "got dtype object"),
    "uneven lists": ([[1.0] * 12, [0.0] * 11], "array of numbers"),
    "text": (np.full((2, 12), "1"), "got dtype <U1"),
    "complex": (X.astype(complex), "got dtype complex128"),
    "masked": (np.ma.masked_array(X, X > 0), "mask would be lost"),
    "strings": (tf.constant([["a"] * 12]), "tensor of string"),
    "no rows": (X[:0], "no rows"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_what_is_no_dense_array_of_numbers_is_refused_in_one_line(model, name):
    x, words = UNUSABLE[name]
    calls = {
        "log_likelihood": lambda: model.log_likelihood(x, 5),
        "encode": lambda: model.encode(x),
        "fit": lambda: model.fit(x, verbose=0),
        "validation": lambda: model.fit(X, validation_data=(x, None), verbose=0),
    }
    for call in calls.values():
        with pytest.raises(InputError) as error:
            call()
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_dictionaries_are_answered_with_how_to_take_one_array(model):
    with pytest.raises(InputError, match=r"dataset.map\(lambda e: e\[NAME\]\)"):
        model.fit(batches({"image": X, "label": np.zeros(8)}), verbose=0)
    with pytest.raises(InputError, match="dictionary with 'image'"):
        model.fit({"image": X}, verbose=0)
    with pytest.raises(InputError, match="lambda e"):
        model.log_likelihood(batches({"image": X}), 5)


def test_a_dataset_without_rows_is_refused(model):
    with pytest.raises(InputError, match="no rows"):
        model.log_likelihood(batches().take(0), 5)


@pytest.mark.parametrize("setting", ["steps_per_epoch", "epochs", "batch_size"])
def test_counts_of_fit_are_checked(model, setting):
    with pytest.raises(InputError, match=f"{setting} must be an integer >= 1, got 0"):
        model.fit(X, verbose=0, **{setting: 0})


def test_no_validation_split_is_none(model):
    assert "val_bound" not in model.fit(X, validation_split=None, verbose=0).history


@pytest.mark.parametrize(
    ("latent_units", "hidden_units", "expected"),
    [
        (3, 8, ((3,), ((8,),))),
        ((3,), (8, 6), ((3,), ((8, 6),))),
        ([3], [[8, 6]], ((3,), ((8, 6),))),
        (3, (), ((3,), ((),))),
        ((3, 2), ((8,), ()), ((3, 2), ((8,), ()))),
    ],
)
def test_brackets_of_one_stochastic_layer_may_be_left_out(latent_units, hidden_units, expected):
    model = IWAE(12, latent_units, hidden_units)
    assert (model.latent_units, model.hidden_units) == expected


def test_several_stochastic_layers_need_their_brackets():
    with pytest.raises(InputError, match="a tuple of widths for each stochastic layer"):
        IWAE(12, (3, 2), (5, 4))


def test_an_estimate_in_a_function_is_of_tensors_for_any_number_of_rows(model):
    function = tf.function(
        lambda x: vars(estimate_log_likelihood(model, x, 20)), input_signature=[tf.TensorSpec([None, 12])]
    )
    for rows in (X, X[:3]):
        expected = vars(estimate_log_likelihood(model, rows, 20))
        tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), function(rows), expected)


def test_an_objective_by_its_name_has_50_samples():
    model = IWAE(12, 3, 8)
    model.compile(objective="dreg")
    assert isinstance(model.objective, DReG)
    assert model.objective.num_samples == 50
    with pytest.raises(InputError, match="did you mean 'dreg'"):
        model.compile(objective="drge")


@pytest.mark.parametrize("likelihood", ["bernoulli", "continuous-bernoulli"])
def test_a_mean_in_grey_values_is_refused(likelihood):
    with pytest.raises(InputError, match=r"data_mean must be in \[0, 1\].*divide 8-bit"):
        IWAE(12, 3, 8, likelihood=likelihood, data_mean=[128.0] * 12)


def test_the_summary_shows_shapes(capsys):
    IWAE(12, (3, 2), ((8,), (4,))).summary()
    shown = capsys.readouterr().out
    assert "(None, 5)" in shown
    assert "(None, 12)" in shown


def test_export_writes_the_scoring_savedmodel(model, tmp_path):
    version = model.export(tmp_path / "m", num_samples=100)
    assert version == tmp_path / "m" / "1"
    with ScoringClient(tmp_path / "m") as client:
        np.testing.assert_allclose(client.score(X[:2], 50).log_prob, model.log_likelihood(X[:2], 50), rtol=1e-5)


def test_predict_checks_its_rows_and_quantize_names_what_to_use(model):
    np.testing.assert_allclose(model.predict(X, verbose=0), model.reconstruct(X), rtol=1e-6)
    with pytest.raises(InputError, match="divide 8-bit grey values by 255"):
        model.predict(X * 255, verbose=0)
    with pytest.raises(InputError, match="mixed_bfloat16"):
        model.quantize("int8")


@pytest.mark.parametrize("number", [2**31, 10**12])
def test_more_samples_than_an_int32_counts_are_refused(model, number):
    with pytest.raises(InputError, match="at most 500000000"):
        model.log_likelihood(X, number)
    with pytest.raises(InputError, match="at most 500000000"):
        model.log_weight_chunks(X, number)


def test_a_copy_and_weights_in_hdf5_are_the_model(model, tmp_path):
    copy = keras.models.clone_model(model)
    model.save_weights(tmp_path / "model.weights.h5")
    copy.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(copy.log_likelihood(X, 20), model.log_likelihood(X, 20))
    with pytest.raises(InputError, match=r"saved as a \.keras file"):  # Keras could not load it
        model.save(tmp_path / "model.h5")


METHODS = ("fit", "evaluate", "predict", "train_on_batch", "test_on_batch", "predict_on_batch")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [*UNUSABLE, "dictionary", "nothing", "grey values"])
def test_every_method_of_keras_refuses_them_in_one_line(model, method, name):
    more = {
        "dictionary": ({"image": X}, "dictionary"),
        "nothing": (None, "is missing"),
        "grey values": (X * 255, "by 255"),
    }
    x, words = (UNUSABLE | more)[name]
    with pytest.raises(InputError) as error:
        getattr(model, method)(x)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_methods_on_batches_are_those_on_data(model):
    # two graphs, whose last bits may differ
    assert model.test_on_batch(X, return_dict=True) == pytest.approx(
        model.evaluate(X, verbose=0, return_dict=True), rel=1e-6
    )
    np.testing.assert_allclose(model.predict_on_batch(X.tolist()), model.predict(X, verbose=0), rtol=1e-6)
    before = model.step
    assert np.isfinite(model.train_on_batch(X.reshape(8, 3, 4))).all()
    assert model.step == before + 1
    for method, weights in (("evaluate", (X, None, 4, 0, np.ones(8))), ("train_on_batch", (X, None, np.ones(8)))):
        with pytest.raises(InputError, match="sample_weight is not supported"):
            getattr(model, method)(*weights)


def test_methods_that_would_half_work_are_refused_with_what_to_use(model, tmp_path):
    with pytest.raises(InputError, match=r"add_loss is not supported.*objectives\.Objective"):
        model.add_loss(1.0)
    with pytest.raises(InputError, match=r"format='tf_saved_model', got 'onnx'"):
        model.export(tmp_path / "m", "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("copy", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_in_memory_are_the_model(model, copy):
    np.testing.assert_array_equal(copy(model).log_likelihood(X, 20), model.log_likelihood(X, 20))
