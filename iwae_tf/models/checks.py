"""Checks of `IWAE`: arguments of `compile` and `fit`, input data, failed assertions of a step, steps per call."""

import contextlib
import re

import keras
import numpy as np
import tensorflow as tf

from iwae_tf.errors import InputError
from iwae_tf.objectives.objective import Objective

BAD_INPUT = "iwae_tf bad input"
BAD_BOUND = "iwae_tf bound not finite"
MAX_STEPS_PER_CALL = 20


def checked_mean(data_mean, data_dim: int) -> list[float]:
    """Returns `data_mean` as a list; raises `InputError` unless it is `data_dim` finite numbers."""
    mean = np.asarray(data_mean, np.float64)
    if mean.shape != (data_dim,) or not np.isfinite(mean).all():
        raise InputError(f"data_mean must be {data_dim} finite numbers, got an array of shape {mean.shape}")
    return mean.tolist()


def check_compile(model, optimizer, objective, jit_compile, other_arguments: dict) -> None:
    """Raises `InputError` for arguments of `compile` that do not fit the model."""
    unused = {"loss", "loss_weights", "metrics", "weighted_metrics"} & other_arguments.keys()
    if unused:
        raise InputError(f"compile() takes objective=, not {sorted(unused)}: the bound is loss and metric")
    if not isinstance(objective, Objective):
        raise InputError(f"objective must be an iwae_tf.objectives.Objective, got {objective!r}")
    objective.check_model(model.latent_units, model.inference_network.stages[0].head.reparameterised)
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


def check_gaussian(model, feature: str, reason: str) -> None:
    """Raises `InputError` unless the model's latent units are Gaussian, as `feature` needs for this `reason`."""
    if not model.gaussian_latents:
        raise InputError(f"{feature} exists for Gaussian units, this model's are {model.latent}: {reason}")


def without_weights(arguments: dict) -> dict:
    """Returns the arguments; raises `InputError` for weights of examples, which Keras would ignore silently."""
    given = [name for name in ("sample_weight", "class_weight") if arguments.get(name) is not None]
    if given:
        raise InputError(f"{given[0]} is not supported: every example counts the same")
    return arguments


def input_requirements(model, came: str) -> str:
    """Returns the message of every error about x: `came` is its shape or its range of values."""
    head = model.likelihood_head
    if head.needs_columns:
        return f"x must be [batch, {model.data_dim}] with {head.support}, got {came}: {head.advice}"
    return (
        f"x must be [batch, {model.data_dim}] with {head.support} (no NaN), got {came}. Reshape images to "
        f"(len(x), -1) and {head.advice}"
    )


def check_size(model, x: tf.Tensor) -> None:
    """Raises `InputError` unless x may be [B, D]."""
    rank = x.shape.rank  # None where a graph was traced for arrays of several ranks
    if rank is not None and (rank != 2 or x.shape[1] not in (None, model.data_dim)):
        raise InputError(input_requirements(model, f"shape {tuple(x.shape)}"))


def checked_rows(model, x) -> tf.Tensor:
    """Returns x as float32 [B, D], checked at once, or in a graph by assertions.

    Raises:
        InputError: x has another size, impossible values, or eagerly no rows.
    """
    x = tf.cast(tf.convert_to_tensor(x), tf.float32)
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
    return _asserted_rows(model, tf.cast(x, tf.float32))


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


def steps_per_call(arguments: dict) -> int:
    """Returns the number of training steps in one call of the compiled step, up to 20: Keras takes time between calls.

    It is 1 where a callback is called for every batch.

    Args:
        arguments: of `fit`, by name.
    """
    callbacks, steps_per_epoch = arguments.get("callbacks"), arguments.get("steps_per_epoch")
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    elif callbacks is not None and not isinstance(callbacks, (list, tuple)):
        callbacks = [callbacks]
    if any(map(_counts_batches, callbacks or [])):
        return 1
    if steps_per_epoch is not None:
        return largest_divisor(steps_per_epoch, MAX_STEPS_PER_CALL)
    x, batch_size = arguments.get("x"), arguments.get("batch_size") or 32
    number = (
        -(-int(len(x) * (1.0 - arguments.get("validation_split", 0.0))) // batch_size) if hasattr(x, "shape") else 0
    )
    if not number:
        return MAX_STEPS_PER_CALL
    # Keras' progress bar counts whole calls: few steps should lie beyond the last batch.
    most = min(number, MAX_STEPS_PER_CALL)
    return min(range(most, most // 2, -1), key=lambda steps: -number % steps)


def largest_divisor(number: int, limit: int) -> int:
    """Returns the largest divisor up to `limit`: otherwise Keras overruns the epoch on infinite datasets."""
    return max(divisor for divisor in range(1, min(number, limit) + 1) if number % divisor == 0)


def _counts_batches(callback) -> bool:
    """Returns True for a callback with a hook for every batch."""
    if isinstance(callback, keras.callbacks.ModelCheckpoint):
        return callback.save_freq != "epoch"
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    methods = [(getattr(callback, hook), getattr(keras.callbacks.Callback, hook)) for hook in hooks]
    return any(getattr(own, "__func__", own) is not plain for own, plain in methods)
