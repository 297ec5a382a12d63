"""An export as TensorFlow Serving uses it: loaded without Python, warmed up, batched, scored."""

import concurrent.futures
import json

import keras
import numpy as np
import pytest
import reference_bernoulli
import tensorflow as tf
from binary_models import generative_weights
from reference import log_mean_exp
from served import (
    assert_same_bits,
    loaded,
    meta_graph,
    reference_log_weights,
    scores_request,
    through_c_api,
    through_function,
    through_python,
)
from small_models import SMALL_DIM, binary_images, small_model
from tensorflow_serving.apis import prediction_log_pb2

from iwae_tf import IWAE
from iwae_tf.declarations import declared, find
from iwae_tf.evaluation import estimate_log_likelihood
from iwae_tf.layers import ColumnModel
from iwae_tf.serving import export_saved_model, operations, saved_model
from iwae_tf.serving.row import RowSettings
from iwae_tf.serving.saved_model import WARMUP_BATCH_SIZES
from iwae_tf.serving.signatures import signatures

KINDS = [("student-t", None), ("gaussian", None), ("negative-binomial", None), ("categorical", 3)]
TABLE = [ColumnModel(str(i), *KINDS[i % 4][:1], 1.0, 2.0, KINDS[i % 4][1]) for i in range(12)]
SCORES = ("log_prob", "elbo", "standard_error", "effective_sample_size", "pareto_k", "reliable", "status")
INPUTS = {
    "serving_default": {"x"},
    "log_prob_k": {"x", "num_samples", "seed"},
    "encode": {"x"},
    "reconstruct": {"x"},
    "sample": {"seed"},
    "explain": {"x"},
}
X_ALONE = ("serving_default", "encode", "reconstruct", "explain")


@pytest.fixture(params=["bernoulli", "gaussian", "binary units"])
def exported(request, exports):
    """A model and its version's folder."""
    return exports(request.param)


@pytest.fixture
def folder(exported):
    return exported[1]


@pytest.fixture
def images(exported):
    """A function: n -> binary images of the model's size."""
    return lambda n: binary_images(n, exported[0].data_dim)


def warmup_requests(folder):
    records = tf.data.TFRecordDataset(str(folder / "assets.extra/tf_serving_warmup_requests")).as_numpy_iterator()
    requests = [prediction_log_pb2.PredictionLog.FromString(record).predict_log.request for record in records]
    assert {request.model_spec.name for request in requests} == {"small"}
    inputs = [{name: tf.make_ndarray(proto) for name, proto in request.inputs.items()} for request in requests]
    return [(request.model_spec.signature_name, given) for request, given in zip(requests, inputs, strict=True)]


def test_a_process_without_tensorflows_python_gives_the_bits_of_python(folder, images, tmp_path):
    x, seeds = images(3), np.array([0, -1, 2**62], np.int64)
    requests = [(name, {"x": x}) for name in loaded(folder).signatures if name in X_ALONE]
    requests += [scores_request(x, [1, 50, 1001], seeds), ("sample", {"seed": seeds})]
    warmup = warmup_requests(folder)
    sizes = [(name, len(next(iter(inputs.values())))) for name, inputs in warmup]
    names = loaded(folder).signatures
    assert sorted(sizes) == sorted((name, size) for name in names for size in WARMUP_BATCH_SIZES)
    served, _ = through_c_api(folder, requests + warmup, tmp_path)
    for left, right in zip(served, through_python(folder, requests + warmup), strict=True):
        assert_same_bits(left, right)
        assert (left.get("status", np.zeros(1)) == 0).all()
        assert all(np.isfinite(v).all() for n, v in left.items() if n not in ("standard_error", "pareto_k"))


