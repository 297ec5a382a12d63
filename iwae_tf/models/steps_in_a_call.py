"""How many training steps one call of the compiled step takes; what Keras does between calls takes time as well."""

import keras

MOST_STEPS = 20


def steps_in_a_call(callbacks, steps_per_epoch: int | None) -> int:
    """Up to 20; 1 where a callback is called for every batch.

    Args:
        callbacks: as `fit` gets them.
        steps_per_epoch: None where the data ends by itself.
    """
    if callbacks is not None and any(map(_counts_batches, _listed(callbacks))):
        return 1
    return MOST_STEPS if steps_per_epoch is None else largest_divisor(steps_per_epoch, MOST_STEPS)


def largest_divisor(number: int, limit: int) -> int:
    """Steps that Keras takes in one call have to divide the epoch, or of data without end it takes some too many."""
    return max(divisor for divisor in range(1, min(number, limit) + 1) if number % divisor == 0)


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
