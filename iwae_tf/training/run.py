"""A run from settings to a trained model: data, folder, model, `fit`."""

import atexit
import dataclasses
import math
import shutil
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
from filelock import FileLock

from iwae_tf.adam import Adam
from iwae_tf.config import OutputConfig, RunConfig, WorkersConfig
from iwae_tf.data import Dataset, load
from iwae_tf.data.binarization import binarize_once
from iwae_tf.data.pipeline import steps_per_epoch
from iwae_tf.errors import InputError
from iwae_tf.models.iwae import IWAE
from iwae_tf.objectives import KLAnnealing, Objective, objective_class
from iwae_tf.objectives.registry import check_parameters
from iwae_tf.training import run_folder
from iwae_tf.training.building import build_model, check_levels, take_weights
from iwae_tf.training.callbacks import (
    Checkpoints,
    HistoryFile,
    Interruption,
    ProgressBar,
)
from iwae_tf.training.checkpoints import latest_checkpoint, load_checkpoint, save_checkpoint, state_of
from iwae_tf.training.early_stopping import EarlyStopping
from iwae_tf.training.event_files import EventFiles
from iwae_tf.training.fitting import fit_epochs
from iwae_tf.training.manifest import manifest
from iwae_tf.training.schedule import paper_schedule
from iwae_tf.training.stop_signals import StopSignals
from iwae_tf.training.trained import check_trained
from iwae_tf.training.workers import Workers, gather_workers

NUM_WATCHED = 100  # training images on which event files measure