def test_signatures_have_the_documented_names_a_batch_axis_on_everything_and_operations_that_servers_run(exported):
    model, folder = exported
    definitions = {k: v for k, v in meta_graph(folder).signature_def.items() if not k.startswith("__")}
    fields = ("loc", "scale") if model.latent == "gaussian" else ("probability",)
    layers = {f"{field}_{layer + 1}" for layer in range(len(model.latent_units)) for field in fields}
    has_held_out = (model.likelihood_name, model.latent) == ("bernoulli", "gaussian")
    explain = {"explain": {"contribution", "status"}} if has_held_out else {}
    assert {name: set(definition.inputs) for name, definition in definitions.items()} == {
        name: inputs for name, inputs in INPUTS.items() if name != "explain" or has_held_out
    }
    assert {name: set(definition.outputs) for name, definition in definitions.items()} == {
        **explain,
        "serving_default": set(SCORES) | ({"p_value"} if has_held_out else set()),
        "log_prob_k": set(SCORES),
        "encode": {*layers, "status"},
        "reconstruct": {"x_mean", "status"},
        "sample": {"x_mean", "x"},
    }
    tensors = [info for d in definitions.values() for info in (*d.inputs.values(), *d.outputs.values())]
    assert {info.tensor_shape.dim[0].size for info in tensors} == {-1}
    provenance = json.loads((folder / "assets.extra" / "provenance.json").read_text())
    assert provenance["input"] == ("real" if model.likelihood_name == "gaussian" else "binary")
    assert (provenance["latent"], provenance["likelihood"]) == (model.latent, model.likelihood_name)
    assert refused_operations(meta_graph(folder)) == set()


# ------------------------------------------------------------------------------------------- values


@pytest.mark.parametrize("name", ["bernoulli", "gaussian"])
def test_scores_are_those_of_the_reference(exports, name):
    model, folder = exports(name)
    x = binary_images(2, seed=3)
    numbers = (1, 2, 49, 50, 51, 500, 501, 1000)
    answers = through_python(folder, [scores_request(x, k, seed=11) for k in numbers])
    for row in range(len(x)):
        log_w = reference_log_weights(model, x[row], max(numbers), seed=11)
        for k, answer in zip(numbers, answers, strict=True):
            weights = np.exp(log_w[:k] - log_w[:k].max())
            ess = weights.sum() ** 2 / (weights**2).sum()
            # float32 log-weights, sums of some dozens of terms each rounded to 6e-8 of its size.
            np.testing.assert_allclose(answer["log_prob"][row], log_mean_exp(log_w[:k]), rtol=2e-6, atol=1e-4)
            np.testing.assert_allclose(answer["elbo"][row], log_w[:k].mean(), rtol=2e-6, atol=1e-4)
            np.testing.assert_allclose(answer["effective_sample_size"][row], ess, rtol=1e-3)
            if k > 1:
                error = np.sqrt((1 / ess - 1 / k) * k / (k - 1))
                np.testing.assert_allclose(answer["standard_error"][row], error, atol=2e-3)
            assert np.isposinf(answer["pareto_k"][row]) == (k < 21)


def test_binary_units_give_log_p_of_x_and_samples_by_the_sum_over_all_states(exports):
    model, folder = exports("binary units")
    dim, units, weights = model.data_dim, model.latent_units, generative_weights(model)
    x = binary_images(8, dim)
    (scores,) = through_python(folder, [scores_request(x, 5000)])
    error = np.abs(scores["log_prob"] - reference_bernoulli.log_prob(x, units, **weights))
    assert (error < 4.0 * scores["standard_error"]).all()  # standard errors, 8 images
    assert scores["standard_error"].max() < 0.06
    n = 4000
    (drawn,) = through_python(folder, [("sample", {"seed": np.arange(n, dtype=np.int64)})])
    frequency = np.bincount((drawn["x"] @ 2 ** np.arange(dim)[::-1]).astype(int), minlength=2**dim) / n
    p = np.exp(reference_bernoulli.log_prob(reference_bernoulli.states(dim), units, **weights))
    assert (np.abs(frequency - p) < 4.5 * np.sqrt(p / n)).all()  # 4.5 standard errors for each of 64 images


def test_encode_and_reconstruct_are_the_models(exported, images):
    model, folder = exported
    x = images(3)
    encoded, reconstructed = through_python(folder, [("encode", {"x": x}), ("reconstruct", {"x": x})])
    close = {"rtol": 1e-4, "atol": 1e-5}  # float32 on one row at a time
    parameters = model.encode(x)
    for name, values in encoded.items():
        if name != "status":
            field, layer = name.split("_")
            np.testing.assert_allclose(values, getattr(parameters[int(layer) - 1], field), **close)
    np.testing.assert_allclose(reconstructed["x_mean"], model.reconstruct(x), **close)


