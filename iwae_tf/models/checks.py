"""Checks of `IWAE`: arguments of `compile` and `fit`, input data, failed assertions of a step, steps per call."""

import contextlib
import inspect
import math
import os
import re
import warnings
import weakref

import h5py
import keras
import numpy as np
import tensorflow as tf

from iwae_tf.data.files import one_line
from iwae_tf.distributions.gaussian import StandardNormal
from iwae_tf.errors import InputError, finite_number, positive_integer
from iwae_tf.memory import check_training
from iwae_tf.objectives.objective import Objective

BAD_INPUT = "iwae_tf bad input"
BAD_BOUND = "iwae_tf bound not finite"
MAX_STEPS_PER_CALL = 20
MAX_SCALE = 65_535  # of 16-bit grey values
# Objective with a state -> a weak reference to the model that was compiled with it.
LEARNED_WITH: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def checked_mean(data_mean, data_dim: int) -> list[float]:
    """Returns `data_mean` as a list; raises `InputError` unless it is `data_dim` finite numbers."""
    mean = np.asarray(data_mean, np.float64)
    if mean.shape != (data_dim,) or not np.isfinite(mean).all():
        found = f"an array of shape {mean.shape}" if mean.shape != (data_dim,) else "NaN or infinity"
        raise InputError(f"data_mean must be {data_dim} finite numbers, got {found}")
    return mean.tolist()


def checked_scale(scale, columns) -> float:
    """Returns `scale` as a float; raises `InputError` unless it is an integer in range, and 1 with columns."""
    scale = finite_number("scale", scale)
    if not 1.0 <= scale <= MAX_SCALE or scale != int(scale) or (columns and scale != 1.0):
        raise InputError(f"scale must be an integer from 1 to {MAX_SCALE}, and 1 with columns, got {scale:g}")
    return scale


def one_for_each(log_likelihood, num_rows: int) -> np.ndarray:
    """Returns `log_likelihood` as float64 [N]; raises `InputError` unless it is one finite number for each row."""
    values = np.asarray(log_likelihood, np.float64)
    if values.shape != (num_rows,) or not np.isfinite(values).all():
        raise InputError(
            f"log_likelihood must be one finite number for each of the {num_rows} rows of x, got an array of shape "
            f"{values.shape}"
        )
    return values


def check_latents(model, h) -> None:
    """Raises `InputError` unless h is a tuple whose first entry can be the layer nearest x, [..., H_1]."""
    first, units = h[0] if isinstance(h, (tuple, list)) and len(h) else None, model.latent_units[0]
    if first is None or tuple(tf.convert_to_tensor(first).shape)[-1:] != (units,):
        found = f"type {type(h).__name__}" if first is None else f"h[0] of shape {tuple(np.shape(first))}"
        raise InputError(f"h must be a tuple of arrays, one for each layer, with h[0] [..., {units}], got {found}")


def check_standard_prior(model) -> None:
    """Raises `InputError` for a prior without a closed KL divergence."""
    if not isinstance(model.generative_network.prior, StandardNormal):
        raise InputError("the KL divergence has a closed form for the prior N(0, I) alone: use 'elbo'")


def check_compile(model, optimizer, objective, jit_compile, other_arguments: dict) -> None:
    """Raises `InputError` for arguments of `compile` that do not fit the model."""
    unused = {"loss", "loss_weights", "metrics", "weighted_metrics"} & other_arguments.keys()
    if unused:
        raise InputError(f"compile() takes objective=, not {sorted(unused)}: the bound is loss and metric")
    if not isinstance(objective, Objective):
        raise InputError(f"objective must be an iwae_tf.objectives.Objective, got {objective!r}")
    objective.check_model(model.latent_units, model.inference_network.stages[0].head.reparameterised)
    if objective.needs_standard_prior:
        check_standard_prior(model)
    learned_with = LEARNED_WITH.get(objective) if objective.state is not None else None
    if learned_with is not None and learned_with() is not model:
        raise InputError(
            f"the objective {objective.name} has learned with another model: give each model an objective of its own"
        )
    if jit_compile not in (True, False, "auto"):
        raise InputError(f"jit_compile must be True, False or 'auto', got {jit_compile!r}")
    if jit_compile is True and model.distributed:
        raise InputError("XLA does not compile a step of several replicas: leave jit_compile (--jit) at 'auto' or off")
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer) or getattr(optimizer, "loss_scale_factor", None):
        raise InputError(
            "the optimizer expects the gradient of a scaled loss, and float16 layers need none here: give it "
            "without the scale"
        )

    if model.distributed:
        _check_replicated(model, optimizer)


