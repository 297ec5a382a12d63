"""`train`: one run from flags to results."""

import shlex
import sys
from pathlib import Path

from iwae_tf.commands import flags
from iwae_tf.commands.export import export, served_name
from iwae_tf.commands.quiet import import_tensorflow
from iwae_tf.config import (
    EXPORT_DIR,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    ObjectiveConfig,
    OutputConfig,
    RunConfig,
    TrainingConfig,
    WorkersConfig,
)
from iwae_tf.errors import exit_code
from iwae_tf.report.record import read_record
from iwae_tf.scoring_config import ExportConfig
from iwae_tf.training import run_folder
from iwae_tf.training.trained import read_trained

SUMMARY = "train an importance weighted autoencoder and estimate log p(x) of the test images"
DESCRIPTION = """Trains an importance weighted autoencoder, estimates log p(x) of the test images in nats and leaves a
run folder with settings, history, metrics, model, checkpoints, pictures and a page about them all, report.html. Without
--dataset it trains on the handwritten digits that ship inside scikit-learn and needs no network."""

SECTIONS = (DataConfig, ModelConfig, TrainingConfig, ObjectiveConfig, EvaluationConfig)


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    for settings in (*SECTIONS, WorkersConfig, OutputConfig):
        flags.add_settings(parser, settings)


def run(arguments) -> int:
    """Trains, evaluates, prints the closing table; returns the exit code."""
    config = RunConfig(*(flags.settings_from(arguments, settings) for settings in SECTIONS))
    output, workers = (flags.settings_from(arguments, settings) for settings in (OutputConfig, WorkersConfig))
    path = run_folder.path_of(config, output)
    export_to = Path(EXPORT_DIR) / served_name(path.resolve().name) if output.export else None
    import_tensorflow(xla=config.training.jit == "on")
    from iwae_tf.report.page import write_report  # needs TensorFlow
    from iwae_tf.training import run as training
    from iwae_tf.training.results import evaluate
    from iwae_tf.training.workers import plain_losses

    with plain_losses("with --resume"):
        this_run = training.start(config, output, workers)
    try:
        with plain_losses("with --resume"):
            seconds = training.fit(this_run, output.verbose)
            metrics = evaluate(this_run, seconds, output.verbose)
        if this_run.workers.is_chief:
            write_report([read_record(path)], path / "report.html")
    except KeyboardInterrupt as stop:
        command = [word for word in sys.orig_argv if word not in ("--resume", "--overwrite")]
        progress = f"stopped at step {this_run.model.step} of {this_run.total_steps}"
        print(f"\n{progress}; go on with: {shlex.join(command)} --resume")
        return exit_code(stop)
    finally:
        this_run.close()
    if not this_run.workers.is_chief:
        print(f"done; the run is in {path} at the chief")
        return 0
    written = sorted(file for file in path.iterdir() if not file.name.startswith("."))
    if export_to:
        written.append(export(read_trained(path), export_to, ExportConfig()))
    print(_closing_table(metrics, written))
    return 0


def _closing_table(metrics: dict, written: list[Path]) -> str:
    lines = [
        "",
        f"{metrics['dataset']}, {metrics['objective']}, k = {metrics['k']}, {metrics['epochs']} epochs, "
        f"{metrics['num_test']} test images",
        "",
        f"{'k':>8}  mean L_k (nats)",
    ]
    last = str(metrics["num_samples"])
    for k, mean in metrics["bounds"].items():
        error = metrics["bound_standard_errors"][k]
        lines.append(f"{k:>8}  {mean:10.3f} +- {error:.3f}{'   log p(x)' if k == last else ''}")
    if "best_epoch" in metrics:
        lines += ["", f"the model is that of epoch {metrics['best_epoch']}, the best by the validation bound"]
    active = " + ".join(str(count) for count in metrics["active_units"])
    if "bits_per_dimension" in metrics:
        lines.append(f"bits per dimension {metrics['bits_per_dimension']:.4f}")
    lines += [
        "",
        f"active units {active}; training {metrics['train_seconds']:.0f} s, evaluation {metrics['eval_seconds']:.0f} s",
        "written:",
        *(f"  {path}" for path in written),
    ]
    return "\n".join(lines)