@pytest.mark.parametrize("name", ["bernoulli", "gaussian"])
def test_samples_are_drawn_from_the_model_each_from_its_own_seed(exports, name):
    model, folder = exports(name)
    seeds = np.arange(4000, dtype=np.int64)
    drawn, again = through_python(folder, [("sample", {"seed": s}) for s in (seeds, seeds[[7, 3, 7]])])
    assert_same_bits({name: value[[7, 3, 7]] for name, value in drawn.items()}, again)
    expected, difference = model.sample(4000, seed=1).numpy(), drawn["x"] - drawn["x_mean"]
    # Means of 4000 draws of 12 pixels: 5 standard errors are passed once in 10^5 tests.
    for left, right in ((drawn["x"], expected), (drawn["x_mean"], expected), (difference, 0.0 * expected)):
        errors = np.sqrt((left.var(0) + right.var(0)) / 4000)
        assert (np.abs(left.mean(0) - right.mean(0)) < 5 * errors).all()
    assert (difference.std(0) > 0.1).all()
    assert (set(np.unique(drawn["x"])) == {0.0, 1.0}) == (name == "bernoulli")


# ------------------------------------------------------------------------------------------- rows and batches


@pytest.mark.parametrize("signature", ["serving_default", "log_prob_k"])
def test_a_row_has_the_same_bits_alone_permuted_and_padded(folder, images, signature):
    x, k, seed = images(6), np.array([1, 700, 5, 50, 1200, 51]), np.arange(6)
    order, padded = np.array([4, 2, 0, 5, 1, 3]), np.concatenate([np.arange(6), np.full(5, 2)])

    def request(rows):
        if signature == "serving_default":
            return signature, {"x": x[rows]}
        return scores_request(x[rows], k[rows], seed[rows])

    requests = [request(rows) for rows in (np.arange(6), order, padded, *([row] for row in range(6)))]
    together, permuted, with_padding, *alone = through_python(folder, requests)
    assert_same_bits({n: v[order] for n, v in together.items()}, permuted)
    assert_same_bits(together, {n: v[:6] for n, v in with_padding.items()})
    assert_same_bits(together, {n: np.concatenate([one[n] for one in alone]) for n in together})


def test_seeds_and_rows_have_their_own_noise_and_minus_0_is_0(folder, images):
    x = images(6)
    requests = [scores_request(x, 700), scores_request(np.where(x == 0, -0.0, x), 700), scores_request(x, 700, 9)]
    scores, minus, other = through_python(folder, requests)
    assert_same_bits(scores, minus)
    assert (scores["log_prob"] != other["log_prob"]).all()
    assert scores["log_prob"][0] != scores["log_prob"][1]


def test_the_default_signature_gives_the_refined_estimate_of_python(exported, images):
    model, folder = exported
    x = images(4)
    (served,) = through_python(folder, [("serving_default", {"x": x})])
    (plain,) = through_python(folder, [scores_request(x, 700)])
    error = np.hypot(served["standard_error"], plain["standard_error"])
    assert (served["log_prob"] > plain["log_prob"] - 5 * error).all()  # 700 samples of q(h | x) may miss the tail
    if model.likelihood_name == "bernoulli":  # the refinement of others differs in the log-weights alone, tested above
        found = estimate_log_likelihood(model, x, 700)
        # The fit follows gradients, which other shapes of products round otherwise: its own rounding is larger.
        np.testing.assert_allclose(served["log_prob"], found.log_likelihood, atol=2e-3)
        np.testing.assert_allclose(served["standard_error"], found.standard_error, rtol=0.05, atol=1e-3)
        np.testing.assert_array_equal(served["reliable"], found.reliable)
    elif model.gaussian_latents:
        assert np.median(served["effective_sample_size"] / plain["effective_sample_size"]) > 1.5
    provenance = json.loads((folder / "assets.extra" / "provenance.json").read_text())
    assert provenance["refine"] == model.gaussian_latents