def _check_replicated(model, optimizer) -> None:
    """Raises `InputError` for an optimizer that would not take the steps of one device on several replicas."""
    # Each replica would clip its share of the gradient, and accumulate or average by itself.
    names = ("clipnorm", "global_clipnorm", "clipvalue", "gradient_accumulation_steps", "use_ema")
    given = [name for name in names if getattr(optimizer, name, None)]
    if given:
        raise InputError(f"{given[0]} of the optimizer is not supported on several replicas: it works on their shares")
    in_scope = model.distribute_strategy.extended.variable_created_in_scope
    if not all(in_scope(variable.value) for variable in optimizer.variables):
        raise InputError(
            "the optimizer was made outside the strategy's scope; make it, and compile, inside `strategy.scope()`"
        )


def check_trainable(model, compiled_for: tuple[int, ...]) -> None:
    """Raises `InputError` if no weight can be trained, or others than when the model was compiled."""
    if tuple(map(id, model.trainable_variables)) != compiled_for:
        raise InputError(
            "layers were frozen or unfrozen after compile(), so its optimizer has other weights: compile again"
        )
    if not compiled_for:
        raise InputError("every layer is frozen: set trainable = True on one, and compile again")


def check_objective_state(model, path) -> None:
    """Raises `InputError` if an HDF5 file lacks what the objective learns; warns if it has that of another."""
    if not (str(path).endswith(".weights.h5") and os.path.isfile(path)):
        return  # Keras reads it, or says what is wrong
    with h5py.File(path) as file:
        stored = "objective_state" in file
    if model.objective_state and not stored:
        raise InputError(
            f"{path} holds nothing that the objective {model.objective.name} has learned: load the weights before "
            "compile(), and it starts anew"
        )
    if stored and not model.objective_state:
        warnings.warn(f"{path}: what its objective has learned is left out", stacklevel=3)


def check_disjoint(inference_network, generative_network) -> None:
    """Raises `InputError` if the networks share a weight, whose gradient would be that of one of them."""
    of_inference = {id(variable) for variable in inference_network.variables}
    shared = [variable.path for variable in generative_network.variables if id(variable) in of_inference]
    if shared:
        raise InputError(f"encoder and decoder share the weight {shared[0]}: give each layers of its own")


def check_gaussian(model, feature: str, reason: str) -> None:
    """Raises `InputError` unless the model's latent units are Gaussian, as `feature` needs for this `reason`."""
    if not model.gaussian_latents:
        raise InputError(f"{feature} exists for Gaussian units, this model's are {model.latent}: {reason}")


def without_weights(arguments: dict) -> None:
    """Raises `InputError` for weights of examples, which Keras would ignore silently."""
    given = [name for name in ("sample_weight", "class_weight") if arguments.get(name) is not None]
    if given:
        raise InputError(f"{given[0]} is not supported: every example counts the same")


def input_requirements(model, came: str) -> str:
    """Returns the message of every error about x: `came` is its shape or its range of values."""
    head = model.likelihood_head
    if head.needs_columns:
        return f"x must be [batch, {model.data_dim}] with {head.support}, got {came}: {head.advice}"
    return (
        f"x must be [batch, {model.data_dim}] with {head.support} (no NaN), got {came}. Reshape images to "
        f"(len(x), -1) and {head.advice}"
    )


def dense_numbers(x, columns=None):
    """Returns x as a tensor, or as an array of numbers; `tf.data` batches as one tensor.

    Args:
        x: anything that may be rows.
        columns: of the model, or None; a data frame may not have them in another order.

    Raises:
        InputError: x has no rows of numbers, or not in one dense array.
    """
    names, own = [column.name for column in columns or ()], list(getattr(x, "columns", ()))
    if own != names and set(own) == set(names):
        raise InputError(f"x has the columns {own}, and the model takes them as {names}: give x[{names}]")
    if isinstance(x, tf.data.Dataset):
        check_elements(x.element_spec)
        batches = [batch[0] if isinstance(batch, tuple) else batch for batch in x]
        if not batches:
            raise InputError("x is a dataset with no rows")
        return tf.concat(batches, axis=0)
    if isinstance(x, tf.Tensor):
        kind = x.dtype
        if not (kind.is_floating or kind.is_integer or kind.is_bool):
            raise InputError(f"x must be an array of numbers, got a tensor of {kind.name}")
        return x
    if np.ma.isMaskedArray(x):
        raise InputError("x is a masked array, whose mask would be lost: fill it with x.filled(value)")
    if hasattr(x, "toarray") or isinstance(x, (tf.SparseTensor, tf.RaggedTensor)):
        raise InputError(f"x must be a dense array, got {type(x).__name__}: convert it, e.g. with x.toarray()")
    try:
        x = np.asarray(x)
    except (TypeError, ValueError) as error:  # rows of different lengths, a tensor without values
        raise InputError(f"x must be an array of numbers, got {type(x).__name__}: {one_line(error)}") from None
    if x.dtype.kind not in "bifu":
        raise InputError(f"x must be an array of numbers, got dtype {x.dtype}: convert it with x.astype('float32')")
    return x


