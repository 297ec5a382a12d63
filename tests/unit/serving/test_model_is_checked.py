"""The folder of a model: what is refused before it is loaded, what does not matter, and a model that changes."""

import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from served import meta_graph
from shared_runs import change_model
from small_models import SMALL_DIM, binary_images, small_model

import iwae_tf
from iwae_tf.commands.main import main
from iwae_tf.errors import InputError
from iwae_tf.layers import ConvDecoder, ConvEncoder
from iwae_tf.serving import export_saved_model, model_folder, saved_model
from iwae_tf.serving.operations import refused_operations
from iwae_tf.serving.row import RowSettings
from iwae_tf.serving.signatures import signatures
from iwae_tf.training.run_folder import model_checksum

X = tf.TensorSpec([None, 4], name="x")


def scores(x, shift=0.0):
    """The outputs of a scoring signature."""
    values, zeros = tf.reduce_sum(x, 1) + shift, tf.zeros_like(x[:, 0], tf.int32)
    names = ("log_prob", "elbo", "standard_error", "effective_sample_size", "pareto_k")
    return {**dict.fromkeys(names, values), "reliable": zeros, "status": zeros}


def save(path, function, module=None):
    """Saves a function of x [B, 4] as the signature of a SavedModel."""
    signature = tf.function(function, input_signature=[X], autograph=False)
    tf.saved_model.save(module or tf.Module(), str(path), {"serving_default": signature})


def doing(*steps):
    """A scoring function that does something else first, each in a control dependency."""

    def function(x):
        with tf.control_dependencies([step(x) for step in steps]):
            return {name: tf.identity(values) for name, values in scores(x).items()}

    return function


def written_in_a_loop(target):
    def body(i, total):
        with tf.control_dependencies([tf.io.write_file(str(target), "here")]):
            return i + 1, total + 1.0

    return lambda x: tf.while_loop(lambda i, _: i < 1, body, [0, 0.0])[1]