@dataclasses.dataclass(frozen=True, eq=False)
class Run:
    """What a run works with.

    Attributes:
        config: its settings.
        path: its folder.
        dataset: its images.
        x_valid, x_test: the images that are scored, float32 [N, D], binarised once if the likelihood is Bernoulli.
        model: the compiled model.
        lock: of its folder; released, another process may work there.
        workers: who shares the work.
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
        """Steps of one pass over the training images."""
        return steps_per_epoch(len(self.dataset.x_train), self.config.training.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.training.epochs * self.steps_per_epoch


def start(config: RunConfig, output: OutputConfig, workers_config: WorkersConfig | None = None) -> Run:
    """Loads the data, prepares the folder and builds the model, at its last checkpoint for `resume`.

    Raises:
        InputError: if any setting cannot be used; a folder that holds another run is left as it was.
    """
    if config.training.early_stopping and workers_config and workers_config.strategy == "multiworker":
        raise InputError("--early-stopping works on one host: leave it or --strategy multiworker out")
    workers = gather_workers(workers_config or WorkersConfig(), _shared_settings(config))
    if not workers.is_chief:
        own = _folder_for_this_process()
        output = OutputConfig(output_dir=own, verbose=output.verbose, tensorboard=output.tensorboard)
    path = run_folder.path_of(config, output)
    with workers.strategy.scope():  # where variables are made
        objective = _objective(config)
    objective.check_model(config.model.latent_units, config.model.latent)
    if config.training.init_from and workers.is_chief:
        check_trained(Path(config.training.init_from))
    dataset = load(config.data.dataset, config.data.data_dir)
    if len(dataset.x_test) < 2:
        raise InputError("the test part needs at least 2 images: of one there is no standard error")
    if config.training.early_stopping and not len(dataset.x_valid):
        raise InputError(
            "--early-stopping needs validation images, and there are none: give an x_valid, or leave it out"
        )
    lock = run_folder.prepare(path, output.resume, output.overwrite)
    if output.resume:
        run_folder.check_same_settings(path, config)
    x_valid, x_test = (scored_images(dataset, part, config.model.likelihood) for part in ("valid", "test"))
    with workers.strategy.scope():
        model = build_model(config, dataset)
        run = Run(config, path, lock, dataset, x_valid, x_test, model, workers, output.tensorboard)
        run.model.compile(
            optimizer=_optimizer(config, run.total_steps),
            objective=objective,
            jit_compile={"auto": "auto", "on": True, "off": False}[config.training.jit],
            steps_per_execution=1,  # `fit_epochs` chooses
        )
    checkpoint = latest_checkpoint(path / "checkpoints", report=_warn) if output.resume else None
    if checkpoint:
        load_checkpoint(run.model, checkpoint)
    elif config.training.init_from and workers.is_chief:
        take_weights(run.model, Path(config.training.init_from))
    check_levels(run.model, dataset)
    workers.share_variables(state_of(run.model))
    if not checkpoint:
        run_folder.write_json(path / "config.json", manifest(config, dataset, run.model, run.steps_per_epoch))
        save_checkpoint(run.model, path / "checkpoints")
    return run


def _folder_for_this_process() -> str:
    """Where a worker that is not the chief writes what nobody reads."""
    folder = tempfile.mkdtemp(prefix="iwae-worker-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _shared_settings(config: RunConfig) -> dict:
    """What all workers must have been started with; the data may lie elsewhere on each host."""
    sections = config.to_json()
    sections["data"].pop("data_dir")
    return {name: value for values in sections.values() for name, value in values.items()}


def fit(run: Run, verbose: int = 1) -> float:
    """Trains to the end of the run and writes `history.csv`, checkpoints and `model.keras`; returns the seconds."""
    first_step = run.model.step
    history = HistoryFile(run.path / "history.csv", first_step)
    bar = ProgressBar(run.total_steps, run.steps_per_epoch, first_step, verbose)
    stopping = EarlyStopping(run.path, run.config.training.early_stopping or math.inf)
    callbacks = [bar, history, Checkpoints(run.path / "checkpoints")]
    if run.tensorboard:
        callbacks.insert(1, _event_files(run))
    if run.config.training.early_stopping:
        callbacks.insert(1, stopping)
    if run.config.objective.kl_annealing:
        callbacks.append(KLAnnealing(run.config.objective.kl_annealing))
    try:
        with StopSignals() as signals:
            while first_step < run.total_steps and not stopping.stopped:
                fit_epochs(run, first_step, [*callbacks, Interruption(signals)])
                first_step = run.model.step
        if run.config.training.early_stopping:
            stopping.restore(run.model)
    except InputError as error:  # the bound is not finite, or the pixels are no pixels
        raise InputError(f"{error}; {_last_checkpoint(run)}") from None
    except OSError as error:
        raise InputError(f"the run in {run.path} cannot be written ({error}); {_last_checkpoint(run)}") from None
    except KeyboardInterrupt:
        save_checkpoint(run.model, run.path / "checkpoints")
        raise
    finally:
        bar.close()
    seconds = history.seconds
    beside = run.path / "part.keras"
    run.model.save(beside)
    beside.replace(run.path / "model.keras")
    return seconds


def _event_files(run: Run) -> EventFiles:
    x = run.dataset.intensities("train")[:NUM_WATCHED]
    x = binarize_once(x, "train") if run.config.model.likelihood == "bernoulli" else x
    return EventFiles(run.path / "tensorboard", x, run.dataset.image_shape, run.config.training.seed)


def _last_checkpoint(run: Run) -> str:
    folder = run.path / "checkpoints"
    kept = latest_checkpoint(folder) if folder.is_dir() else None
    if kept is None:
        return f"no checkpoint is left in {folder}"
    return f"the last good checkpoint is {kept}, and --resume goes on from it"


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)


def _objective(config: RunConfig) -> Objective:
    check_parameters(config.training.objective, config.objective.given)
    parameters = {name: value for name, value in config.objective.given.items() if name != "kl_annealing"}
    return objective_class(config.training.objective)(config.training.k, **parameters)


def _optimizer(config: RunConfig, total_steps: int) -> keras.optimizers.Optimizer:
    """The paper's Adam."""
    rate = config.training.learning_rate
    if config.training.schedule == "paper":
        rate = paper_schedule(rate, total_steps)
    return Adam(rate, beta_1=0.9, beta_2=0.999, epsilon=1e-4)


def scored_images(dataset: Dataset, part: str, likelihood: str) -> np.ndarray:
    """The images of a part as they are scored, float32 [N, D]: binarised once if the likelihood is Bernoulli."""
    x = dataset.intensities(part)
    return binarize_once(x, part) if likelihood == "bernoulli" else x
