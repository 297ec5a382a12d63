"""A run from settings to a trained model: data, folder, model, `fit`."""

import atexit
import dataclasses
import functools
import math
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
from filelock import FileLock

from iwae_tf.config import OutputConfig, RunConfig, WorkersConfig
from iwae_tf.data import Dataset
from iwae_tf.data.dataset import SPLITS
from iwae_tf.data.pipeline import steps_per_epoch, training_batches
from iwae_tf.declarations import find
from iwae_tf.errors import InputError
from iwae_tf.files import atomic_write
from iwae_tf.models.checks import MAX_STEPS_PER_CALL, check_memory, counts_batches, largest_divisor
from iwae_tf.models.iwae import IWAE
from iwae_tf.objectives import Objective, build_objective
from iwae_tf.training import building, run_folder
from iwae_tf.training.callbacks import Checkpoints, EarlyStopping, HistoryFile, ProgressBar, StopSignals, epochs_in
from iwae_tf.training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint, state_of
from iwae_tf.training.event_files import EventFiles
from iwae_tf.training.workers import Workers, gather_workers

VALIDATION_BATCH = 100
NUM_WATCHED = 100  # training rows that event files measure


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """A run in its folder.

    Attributes:
        config: its settings.
        path: its folder.
        dataset: its rows.
        x_valid, x_test: the rows that are scored, float32 [N, D], binarised once if the likelihood needs it.
        model: the compiled model.
        lock: of its folder; once released, another process may work there.
        workers: the processes and devices that share the work.
        tensorboard: whether event files are written.
    """

    config: RunConfig
    path: Path
    lock: FileLock
    dataset: Dataset
    x_valid: np.ndarray
    x_test: np.ndarray
    model: IWAE
    workers: Workers
    tensorboard: bool = False

    def close(self) -> None:
        """Releases the folder."""
        self.lock.release()

    @property
    def steps_per_epoch(self) -> int:
        """Steps of one pass over the training rows."""
        return steps_per_epoch(len(self.dataset.x_train), self.config.training.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.training.epochs * self.steps_per_epoch


def start(config: RunConfig, output: OutputConfig, workers_config: WorkersConfig | None = None) -> Run:
    """Loads the data, prepares the folder and builds the model; `resume` restores its last checkpoint.

    Raises:
        InputError: if a setting cannot be used; a folder that holds another run is left as it was.
    """
    workers_config, training = workers_config or WorkersConfig(), config.training
    if training.early_stopping and workers_config.strategy == "multiworker":
        raise InputError("--early-stopping works on one host: leave it or --strategy multiworker out")
    shared = config.to_json()
    shared["data"].pop("data_dir")  # the data may be in another folder on each host
    workers = gather_workers(workers_config, shared)
    if not workers.is_chief:
        folder = tempfile.mkdtemp(prefix="iwae-worker-")  # this worker's files are deleted when its process ends
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        output = dataclasses.replace(output, output_dir=folder, resume=False, overwrite=False)
    path = run_folder.path_of(config, output)
    with workers.strategy.scope():  # an objective may have variables
        objective = checked_objective(config)
    takes_weights = training.init_from and workers.is_chief and not output.resume  # a checkpoint holds what was taken
    if takes_weights:
        run_folder.check_trained(Path(training.init_from))
        if path.resolve() == Path(training.init_from).resolve():
            raise InputError(f"--init-from {path} is the output folder, which would replace it: give another one")
    dataset = building.load_data(vars(config.data))
    if len(dataset.x_test) < 2:
        raise InputError("the test split needs at least 2 rows: one row gives no standard error")
    if training.early_stopping and not len(dataset.x_valid):
        raise InputError("--early-stopping needs validation rows, and the data have none: add x_valid, or leave it out")
    config = building.resolved(config, dataset)
    check_sizes(config, dataset, objective)
    if workers.index is not None:
        workers.check_same(building.checksums(dataset), "data: give all the same rows in the same order")
    start = None  # the run as in which the columns of a table are standardised
    if training.init_from and workers.is_chief:
        start = path if output.resume else Path(training.init_from)
    with workers.strategy.scope():
        model = building.build_model(config, dataset, start, workers.same_numbers)
    for split in SPLITS if model.levels is not None or model.columns else ():
        if len(x := dataset.intensities(split)):
            try:
                model.checked(x)
            except InputError as error:
                raise InputError(f"{dataset.source}, {split} split: {error}") from None
    x_valid, x_test = (building.scored_images(dataset, split, config.model.likelihood) for split in ("valid", "test"))
    taken = building.take_weights(model, Path(training.init_from)) if takes_weights else None
    lock = run_folder.prepare(path, output.resume, output.overwrite)  # after all checks of the data and the model
    run = Run(config, path, lock, dataset, x_valid, x_test, model, workers, output.tensorboard)
    try:
        _prepare_state(run, objective, output.resume, taken)
    except BaseException:
        run.close()
        raise
    return run


def checked_objective(config: RunConfig) -> Objective:
    """Returns the objective of a run; raises `InputError` if it does not take its settings or the model."""
    objective = build_objective(config.training.objective, config.training.k, config.objective.given)
    latent = find("latent", config.model.latent)
    objective.check_model(config.model.latent_units, latent.facts["reparameterised"])
    return objective


def check_sizes(config: RunConfig, dataset: Dataset, objective: Objective) -> None:
    """Raises `InputError` if a step of the run does not fit into the memory."""
    sizes = dataset.data_dim, config.model.latent_units, config.model.hidden_units
    rows = (min(config.training.batch_size, len(dataset.x_train)), min(VALIDATION_BATCH, len(dataset.x_valid)))
    check_memory(sizes, objective, *rows)


def _prepare_state(run: Run, objective, resume: bool, taken: str | None) -> None:
    """Compiles the model, sets it to the last checkpoint or to its start, and writes `config.json`.

    `taken` is the checksum of the weights that the model has from another run.
    """
    config, training, path, model, workers = run.config, run.config.training, run.path, run.model, run.workers
    stored = run_folder.read_json(path / "config.json") if resume else {}
    if resume:
        run_folder.check_same_settings(path, config)
        building.check_same_data(stored["data"], run.dataset)
    with workers.strategy.scope():
        model.compile(
            optimizer=building.build_optimizer(config, run.total_steps),
            objective=objective,
            jit_compile={"auto": "auto", "on": True, "off": False}[training.jit],
            steps_per_execution=1,  # `_fit_epochs` chooses
        )
    checkpoint = None
    if resume:
        taken = stored["training"].get("init_from_model")
        report = functools.partial(print, "warning:", file=sys.stderr)
        checkpoint = latest_checkpoint(path / "checkpoints", report)
        if not checkpoint and ((path / "model.keras").is_file() or epochs_in(path / "history.csv")):
            raise InputError(
                f"no checkpoint is left in {path / 'checkpoints'}, so training would start again from step 0: delete "
                "the run to do so, train in another folder, or score the model by evaluate"
            )
    if checkpoint:
        load_checkpoint(model, checkpoint)
    elif resume and training.init_from and workers.is_chief:
        taken = building.take_weights(model, Path(training.init_from))
    workers.share_variables(state_of(model))
    if not checkpoint or stored["training"]["epochs"] < training.epochs:
        content = building.manifest(config, run.dataset, model, run.steps_per_epoch, taken)
        run_folder.write_json(path / "config.json", content)
    else:
        run_folder.record_places(path, config)
    if not checkpoint:
        save_checkpoint(model, path / "checkpoints")


def fit(run: Run, verbose: int = 1, extra: Sequence[keras.callbacks.Callback] = ()) -> float:
    """Trains to the end of the run, writes `history.csv`, checkpoints and `model.keras`; returns the seconds.

    Args:
        run: the run.
        verbose: 0 for no progress bar.
        extra: callbacks of the user; one that sets `model.stop_training` ends the training.
    """
    training, first_step = run.config.training, run.model.step
    history = HistoryFile(run.path / "history.csv", first_step, run.steps_per_epoch)
    bar = ProgressBar(run.total_steps, run.steps_per_epoch, first_step, verbose)
    stopping = EarlyStopping(run.path, training.early_stopping or math.inf)
    signals = StopSignals()
    callbacks = [bar, history, *extra, Checkpoints(run.path / "checkpoints", signals)]  # which saves what extra changes
    if run.tensorboard:
        x = building.scored_images(run.dataset, "train", run.config.model.likelihood, NUM_WATCHED)
        shape = None if run.dataset.columns else run.dataset.picture_shape
        callbacks.insert(1, EventFiles(run.path / "tensorboard", x, shape, training.seed))
    if training.early_stopping:
        callbacks.insert(1, stopping)
    try:
        with signals:
            while first_step < run.total_steps and not stopping.stopped:
                _fit_epochs(run, first_step, callbacks, any(map(counts_batches, extra)))
                first_step = run.model.step
                if run.model.stop_training:
                    break
        if training.early_stopping:
            stopping.restore(run.model)
        seconds = history.seconds
        with atomic_write(run.path / "model.keras") as temporary:
            run.model.save(temporary)
    except InputError as error:  # the bound is not finite, or the pixels are none that the likelihood can observe
        raise InputError(f"{error}; {_last_checkpoint(run)}") from None
    except OSError as error:
        raise InputError(
            f"the run in {run.path} cannot be written ({error}); {_last_checkpoint(run)}, which --resume continues"
        ) from None
    except KeyboardInterrupt:
        if run.model.step % run.steps_per_epoch or run.model.step == history.last_step:
            save_checkpoint(run.model, run.path / "checkpoints")  # else the epoch, whose line is missing, is repeated
        raise
    finally:
        bar.bar.close()
    return seconds


def _fit_epochs(run: Run, first_step: int, callbacks: list, one_by_one: bool) -> None:
    """Fits from a step to the end of the run, or to the end of the epoch if the step is inside one.

    With `one_by_one` a call takes one step, so that callbacks see every batch.
    """
    training, steps = run.config.training, run.steps_per_epoch
    epoch, done = divmod(first_step, steps)
    length, last_epoch = (steps - done, epoch + 1) if done else (steps, training.epochs)
    if done:  # `fit` would reset the running bound of the epoch, which the checkpoint restored
        running = [(variable, variable.numpy()) for variable in run.model.bound_tracker.variables]
        restored = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: [variable.assign(value) for variable, value in running]
        )
        callbacks = [restored, *callbacks]
    # Keras takes one step per call with several replicas.
    most = 1 if one_by_one or run.model.distributed else MAX_STEPS_PER_CALL
    binarised = building.binarised(run.dataset, run.config.model.likelihood)
    with run.model.steps_in_a_call(largest_divisor(length, most)):
        run.model.fit(
            training_batches(run.dataset, training.batch_size, training.seed, first_step, binarised),
            epochs=last_epoch,
            initial_epoch=epoch,
            steps_per_epoch=length,
            validation_data=(run.x_valid, None) if len(run.x_valid) else None,
            validation_batch_size=VALIDATION_BATCH,
            shuffle=False,  # the batches come shuffled
            callbacks=callbacks,
            verbose=0,
        )


def _last_checkpoint(run: Run) -> str:
    folder = run.path / "checkpoints"
    kept = latest_checkpoint(folder) if folder.is_dir() else None  # the folder may have been removed under the run
    if kept is None:
        return f"no checkpoint is left in {folder}"
    return f"the last good checkpoint is {kept}"
