"""One call of `fit` for a run, from the step that it stands at."""

from iwae_tf.data.pipeline import training_batches
from iwae_tf.models.steps_in_a_call import MOST_STEPS, largest_divisor
from iwae_tf.training.callbacks import RestoredBound


def fit_epochs(run, first_step: int, callbacks: list) -> None:
    """Fits to the end of the run, or of the epoch if the first step is inside one.

    Args:
        run: a `Run`.
        first_step: the step that it stands at.
        callbacks: of Keras.
    """
    training, steps = run.config.training, run.steps_per_epoch
    epoch, done = divmod(first_step, steps)
    length, last_epoch = (steps - done, epoch + 1) if done else (steps, training.epochs)
    if done:
        callbacks = [RestoredBound(run.model.bound_tracker), *callbacks]
    most = 1 if run.model.distributed else MOST_STEPS  # Keras takes one step at a time over replicas
    run.model.steps_per_execution = largest_divisor(length, most)
    run.model.make_train_function(force=True)
    binarized = run.config.model.likelihood == "bernoulli"
    run.model.fit(
        training_batches(run.dataset, training.batch_size, training.seed, first_step, binarized),
        epochs=last_epoch,
        initial_epoch=epoch,
        steps_per_epoch=length,
        validation_data=(run.x_valid, None) if len(run.x_valid) else None,
        validation_batch_size=100,
        shuffle=False,  # the batches come shuffled
        callbacks=callbacks,
        verbose=0,
    )