def test_requests_of_eight_threads_joined_as_a_server_joins_them_keep_their_bits(small_folder):
    signature = loaded(small_folder).signatures["log_prob_k"]

    @tf.nondifferentiable_batch_function(
        num_batch_threads=2, max_batch_size=4, batch_timeout_micros=20_000, allowed_batch_sizes=[1, 2, 4]
    )
    def batched(x, num_samples, seed):
        answer = signature(x=x, num_samples=num_samples, seed=seed)
        return *(answer[name] for name in SCORES), tf.fill(tf.shape(x)[:1], tf.shape(x)[0])

    requests = [scores_request(binary_images(1, seed=n), (1, 5, 50, 900)[n % 4], n) for n in range(24)]
    any_size = [tf.TensorSpec([None, SMALL_DIM]), tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int64)]
    call = tf.function(lambda x, num_samples, seed: batched(x, num_samples, seed), any_size, autograph=False)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        tensors = [{n: tf.constant(v) for n, v in inputs.items()} for _, inputs in requests]
        answers = list(pool.map(lambda inputs: [value.numpy() for value in call(**inputs)], tensors))
    for alone, (*answer, _) in zip(through_python(small_folder, requests), answers, strict=True):
        assert_same_bits(alone, dict(zip(SCORES, answer, strict=True)))
    assert max(int(size[0]) for *_, size in answers) > 1  # or nothing was joined


def test_a_bad_row_gets_nan_and_a_status_and_its_neighbours_nothing(exported, images):
    model, folder = exported
    x, k = images(7), np.array([60, 0, -3, 50_001, 60, 60, 50_000])
    (good,) = through_python(folder, [scores_request(x, 60)])
    x[4, 2], x[5, 0] = np.nan, np.inf
    (answer,) = through_python(folder, [scores_request(x, k)])
    np.testing.assert_array_equal(answer["status"], [0, 2, 2, 2, 1, 1, 0])
    for name in SCORES[:-2]:
        assert np.isnan(answer[name][1:6]).all()
        assert answer[name][0] == good[name][0]
    x = np.where(np.isfinite(x), x, 1.5).astype(np.float32)  # not a pixel, but a real number
    bad = 0 if model.likelihood_name == "gaussian" else 1
    for outputs in through_python(folder, [(s, {"x": x}) for s in loaded(folder).signatures if s in X_ALONE]):
        np.testing.assert_array_equal(outputs["status"], [0, 0, 0, 0, bad, bad, 0])
        for name, value in outputs.items():
            if name not in ("reliable", "status", "pareto_k"):
                np.testing.assert_array_equal(np.isnan(value).reshape(7, -1).all(1), outputs["status"] != 0)
                assert np.isfinite(value[outputs["status"] == 0]).all()


def test_a_model_whose_scores_are_not_finite_says_so():
    model = small_model(likelihood="gaussian")
    model.generative_network.likelihood_stage.head.loc.bias.assign([1e30] * SMALL_DIM)
    signature = signatures(model, RowSettings(10, 10, "real"))["log_prob_k"]
    answer = through_function(signature, scores_request(binary_images(2), 5))
    np.testing.assert_array_equal(answer["status"], [3, 3])
    assert np.isnan(answer["log_prob"]).all()


# ------------------------------------------------------------------------------------------- what a server cannot load


def test_the_c_api_fails_on_an_export_that_servers_cannot_load(tmp_path):
    """The usual way, a Keras model tracked by a `tf.Module`: Python loads it, a server does not find its variables."""
    model, module = small_model(), tf.Module()
    module.model = model
    module.score = tf.function(
        lambda x: {"x_mean": model(x)}, input_signature=[tf.TensorSpec([None, SMALL_DIM], name="x")], autograph=False
    )
    tf.saved_model.save(module, tmp_path / "m", signatures={"serving_default": module.score})
    request = [("serving_default", {"x": binary_images(2)})]
    assert through_python(tmp_path / "m", request)[0]["x_mean"].shape == (2, SMALL_DIM)
    with pytest.raises(RuntimeError, match=r"Could not find variable|FAILED_PRECONDITION|does not exist"):
        through_c_api(tmp_path / "m", request, tmp_path)


def refused_operations(graph) -> set[str]:
    """Names of operations and attributes that a server would refuse, or that would make scores differ."""
    found = set()
    functions = graph.graph_def.library.function
    for node in [*graph.graph_def.node, *(node for function in functions for node in function.node_def)]:
        # StatefulPartitionedCall and the like call a function that reads variables.
        random = node.op.startswith(("Random", "Multinomial", "StatefulStandard", "StatefulUniform", "Rng"))
        random = random and node.op != "RandomGammaGrad"  # a deterministic function, of TFP's Student-t
        assertion = node.op == "Assert" and "SparseSoftmaxCrossEntropyWithLogits" not in node.name  # there of shapes
        if "PyFunc" in node.op or random or assertion or node.op in ("Print", "PrintV2"):
            found.add(node.op)
        found |= {name for name in node.attr if "Xla" in name}
    return found | {name for function in functions for name in function.attr if "XlaMustCompile" in name}


