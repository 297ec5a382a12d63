"""`--precision` from the flag to the folder of a run, and what is made of it afterwards."""

import json

import numpy as np
import pytest
from reference import log_mean_exp
from served import assert_same_bits, reference_log_weights, scores_request, through_c_api, through_python

from iwae_tf import InputError
from iwae_tf.commands import flags
from iwae_tf.config import DataConfig, ModelConfig, OutputConfig, RunConfig, TrainingConfig
from iwae_tf.serving import export_saved_model
from iwae_tf.training import results
from iwae_tf.training import run as training
from iwae_tf.training.run_folder import check_same_settings, write_json
from iwae_tf.training.trained import read_trained

POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@pytest.fixture
def make_run(tmp_path):
    """Starts a run on grey images of 48 pixels with a precision and some settings."""
    rng = np.random.default_rng(0)
    parts = {"x_train": rng.random((50, 48)), "x_valid": rng.random((7, 48)), "x_test": rng.random((20, 48))}
    np.savez(tmp_path / "mine.npz", **parts)

    def make(precision, name="run", resume=False, **settings):
        config = RunConfig(
            data=DataConfig(dataset=str(tmp_path / "mine.npz")),
            model=ModelConfig(latent_units=(3,), hidden_units=((8,),), precision=precision),
            training=TrainingConfig(**{"epochs": 2, "k": 2, "batch_size": 10} | settings),
        )
        run = training.start(config, OutputConfig(output_dir=str(tmp_path / name), resume=resume))
        run.lock.release()
        return run

    return make


def _finish(run):
    results.evaluate(run, training.fit(run, verbose=0), verbose=0)
    return read_trained(run.path)


@pytest.mark.parametrize("precision", POLICIES)
def test_the_precision_reaches_the_model_the_settings_and_the_saved_model(make_run, precision):
    run = make_run(precision)
    assert run.model.dtype_policy.name == POLICIES[precision]
    assert json.loads((run.path / "config.json").read_text())["model"]["precision"] == precision
    model = _finish(run).model
    assert model.dtype_policy.name == POLICIES[precision]
    x = run.x_test[:4]
    np.testing.assert_array_equal(model.log_weights(x, 60), run.model.log_weights(x, 60))


def test_an_unknown_precision_is_refused_with_those_there_are():
    with pytest.raises(InputError, match="precision must be one of float32, bfloat16, float16, got 'half'"):
        ModelConfig(precision="half")


def test_the_flag_is_the_setting():
    def parsed(*words):
        parser = flags.Parser()
        flags.add_settings(parser, ModelConfig)
        return flags.settings_from(parser.parse_args([*words]), ModelConfig)

    assert parsed("--precision", "float16").precision == "float16"
    assert parsed().precision == "float32"


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_run_stopped_inside_an_epoch_goes_on_to_the_same_bits(make_run, monkeypatch, precision):
    settings = {"epochs": 3, "batch_size": 2}  # 25 steps an epoch, 5 in one call
    whole, stopped = make_run(precision, "whole", **settings), make_run(precision, "stopped", **settings)
    training.fit(whole, verbose=0)

    def interrupt(bar, batch, logs=None):
        if int(bar.model.optimizer.iterations) == 30:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.ProgressBar, "on_train_batch_end", interrupt)
        with pytest.raises(KeyboardInterrupt):
            training.fit(stopped, verbose=0)
    resumed = make_run(precision, "stopped", resume=True, **settings)
    assert int(resumed.model.optimizer.iterations) == 30
    training.fit(resumed, verbose=0)
    for one, other in zip(whole.model.weights, resumed.model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())


def test_a_run_is_not_resumed_with_another_precision(make_run):
    make_run("float16")
    with pytest.raises(InputError, match="precision is 'float16' there and 'bfloat16' here"):
        make_run("bfloat16", resume=True)


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_run_from_before_there_was_a_precision_is_one_in_float32(tmp_path, precision):
    config = RunConfig(model=ModelConfig(precision=precision))
    stored = config.to_json()
    del stored["model"]["precision"]
    write_json(tmp_path / "config.json", stored)
    if precision == "float32":
        check_same_settings(tmp_path, config)
    else:
        with pytest.raises(InputError, match="precision is 'float32' there and 'float16' here"):
            check_same_settings(tmp_path, config)


@pytest.mark.slow
@pytest.mark.parametrize(("there", "here"), [("float32", "float16"), ("float16", "bfloat16")])
def test_weights_fit_whatever_the_precision(make_run, there, here):
    first = _finish(make_run(there, "first"))
    second = make_run(here, "second", seed=9, init_from=str(first.path))
    for one, other in zip(first.model.weights, second.model.weights, strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    assert second.model.dtype_policy.name == POLICIES[here]


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_server_scores_an_exported_model_as_float64_does(make_run, precision, tmp_path):
    run = make_run(precision)
    folder = export_saved_model(run.model, tmp_path / "models" / "mine", num_samples=50, max_samples=1000)
    request = scores_request(run.x_test[:4], 200, seed=3)
    (answer,) = through_python(folder, [request])
    (elsewhere,), _ = through_c_api(folder, [request], tmp_path)
    assert_same_bits(answer, elsewhere)
    expected = [log_mean_exp(reference_log_weights(run.model, x, 200, 3)) for x in run.x_test[:4]]
    # Hidden values have 8 or 11 bits; scores lose what 48 pixels and 3 units make of it.
    np.testing.assert_allclose(answer["log_prob"], expected, atol=0.02)
