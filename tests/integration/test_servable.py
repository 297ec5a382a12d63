"""What a TensorFlow Serving endpoint does with an export: load it without Python, warm it up, batch, score."""

import concurrent.futures

import numpy as np
import pytest
import tensorflow as tf
from reference import log_mean_exp
from served import assert_same_bits, meta_graph, reference_log_weights, scores_request, through_c_api, through_python
from small_models import SMALL_DIM, binary_images, small_model
from tensorflow_serving.apis import prediction_log_pb2

from iwae_tf import IWAE
from iwae_tf.serving import export_saved_model
from iwae_tf.serving.warmup import BATCH_SIZES

SCORES = ("log_prob", "elbo", "standard_error", "effective_sample_size", "pareto_k", "status")
SIGNATURES = ("serving_default", "log_prob_k", "encode", "reconstruct", "sample")


def of_every_signature(x):
    seeds = np.array([0, -1, 2**62], np.int64)
    plain = {"x": x}
    return [
        ("serving_default", plain),
        scores_request(x, [1, 50, 1001], seeds),
        ("encode", plain),
        ("reconstruct", plain),
        ("sample", {"seed": seeds}),
    ]


@pytest.fixture(scope="module", params=["one layer", "two layers", "gaussian"])
def exported(request, tmp_path_factory):
    """A model with mild weights, and its export."""
    options = {
        "one layer": {"layers": 1},
        "two layers": {"layers": 2},
        "gaussian": {"layers": 2, "likelihood": "gaussian"},
    }
    model = small_model(gain=1.5, **options[request.param])
    folder = tmp_path_factory.mktemp("served") / "small"
    return model, export_saved_model(model, folder, num_samples=700)


def test_a_process_without_tensorflow_python_gives_the_bits_of_python(exported, tmp_path):
    _, folder = exported
    requests = of_every_signature(binary_images(3))
    served, _ = through_c_api(folder, requests, tmp_path)
    for left, right in zip(served, through_python(folder, requests), strict=True):
        assert_same_bits(left, right)
        assert all(
            np.isfinite(value).all() for name, value in left.items() if name not in ("standard_error", "pareto_k")
        )


def test_signatures_have_the_documented_names_and_a_batch_axis_on_everything(exported):
    model, folder = exported
    definitions = {k: v for k, v in meta_graph(folder).signature_def.items() if not k.startswith("__")}
    assert set(definitions) == set(SIGNATURES)
    layers = {f"{name}_{layer + 1}" for layer in range(len(model.latent_units)) for name in ("loc", "scale")}
    outputs = {
        "serving_default": set(SCORES),
        "log_prob_k": set(SCORES),
        "encode": {*layers, "status"},
        "reconstruct": {"x_mean", "status"},
        "sample": {"x_mean", "x"},
    }
    for name, definition in definitions.items():
        assert set(definition.outputs) == outputs[name]
        inputs = {"log_prob_k": {"x", "num_samples", "seed"}, "sample": {"seed"}}.get(name, {"x"})
        assert set(definition.inputs) == inputs
        for info in (*definition.inputs.values(), *definition.outputs.values()):
            assert info.tensor_shape.dim[0].size == -1


def test_scores_are_those_of_the_reference(exported):
    model, folder = exported
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