def check_elements(spec) -> None:
    """Raises `InputError` if the elements of a `tf.data.Dataset` are dictionaries."""
    if isinstance(spec, tuple) and spec:
        spec = spec[0]
    if isinstance(spec, dict):
        names = ", ".join(map(repr, spec))
        raise InputError(f"the elements are dictionaries with {names}: take one, dataset.map(lambda e: e[NAME])")


def checked_arguments(model, method, args: tuple, kwargs: dict) -> dict:
    """Returns the arguments of a method of `keras.Model` by name, x as dense numbers [N, D].

    Raises:
        InputError: there is no x, or none that the method can take, or weights of examples.
    """
    arguments = dict(inspect.signature(method).bind_partial(*args, **kwargs).arguments)
    arguments |= arguments.pop("kwargs", {})
    without_weights(arguments)
    if arguments.get("x") is None:
        raise InputError("x, the data, is missing")
    arguments["x"] = _checked_source(model, arguments["x"], "x")
    if arguments.get("y") is not None and hasattr(arguments["x"], "shape"):
        arguments["y"] = None  # labels, which Keras would convert
    return arguments


def checked_fit(model, arguments: dict) -> dict:
    """Returns the checked arguments of `fit`; raises `InputError` for what cannot be trained on."""
    if isinstance(arguments["x"], tf.data.Dataset):
        arguments.setdefault("shuffle", False)  # Keras would warn that it does not shuffle datasets
    validation = arguments.get("validation_data")
    if isinstance(validation, (tuple, list)):
        if len(validation) > 2:
            without_weights({"sample_weight": validation[2]})
        arguments["validation_data"] = (_checked_source(model, validation[0], "validation_data"), None)
    if arguments.get("validation_split", 0.0) is None:
        del arguments["validation_split"]
    for name in ("steps_per_epoch", "validation_steps", "epochs", "batch_size"):
        if arguments.get(name) is not None:
            positive_integer(name, arguments[name])
    if model.compiled and hasattr(arguments.get("x"), "shape"):
        sizes = model.data_dim, model.latent_units, model.hidden_units
        check_memory(sizes, model.objective, min(arguments.get("batch_size") or 32, len(arguments["x"])))
    return arguments


def check_memory(sizes: tuple, objective, batch_size: int, scored: int = 0) -> None:
    """Calls `check_training` but for a GPU, whose memory may be larger and whose errors end no process."""
    if not tf.config.list_physical_devices("GPU"):
        check_training(sizes, objective, batch_size, scored)


def _checked_source(model, x, name: str):
    """Returns arrays as dense numbers [N, D], and a dataset or generator as it is."""
    if isinstance(x, dict):
        raise InputError(f"{name} is a dictionary with {', '.join(map(repr, x))}: give one of its arrays")
    if isinstance(x, tf.data.Dataset):
        check_elements(x.element_spec)
        return x
    if isinstance(x, keras.utils.PyDataset) or (hasattr(x, "__next__") and not hasattr(x, "shape")) or callable(x):
        return x
    x = flattened(model, dense_numbers(x, model.columns))
    if x.shape[0] == 0:
        raise InputError(f"{name} has no rows, shape {tuple(x.shape)}")
    return x


def flattened(model, x):
    """Returns images [B, H, W] or [B, H, W, C] as rows [B, D], and all else as it is."""
    rank = x.shape.rank if isinstance(x.shape, tf.TensorShape) else len(x.shape)
    if rank is not None and rank > 2 and math.prod(n or 0 for n in x.shape[1:]) == model.data_dim:
        return tf.reshape(x, [-1, model.data_dim]) if tf.is_tensor(x) else x.reshape(-1, model.data_dim)
    return x


def check_size(model, x: tf.Tensor) -> None:
    """Raises `InputError` unless x may be [B, D]."""
    rank = x.shape.rank  # None where a graph was traced for arrays of several ranks
    if rank is not None and (rank != 2 or x.shape[1] not in (None, model.data_dim)):
        raise InputError(input_requirements(model, f"shape {tuple(x.shape)}"))


def checked_rows(model, x) -> tf.Tensor:
    """Returns x as float32 [B, D], checked at once, or in a graph by assertions.

    Raises:
        InputError: x is no dense array of numbers, has another size, impossible values, or eagerly no rows.
    """
    x = flattened(model, tf.cast(dense_numbers(x, model.columns), tf.float32))
    if not tf.executing_eagerly():
        return _asserted_rows(model, x)
    check_size(model, x)
    if x.shape[0] == 0 or not model.likelihood_head.in_support(x):
        raise InputError(input_requirements(model, model.likelihood_head.found(x) if x.shape[0] else "no rows"))
    return x


