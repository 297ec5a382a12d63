"""How many training steps one call of the compiled step takes; what Keras does between calls takes time as well."""

import keras

MOST_STEPS = 20


def steps_in_a_call(arguments: dict) -> int:
    """Up to 20; 1 where a callback is called for every batch.

    Args:
        arguments: of `fit`, by name.
    """
    callbacks, steps_per_epoch = arguments.get("callbacks"), arguments.get("steps_per_epoch")
    if callbacks is not None and any(map(_counts_batches, _listed(callbacks))):
        return 1
    if steps_per_epoch is not None:
        return largest_divisor(steps_per_epoch, MOST_STEPS)
    number = _batches_of_an_array(arguments)
    if not number:
        return MOST_STEPS
    # Keras' bar counts whole calls: few steps are to lie beyond the last batch.
    most = min(number, MOST_STEPS)
    return min(range(most, most // 2, -1), key=lambda steps: -number % steps)


def largest_divisor(number: int, limit: int) -> int:
    """Steps that Keras takes in one call have to divide the epoch, or of data without end it takes some too many."""
    return max(divisor for divisor in range(1, min(number, limit) + 1) if number % divisor == 0)


def _batches_of_an_array(arguments: dict) -> int | None:
    """How many batches `fit` makes of x; None where x is no array."""
    x, batch_size = arguments.get("x"), arguments.get("batch_size") or 32
    if not hasattr(x, "shape"):
        return None
    return -(-int(len(x) * (1.0 - arguments.get("validation_split", 0.0))) // batch_size)


def _listed(callbacks) -> list:
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks.callbacks
    return list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]


def _counts_batches(callback) -> bool:
    if isinstance(callback, keras.callbacks.ModelCheckpoint):
        return callback.save_freq != "epoch"
    hooks = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
    methods = [(getattr(callback, hook), getattr(keras.callbacks.Callback, hook)) for hook in hooks]
    return any(getattr(own, "__func__", own) is not plain for own, plain in methods)