def test_encode_and_reconstruct_are_the_models(exported):
    model, folder = exported
    x = binary_images(3)
    encoded, reconstructed = through_python(folder, [("encode", {"x": x}), ("reconstruct", {"x": x})])
    for number, layer in enumerate(model.encode(x), start=1):
        # The same float32 arithmetic on one row at a time.
        np.testing.assert_allclose(encoded[f"loc_{number}"], layer.loc, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(encoded[f"scale_{number}"], layer.scale, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(reconstructed["x_mean"], model.reconstruct(x), rtol=1e-4, atol=1e-5)


def test_samples_are_drawn_from_the_model_each_from_its_own_seed(exported):
    model, folder = exported
    seeds = np.arange(4000, dtype=np.int64)
    drawn, again = through_python(folder, [("sample", {"seed": s}) for s in (seeds, seeds[[7, 3, 7]])])
    assert_same_bits({name: value[[7, 3, 7]] for name, value in drawn.items()}, again)
    expected, difference = model.sample(4000, seed=1).numpy(), drawn["x"] - drawn["x_mean"]
    # Means of 4000 draws of 12 pixels: 5 standard errors are passed once in 10^5 tests.
    for left, right in ((drawn["x"], expected), (drawn["x_mean"], expected), (difference, 0.0 * expected)):
        errors = np.sqrt((left.var(0) + right.var(0)) / 4000)
        assert (np.abs(left.mean(0) - right.mean(0)) < 5 * errors).all()
    if model.likelihood_name == "bernoulli":
        assert set(np.unique(drawn["x"])) == {0.0, 1.0}
        assert ((drawn["x_mean"] > 0) & (drawn["x_mean"] < 1)).all()
    else:
        assert (difference.std(0) > 0.1).all()


def test_the_default_signature_is_the_other_one_with_its_numbers_filled_in(exported):
    _, folder = exported
    x = binary_images(3)
    default, explicit = through_python(folder, [("serving_default", {"x": x}), scores_request(x, 700, 0)])
    assert_same_bits(default, explicit)


def test_a_row_has_the_same_bits_alone_permuted_and_padded(exported):
    _, folder = exported
    x, k = binary_images(6), np.array([1, 700, 5, 50, 1200, 51])
    seed = np.arange(6)
    order = np.array([4, 2, 0, 5, 1, 3])
    padded = np.concatenate([np.arange(6), np.full(5, 2)])
    requests = [scores_request(x[rows], k[rows], seed[rows]) for rows in (np.arange(6), order, padded)]
    requests += [scores_request(x[[row]], k[[row]], seed[[row]]) for row in range(6)]
    together, permuted, with_padding, *alone = through_python(folder, requests)
    assert_same_bits({n: v[order] for n, v in together.items()}, permuted)
    assert_same_bits(together, {n: v[:6] for n, v in with_padding.items()})
    assert_same_bits(together, {n: np.concatenate([one[n] for one in alone]) for n in together})


def test_requests_of_sixteen_threads_joined_as_a_server_joins_them_keep_their_bits(exported):
    _, folder = exported
    loaded = tf.saved_model.load(folder)
    sizes = []

    @tf.nondifferentiable_batch_function(
        num_batch_threads=2, max_batch_size=4, batch_timeout_micros=20_000, allowed_batch_sizes=[1, 2, 4]
    )
    def batched(x, num_samples, seed):
        answer = loaded.signatures["log_prob_k"](x=x, num_samples=num_samples, seed=seed)
        return *(answer[name] for name in SCORES), tf.fill(tf.shape(x)[:1], tf.shape(x)[0])

    requests = [scores_request(binary_images(1, seed=n), (1, 5, 50, 900)[n % 4], n)[1] for n in range(48)]
    any_size = [tf.TensorSpec([None, SMALL_DIM]), tf.TensorSpec([None], tf.int32), tf.TensorSpec([None], tf.int64)]
    call = tf.function(lambda x, num_samples, seed: batched(x, num_samples, seed), any_size, autograph=False)
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        tensors = [{n: tf.constant(v) for n, v in request.items()} for request in requests]
        answers = list(pool.map(lambda inputs: [value.numpy() for value in call(**inputs)], tensors))
    for request, (*answer, size) in zip(requests, answers, strict=True):
        (alone,) = through_loaded(loaded, [("log_prob_k", request)])
        assert_same_bits(alone, dict(zip(SCORES, answer, strict=True)))
        sizes.append(int(size[0]))
    assert max(sizes) > 1  # or nothing was joined


def through_loaded(loaded, requests):
    return [
        {n: v.numpy() for n, v in loaded.signatures[s](**{n: tf.constant(v) for n, v in i.items()}).items()}
        for s, i in requests
    ]


def test_a_bad_row_gets_nan_and_a_status_and_its_neighbours_nothing(exported):
    model, folder = exported
    x, k = binary_images(7), np.array([60, 0, -3, 50_001, 60, 60, 50_000])
    good = through_python(folder, [scores_request(x, 60)])[0]
    x[4, 2], x[5, 0] = np.nan, np.inf
    (answer,) = through_python(folder, [scores_request(x, k)])
    np.testing.assert_array_equal(answer["status"], [0, 2, 2, 2, 1, 1, 0])
    for name in SCORES[:-1]:
        assert np.isnan(answer[name][1:6]).all()
        assert answer[name][0] == good[name][0]
    x = np.where(np.isfinite(x), x, 1.5).astype(np.float32)  # no pixel, but a real number
    encode, reconstruct, default = through_python(folder, [(s, {"x": x}) for s in SIGNATURES[2:4] + SIGNATURES[:1]])
    bad = 0 if model.likelihood_name == "gaussian" else 1
    for outputs in (encode, reconstruct, default):
        np.testing.assert_array_equal(outputs["status"], [0, 0, 0, 0, bad, bad, 0])
        for name, value in outputs.items():
            if name not in ("status", "pareto_k"):
                np.testing.assert_array_equal(np.isnan(value).reshape(7, -1).all(1), outputs["status"] != 0)
                assert np.isfinite(value[outputs["status"] == 0]).all()


def test_a_model_whose_scores_are_not_finite_says_so(tmp_path):
    model = small_model(likelihood="gaussian")
    model.generative_network.likelihood_stage.head.loc.bias.assign([1e30] * SMALL_DIM)
    (answer,) = through_python(export_saved_model(model, tmp_path / "m"), [scores_request(binary_images(2), 5)])
    np.testing.assert_array_equal(answer["status"], [3, 3])
    assert np.isnan(answer["log_prob"]).all()


def test_minus_zero_is_zero(exported):
    _, folder = exported
    x = binary_images(2)
    plus, minus = through_python(folder, [scores_request(x, 50), scores_request(np.where(x == 0, -0.0, x), 50)])
    assert_same_bits(plus, minus)


# ------------------------------------------------------------------------------------------- what a server cannot load


def test_the_harness_fails_on_an_export_that_servers_cannot_load(tmp_path):
    """The usual way, a Keras model tracked by a `tf.Module`: Python loads it, a server does not find its variables."""
    model = small_model()
    module = tf.Module()
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
        if "PyFunc" in node.op or random or node.op in ("Assert", "Print", "PrintV2"):
            found.add(node.op)
        found |= {name for name in node.attr if "Xla" in name}
    return found | {name for function in functions for name in function.attr if "XlaMustCompile" in name}


def test_the_graph_has_no_python_no_stateful_random_numbers_no_assertion_and_no_xla(exported):
    assert refused_operations(meta_graph(exported[1])) == set()


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (lambda x, _: tf.numpy_function(lambda a: a, [x], tf.float32), "PyFunc"),
        (lambda x, _: tf.py_function(lambda a: a, [x], tf.float32), "EagerPyFunc"),
        (lambda x, _: x + tf.random.normal(tf.shape(x)), "RandomStandardNormal"),
        (lambda x, _: x + tf.cast(tf.random.categorical(x, 1), tf.float32), "Multinomial"),
        (lambda x, generator: x + generator.normal([2]), "RngReadAndSkip"),
        (tf.function(lambda x, _: 2 * x, jit_compile=True), "_XlaMustCompile"),
    ],
)
def test_the_list_of_refused_operations_finds_each(function, operation, tmp_path):
    module = tf.Module()
    module.generator = tf.random.Generator.from_seed(0)
    signature = tf.function(
        lambda x: {"y": function(x, module.generator)}, input_signature=[tf.TensorSpec([None, 2], name="x")]
    )
    tf.saved_model.save(module, tmp_path / "m", signatures=signature)
    assert operation in refused_operations(meta_graph(tmp_path / "m"))


# ------------------------------------------------------------------------------------------- warm-up, memory


def test_every_warm_up_request_is_answered(exported, tmp_path):
    _, folder = exported
    file = folder / "assets.extra" / "tf_serving_warmup_requests"
    requests, seen = [], []
    for record in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(proto) for name, proto in request.inputs.items()}
        assert request.model_spec.name == "small"
        requests.append((request.model_spec.signature_name, inputs))
        seen.append((request.model_spec.signature_name, *{len(value) for value in inputs.values()}))
    assert sorted(seen) == sorted((name, size) for name in SIGNATURES for size in BATCH_SIZES)
    answers, _ = through_c_api(folder, requests, tmp_path)
    for answer in answers:
        assert (answer.get("status", np.zeros(1)) == 0).all()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_samples(tmp_path):
    folder = export_saved_model(IWAE.one_layer(784), tmp_path / "m")
    x = binary_images(4, 784)
    peaks = [through_c_api(folder, [scores_request(x, k)], tmp_path)[1] / 1024 for k in (500, 50_000)]
    print(f"peak memory of a process that scores 4 images: {peaks[0]:.0f} MiB at k = 500, {peaks[1]:.0f} at 50,000")
    assert peaks[1] < 1.1 * peaks[0]