def checked_batch(model, data) -> tf.Tensor:
    """Returns x of a batch of `fit` or `evaluate` as float32 [B, D], with assertions that hold in a graph."""
    x, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
    without_weights({"sample_weight": sample_weight})
    return _asserted_rows(model, flattened(model, tf.cast(x, tf.float32)))


def _asserted_rows(model, x: tf.Tensor) -> tf.Tensor:
    check_size(model, x)
    right_size = tf.equal(tf.rank(x), 2) & tf.equal(tf.shape(x)[-1], model.data_dim)
    with asserted(right_size, [BAD_INPUT, "shape", tf.shape(x)]):
        x = tf.reshape(x, [-1, model.data_dim])  # a generator's shape may be unknown until here
    valid = model.likelihood_head.in_support(x)
    with asserted(valid, [BAD_INPUT, "values from, to", tf.reduce_min(x), tf.reduce_max(x)]):
        return tf.identity(x)


def asserted(condition, message):
    """Returns a context whose tensors are computed only after `condition` was found true, in a graph as eagerly."""
    check = tf.debugging.Assert(condition, message)
    return tf.control_dependencies([] if check is None else [check])


@contextlib.contextmanager
def readable_errors(model):
    """Turns the failed assertions of a step into errors that say what came and what to do."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        message = error.message
        if BAD_BOUND in message:
            raise InputError(
                f"the bound or its gradient is not finite at step {model.step}, which was not "
                "taken; a smaller learning rate is the usual remedy"
            ) from None
        if BAD_INPUT in message:
            came = re.sub(r"[][\s]|b?'", " ", message.split(BAD_INPUT, 1)[1].split("{{node")[0])  # graph or eager form
            raise InputError(input_requirements(model, " ".join(came.split()))) from None
        raise


class StepsPerCall:
    """Sets the number of steps that Keras takes in a call, `steps_per_execution`, with the functions compiled for it.

    Keras compiles its steps of training, evaluation and prediction for the number at that time. It keeps them when the
    number changes, and then feeds them another number of batches.

    Args:
        usual: the number outside `fit`.

    Attributes:
        of_fit: the number in the last `fit` that chose one; 0 before.
    """

    def __init__(self, usual: int):
        self.usual, self.of_fit, self._functions = usual, 0, {}

    @contextlib.contextmanager
    def __call__(self, model, number: int):
        before = model.steps_per_execution
        self._change(model, number)
        try:
            yield
        finally:
            self._change(model, before)

    def _change(self, model, number: int) -> None:
        names = ("train_function", "test_function", "predict_function")
        if number != model.steps_per_execution:
            self._functions[model.steps_per_execution] = {name: getattr(model, name) for name in names}
            model.steps_per_execution = number
            for name, function in self._functions.get(number, dict.fromkeys(names)).items():
                setattr(model, name, function)


def steps_per_call(arguments: dict, compiled: int = 0) -> int:
    """Returns the number of training steps in one call of the compiled step, up to 20: Keras takes time between calls.

    It is 1 where a callback is called for every batch.

    Args:
        arguments: of `fit`, by name.
        compiled: steps in a call of the last `fit`, which stay for another array if they are enough: compiling others
            takes 1.5 s.
    """
    callbacks = arguments.get("callbacks")
    asked = [arguments[name] for name in ("steps_per_epoch", "validation_steps") if arguments.get(name) is not None]
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    elif callbacks is not None and not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    if any(map(counts_batches, callbacks or [])):
        return 1
    if asked:
        return largest_divisor(math.gcd(*asked), MAX_STEPS_PER_CALL)
    x, batch_size = arguments.get("x"), arguments.get("batch_size") or 32
    number = (
        -(-int(len(x) * (1.0 - arguments.get("validation_split", 0.0))) // batch_size) if hasattr(x, "shape") else 0
    )
    if not number:
        return MAX_STEPS_PER_CALL
    # Keras' progress bar counts whole calls: few steps should lie beyond the last batch.
    most = min(number, MAX_STEPS_PER_CALL)
    if compiled > most // 2:
        return compiled
    return min(range(most, most // 2, -1), key=lambda steps: -number % steps)


def largest_divisor(number: int, limit: int) -> int:
    """Returns the largest divisor up to `limit`: otherwise Keras overruns the epoch on infinite datasets."""
    return max(divisor for divisor in range(1, min(number, limit) + 1) if number % divisor == 0)


def counts_batches(callback) -> bool:
    """Returns True for a callback of Keras or of a user with a hook for every batch; the package's may skip some."""
    if type(callback).__module__.startswith("iwae_tf."):
        return False
    if isinstance(callback, keras.callbacks.ModelCheckpoint):
        return callback.save_freq != "epoch"
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    methods = [(getattr(callback, hook), getattr(keras.callbacks.Callback, hook)) for hook in hooks]
    return any(getattr(own, "__func__", own) is not plain for own, plain in methods)
