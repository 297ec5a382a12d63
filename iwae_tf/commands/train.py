"""Trains an importance weighted autoencoder and estimates log p(x) of the test rows.

Writes a run folder with settings, history, metrics in nats, a score for each test row, model, checkpoints, figures and
a page about them all, report.html. Without --dataset it trains on the handwritten digits of scikit-learn and needs no
network. With --seeds it trains and scores a run for each seed, in folders of their own, and reports means and spreads.
"""

import dataclasses
import shlex
import sys
from pathlib import Path

from iwae_tf import config as settings
from iwae_tf.commands import flags
from iwae_tf.commands.export import export, name_of_run
from iwae_tf.commands.quiet import import_tensorflow, print_line
from iwae_tf.commands.settings_file import add_recipe
from iwae_tf.config import EXPORT_DIR, FIGURE_FORMATS, ExportConfig, OutputConfig, RunConfig, WorkersConfig
from iwae_tf.errors import InputError, exit_code
from iwae_tf.report.record import read_record
from iwae_tf.training.run_folder import path_of, read_trained, recorded
from iwae_tf.training.sweep import Options, Sweep, check_none_failed, run_sweep

# What to do in place of flags of a single run, with --seeds
_INSTEAD = {
    "resume": "leave it out, the same command resumes and keeps finished runs",
    "overwrite": "delete the folders of runs to train them again",
    "export": "python -m iwae_tf export exports a run",
}


def sections() -> tuple[type, ...]:
    """Returns the settings of `RunConfig` in its order, with those that plugins declare."""
    first = (settings.DataConfig, settings.ModelConfig, settings.TrainingConfig)
    return (*first, settings.objective_config(), settings.EvaluationConfig)


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    for section in (*sections(), WorkersConfig, OutputConfig):
        flags.add_settings(parser, section)
    flags.add_figure_format(parser)
    flags.add_plugin(parser)
    flags.add_callback(parser)
    add_recipe(parser)
    flags.add_seeds(parser)


def config_of(arguments) -> RunConfig:
    """Returns the settings of a run that the flags give."""
    own = (flags.settings_from(arguments, section) for section in sections())
    return RunConfig(*own, arguments.plugins, tuple(arguments.callbacks))


def run(arguments) -> int:
    """Trains, evaluates, prints the closing table; returns the exit code."""
    output, workers = (flags.settings_from(arguments, section) for section in (OutputConfig, WorkersConfig))
    config = config_of(arguments)
    if arguments.seeds is not None:
        return _run_seeds(arguments, config, output)
    path = path_of(config, output)
    if output.resume and (path / "config.json").is_file():
        callbacks = dict.fromkeys([*recorded(path, "callbacks"), *config.callbacks])
        config = dataclasses.replace(config, callbacks=tuple(callbacks))
    export_to = Path(EXPORT_DIR) / name_of_run(path) if output.export else None
    import_tensorflow(xla=config.training.jit == "on")
    from iwae_tf.report.page import write_report  # needs TensorFlow
    from iwae_tf.training import run as training
    from iwae_tf.training.callbacks import made_by
    from iwae_tf.training.evaluation import evaluate_training, table
    from iwae_tf.training.workers import worker_loss_errors

    callbacks = made_by(config.callbacks)  # before the folder is touched
    with worker_loss_errors("with --resume"):
        this_run = training.start(config, output, workers)
    try:
        with worker_loss_errors("with --resume"):
            seconds = training.fit(this_run, output.verbose, callbacks)
            metrics = evaluate_training(this_run, seconds, output.verbose, arguments.figure_format)
            if this_run.workers.is_chief:
                write_report([read_record(path)], path / "report.html")
                exported = [export(read_trained(path), export_to, ExportConfig())] if export_to else []
            this_run.workers.agree(0)  # a worker that ends earlier looks like a lost one
    except KeyboardInterrupt as stop:
        command = [word for word in sys.orig_argv if word not in ("--resume", "--overwrite")]
        progress = f"stopped at step {this_run.model.step} of {this_run.total_steps}"
        print(f"\n{progress}; resume with: {shlex.join(command)} --resume")
        return exit_code(stop)
    finally:
        this_run.close()
    if not this_run.workers.is_chief:
        print(f"done; the chief worker wrote the run to {path}")
        return 0
    written = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    print(
        "",
        f"{metrics['dataset']}, {metrics['objective']}, k = {metrics['k']}, {metrics['epochs_done']} epochs, "
        f"{metrics['num_test']} test rows",
        "",
        table(metrics),
        f"training {metrics['train_seconds']:.0f} s, evaluation {metrics['eval_seconds']:.0f} s",
        sep="\n",
    )
    if "best_epoch" in metrics:
        print(f"the model is that of epoch {metrics['best_epoch']}, the best by the validation bound")
    print("written:", *(f"  {file}" for file in written + exported), sep="\n")
    return 0


def _run_seeds(arguments, config: RunConfig, output: OutputConfig) -> int:
    """Trains and evaluates with each seed; `--output-dir` is the folder of the run folders."""
    for name, instead in _INSTEAD.items():
        if getattr(output, name):
            raise InputError(f"--{name} is for a single run, not for --seeds: {instead}")
    path = path_of(config, OutputConfig())
    name = path.name.removesuffix(f"seed{config.training.seed}") + "seeds"
    return run_all(Sweep([config], flags.seeds_of(arguments), Path(output.output_dir or path.parent), name), arguments)


def run_all(wanted: Sweep, arguments) -> int:
    """Finishes the runs of a sweep one after the other, prints the table; returns the exit code."""
    output, workers = (flags.settings_from(arguments, section) for section in (OutputConfig, WorkersConfig))
    if workers.strategy == "multiworker":
        raise InputError(
            "--strategy multiworker trains a single run: give every worker one --seed of python -m iwae_tf train"
        )
    import_tensorflow(xla=wanted.configs[0].training.jit == "on")
    from iwae_tf.report.page import write_report  # needs TensorFlow

    def write_page(path: Path) -> None:
        write_report([read_record(path)], path / "report.html")

    try:
        text, failed = run_sweep(wanted, Options(output, workers, arguments.figure_format, print_line, write_page))
    except KeyboardInterrupt as stop:
        print(f"\nstopped; resume with: {shlex.join(sys.orig_argv)}")
        return exit_code(stop)
    written = [wanted.file(ending) for ending in ("csv", "md", *FIGURE_FORMATS)]
    if text:
        print(f"\n{text}\nwritten: {', '.join(str(path) for path in written if path.exists())}")
    check_none_failed(failed)
    return 0