@pytest.mark.parametrize("command", ["score", "serve"])
def test_a_model_that_writes_a_file_is_refused_and_the_file_is_not_there(tmp_path, capsys, command):
    target = tmp_path / "written.txt"
    save(tmp_path / "m" / "1", doing(lambda x: tf.io.write_file(str(target), "here")))
    np.save(tmp_path / "x.npy", np.zeros([2, 4]))
    model = str(tmp_path / "m")
    flags = {"score": [str(tmp_path / "x.npy"), "--url", model], "serve": [model, "--port", "0"]}
    assert main([command, *flags[command]]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "is refused before it is loaded: a model is code, and this one has WriteFile, which" in output.err
    assert output.err.count("\n") == 1
    assert not target.exists()


def test_operations_are_found_in_loops_unused_functions_and_initialisation_and_by_text_alone(tmp_path):
    target = tmp_path / "written.txt"
    save(tmp_path / "loop", doing(written_in_a_loop(target)))
    other = tf.Module()
    other.other = tf.function(lambda: tf.io.read_file(str(target)), input_signature=[])
    save(tmp_path / "unused", scores, other)
    (tmp_path / "words.txt").write_text("a\nb\n")
    table = tf.Module()
    words = tf.lookup.TextFileInitializer(
        str(tmp_path / "words.txt"),
        tf.string,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    table.table = tf.lookup.StaticHashTable(words, 0)
    save(tmp_path / "initialisation", scores, table)
    save(tmp_path / "printed", doing(lambda x: tf.raw_ops.PrintV2(input="here", output_stream=f"file://{target}")))
    save(tmp_path / "python", doing(lambda x: tf.numpy_function(target.touch, [], [])))
    save(tmp_path / "debug", doing(lambda x: tf.raw_ops.DebugIdentity(input=x, debug_urls=[f"file://{target}"])))
    save(
        tmp_path / "saved",
        doing(lambda x: tf.raw_ops.SaveV2(prefix=str(target), tensor_names=["x"], shape_and_slices=[""], tensors=[x])),
    )
    save(tmp_path / "abort", doing(lambda x: tf.raw_ops.Abort(error_msg="gone")))
    for name, operation in [
        ("loop", "WriteFile"),
        ("unused", "ReadFile"),
        ("initialisation", "InitializeTableFromTextFileV2"),
        ("printed", "PrintV2"),
        ("python", "PyFunc"),
        ("debug", "DebugIdentity"),
        ("saved", "SaveV2"),
        ("abort", "Abort"),
    ]:
        with pytest.raises(InputError, match=rf"{name} is refused before it is loaded.*\b{operation}\b"):
            model_folder.load(tmp_path / name)
    assert not target.exists()


@pytest.mark.parametrize("name", ["y", "x"])
def test_a_model_of_another_exporter_that_is_harmless_is_told_what_it_lacks(tmp_path, capsys, name):
    signature = tf.function(lambda **given: {"out": 2.0 * given[name]}, autograph=False)
    signature = signature.get_concrete_function(**{name: tf.TensorSpec([None, 4] if name == "y" else None, name=name)})
    tf.saved_model.save(tf.Module(), str(tmp_path / "m"), {"serving_default": signature})
    np.save(tmp_path / "x.npy", np.zeros([2, 4]))
    assert main(["score", str(tmp_path / "x.npy"), "--url", str(tmp_path / "m")]) == 2
    error = capsys.readouterr().err
    assert ("takes y, got x" if name == "y" else "answered without log_prob") in error
    assert "Traceback" not in error


def test_a_model_of_tensorflow_1_whose_initialisation_would_run_is_refused(tmp_path):
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        x = tf.compat.v1.placeholder(tf.float32, [None, 4])
        tf.compat.v1.saved_model.simple_save(session, str(tmp_path / "m"), {"x": x}, {"y": 2 * x})
    with pytest.raises(InputError, match="m cannot be loaded as a SavedModel: it is none of TensorFlow 2"):
        model_folder.load(tmp_path / "m")


@pytest.mark.slow
def test_convolutions_need_no_operation_that_is_refused(tmp_path):
    """Those of the likelihoods are checked where a server scores them, and every export is checked."""
    model = iwae_tf.IWAE(16, (3,), encoder=ConvEncoder((4, 4, 1)), decoder=ConvDecoder((4, 4, 1)))
    archive = keras.export.ExportArchive()
    signature = signatures(model, RowSettings(60, 100, "intensity", refine=True))["serving_default"]
    archive.add_endpoint("serving_default", signature.function, signature.inputs)
    archive.write_out(tmp_path / "m", verbose=False)
    assert refused_operations(meta_graph(tmp_path / "m")) == []


# ------------------------------------------------------------------------------------------- files of a version


def test_files_that_are_added_to_a_version_do_not_matter_and_a_missing_one_does(small_folder, tmp_path):
    version = tmp_path / "small" / "1"
    shutil.copytree(small_folder, version)
    for name in ("assets.extra/notes.txt", ".DS_Store", "variables/.nfs0001"):
        (version / name).write_text("added")
    assert "serving_default" in model_folder.load(version).signatures
    (version / "assets.extra" / "tf_serving_warmup_requests").unlink()
    with pytest.raises(
        InputError, match=r"1 is damaged: .*tf_serving_warmup_requests is missing; export the model again"
    ):
        model_folder.load(version)


def test_a_model_that_changes_under_a_job_that_stopped_is_named(tmp_path, capsys, monkeypatch):
    x, model, out = np.random.default_rng(0).random((20, 4)), tmp_path / "m" / "1", tmp_path / "scores.parquet"
    np.save(tmp_path / "x.npy", x)
    save(model, scores)
    command = ["score", str(tmp_path / "x.npy"), "--url", str(model), "--out", str(out)]
    with monkeypatch.context() as patch:
        predict, calls = model_folder.FolderBackend.predict, []

        def fails_later(self, *arguments):
            calls.append(arguments)
            if len(calls) > 1:
                raise InputError("out of memory")
            return predict(self, *arguments)

        patch.setattr(model_folder.FolderBackend, "predict", fails_later)
        assert main(command) == 2
    part = out.with_name("scores.parquet.part").read_bytes()
    capsys.readouterr()
    shutil.move(model, tmp_path / "first")
    save(model, lambda x: scores(x, 1.0))
    assert main(command) == 2
    error = capsys.readouterr().err
    assert "scores.parquet.part is of another job: model is 'sha256:" in error
    assert out.with_name("scores.parquet.part").read_bytes() == part
    shutil.rmtree(model)
    shutil.move(tmp_path / "first", model)
    assert main(command) == 0


# ------------------------------------------------------------------------------------------- what is exported


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_whose_scores_are_not_finite_is_not_exported(tmp_path, value):
    model = small_model()
    model.trainable_variables[0].assign(tf.fill(model.trainable_variables[0].shape, value))
    with pytest.raises(InputError, match="4 rows that it draws itself as NaN or infinite"):
        export_saved_model(model, tmp_path / "m")
    gaussian = small_model(likelihood="gaussian")
    gaussian.generative_network.likelihood_stage.head.loc.bias.assign([1e30] * SMALL_DIM)
    gaussian.inference_network.stages[0].head.loc.bias.assign([value] * 5)
    with pytest.raises(InputError, match="draws itself as NaN or infinite"):
        export_saved_model(gaussian, tmp_path / "m")
    assert list(tmp_path.iterdir()) == []


def test_a_model_whose_graph_is_refused_when_it_is_loaded_is_not_exported(tmp_path, monkeypatch):
    target = tmp_path / "written.txt"

    class Writes(keras.layers.Layer):
        def call(self, x):
            with tf.control_dependencies([tf.io.write_file(str(target), "here")]):
                return tf.identity(x)

    model = iwae_tf.IWAE(SMALL_DIM, (2,), ((4,),), encoder=Writes())
    assert np.isfinite(model.log_likelihood(binary_images(2), 5)).all()
    monkeypatch.setattr(saved_model, "signatures", lambda *a: {"encode": signatures(*a)["encode"]})
    with pytest.raises(InputError, match="the model's graph has WriteFile, which may touch files"):
        export_saved_model(model, tmp_path / "m")
    assert not any((tmp_path / "m").iterdir())


def test_a_run_whose_model_is_of_another_size_or_diverged_is_not_exported(run, tmp_path, capsys):
    trained = keras.saving.load_model(run / "model.keras")
    other = iwae_tf.IWAE(30, (3,), ((20, 20),))
    for model, message in [
        (other, "is not the model of config.json: data_dim is 64 there and 30 here; latent_units is [2] there and [3]"),
        (trained, "of 4 rows that it draws itself as NaN or infinite"),
    ]:
        model.set_weights([np.full(w.shape, np.nan) for w in model.get_weights()])
        model.save(run / "model.keras")
        metrics = json.loads((run / "metrics.json").read_text())
        (run / "metrics.json").write_text(json.dumps({**metrics, "model": model_checksum(run)}))
        assert main(["export", str(run), "--output-dir", str(tmp_path / "models")]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not (tmp_path / "models").exists()


def test_a_run_whose_model_was_changed_after_it_was_scored_is_not_exported(run, tmp_path, capsys):
    change_model(run)
    assert main(["export", str(run), "--output-dir", str(tmp_path / "models")]) == 2
    error = capsys.readouterr().err
    recorded, found = json.loads((run / "metrics.json").read_text())["model"], model_checksum(run)
    assert f"metrics.json is of model {recorded[:19]}..., model.keras is of model {found[:19]}...; score it" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "models").exists()