def test_the_list_of_refused_operations_finds_each(tmp_path):
    module = tf.Module()
    module.generator = tf.random.Generator.from_seed(0)
    functions = {
        "PyFunc": lambda x: tf.numpy_function(lambda a: a, [x], tf.float32),
        "EagerPyFunc": lambda x: tf.py_function(lambda a: a, [x], tf.float32),
        "RandomStandardNormal": lambda x: x + tf.random.normal(tf.shape(x)),
        "Multinomial": lambda x: x + tf.cast(tf.random.categorical(x, 1), tf.float32),
        "RngReadAndSkip": lambda x: x + module.generator.normal([2]),
        "_XlaMustCompile": tf.function(lambda x: 2 * x, jit_compile=True),
    }
    specs = [tf.TensorSpec([None, 2], name="x")]
    named = {name: tf.function(lambda x, f=f: {"y": f(x)}, input_signature=specs) for name, f in functions.items()}
    tf.saved_model.save(module, tmp_path / "m", signatures=named)
    assert set(functions) <= refused_operations(meta_graph(tmp_path / "m"))


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(saved_model, "signatures", lambda *given: {"log_prob_k": signatures(*given)["log_prob_k"]})
    folder = export_saved_model(IWAE(784, (5,), ((20,),)), tmp_path / "m")
    x = binary_images(4, 784)
    peaks = [through_c_api(folder, [scores_request(x, k)], tmp_path)[1] / 1024 for k in (500, 50_000)]
    print(f"peak memory of a process that scores 4 images: {peaks[0]:.0f} MiB at k = 500, {peaks[1]:.0f} at 50,000")
    assert peaks[1] < 1.1 * peaks[0]  # logits of all samples of one image take 150 MiB


@pytest.mark.slow
def test_every_likelihood_is_scored_by_a_server_as_by_python(tmp_path):
    archive, models = keras.export.ExportArchive(), {}  # one for all: each process and each file costs seconds
    own = {name for name, known in declared("likelihood").items() if known.module.startswith("iwae_tf.")}
    for name in own - {"bernoulli", "gaussian", "columns"}:  # the first two are exported above
        levels = 3 if find("likelihood", name).facts.get("needs_levels") else None
        models[name] = IWAE(12, (3,), ((8,),), likelihood=name, levels=levels, seed=1)
    models["columns"] = IWAE(12, (3,), ((8,),), likelihood="columns", columns=TABLE, missing=True, seed=1)
    for name, model in models.items():
        of_model = signatures(model, RowSettings(60, 100, "real"))
        for signature in ("log_prob_k", "sample"):
            archive.add_endpoint(f"{name} {signature}", of_model[signature].function, of_model[signature].inputs)
    archive.write_out(tmp_path / "m", verbose=False)
    assert refused_operations(meta_graph(tmp_path / "m")) == set()
    assert operations.refused_operations(meta_graph(tmp_path / "m")) == []
    x = np.random.default_rng(0).integers(0, 3, (4, 12)).astype(np.float32) / 2  # observations of each of them
    rows = dict.fromkeys(models, x) | {"negative-binomial": 2 * x, "columns": 2 * x}
    rows["columns"][[0, 1, 2], [0, 4, 11]] = np.nan
    requests = [(f"{name} log_prob_k", scores_request(rows[name], 60)[1]) for name in models]
    requests += [(f"{name} sample", {"seed": np.arange(3)}) for name in models]
    answers, _ = through_c_api(tmp_path / "m", requests, tmp_path)
    for (name, model), scores, drawn in zip(models.items(), answers, answers[len(models) :], strict=False):
        np.testing.assert_array_equal(scores["status"], 0, name)
        np.testing.assert_allclose(scores["log_prob"], model.log_likelihood(rows[name], 60), rtol=1e-5, err_msg=name)
        assert np.isfinite(drawn["x"]).all(), name
        assert drawn["x"].shape == (3, 12)
