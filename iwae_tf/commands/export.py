"""Writes the model of a run as a SavedModel that scores log p(x) on a server.

The model of a finished run becomes the next version of a SavedModel for TensorFlow Serving. Its signatures score
log p(x), encode, reconstruct and sample; the command serve answers requests by it on this machine.
"""

import json
import re
import sys
from pathlib import Path

from iwae_tf.commands import flags
from iwae_tf.commands.quiet import import_tensorflow
from iwae_tf.config import EXPORT_DIR, ExportConfig
from iwae_tf.errors import InputError
from iwae_tf.training.run_folder import TrainedRun, check_trained, differences, different_models, read_trained

_RECORDED = ("data_dim", "latent_units", "hidden_units", "likelihood", "latent")  # of a model, in config.json


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    text = (
        "name of the model on the server (default: the run folder's, with - for other than letters, digits and . _ -)"
    )
    parser.add_argument("--name", metavar="NAME", help=text)
    flags.add_settings(parser, ExportConfig)
    parser.add_argument("--data-dir", metavar="DIR", help="folder to read the held-out rows from (default: the run's)")
    parser.add_argument(
        "--output-dir", metavar="DIR", default=EXPORT_DIR, help=f"folder of all models (default: {EXPORT_DIR})"
    )


def run(arguments) -> int:
    """Exports; returns the exit code."""
    settings = flags.settings_from(arguments, ExportConfig)
    path = Path(arguments.run)
    check_trained(path)
    name = served_name(arguments.name) if arguments.name else name_of_run(path)
    import_tensorflow()
    print(f"written: {export(read_trained(path), Path(arguments.output_dir) / name, settings, arguments.data_dir)}")
    return 0


def export(trained: TrainedRun, directory: Path, settings: ExportConfig, data_dir: str | None = None) -> Path:
    """Writes the next version of the run's model into `directory`; returns the version's folder.

    The rows of the test split are its held-out rows. Without them, which stderr says, it has no p-values.

    Raises:
        InputError: the model is not that of the run's settings or metrics, or `export_saved_model` refuses it.
    """
    from iwae_tf.serving import export_saved_model  # needs TensorFlow

    own = trained.model.get_config()
    here = json.loads(json.dumps({name: own[name] for name in _RECORDED}))  # tuples become lists
    other = differences({**here, **trained.config.get("model", {})}, here)
    if other:
        raise InputError(
            f"{trained.path / 'model.keras'} is not the model of config.json: {other}; train the run again"
        )
    if different := different_models(trained.path, {"metrics.json": trained.metrics.get("model")}):
        raise InputError(
            f"the model of the run in {trained.path} was changed after it was scored: {different}; score it again by "
            "python -m iwae_tf train, the same flags and --resume, which writes the model of the last checkpoint"
        )
    run = {"config": trained.config, "metrics": trained.metrics}
    return export_saved_model(
        trained.model,
        directory,
        num_samples=settings.num_samples,
        max_samples=settings.max_samples,
        input_rule=settings.input,
        refine=settings.refine,
        run=run,
        **held_out_of(trained, settings, data_dir),
    )


def held_out_of(trained: TrainedRun, settings: ExportConfig, data_dir: str | None) -> dict:
    """Returns the arguments of `export_saved_model` for the test rows, with the run's scores of them if they fit."""
    from iwae_tf.evaluation.estimate import proposal_name
    from iwae_tf.training.building import check_same_data, load_data
    from iwae_tf.training.scores_file import SCORES, read_columns

    try:
        dataset = load_data(trained.config["data"], data_dir)
        check_same_data(trained.config["data"], dataset)
    except InputError as error:
        print(f"warning: the export has no p_value and no explain, for want of held-out rows: {error}", file=sys.stderr)
        return {}
    scored, scores = trained.metrics.get("protocol", {}), None
    wanted = {
        "part": "test",
        "num_samples": settings.num_samples,
        "target_standard_error": None,
        "proposal": proposal_name(trained.model, settings.refine),
    }
    if settings.input != "intensity" and not differences(scored, wanted) and (trained.path / SCORES).is_file():
        scores = read_columns(trained.path / SCORES)["log_likelihood"]
    return {"held_out": dataset.x_test, "held_out_scores": scores}


def name_of_run(path: Path) -> str:
    """Returns the name of a run's folder, with - for what no name of a served model has, as in tfds:iris."""
    return served_name(re.sub(r"[^A-Za-z0-9._-]+", "-", path.resolve().name).lstrip("._-") or "model")


def served_name(name: str) -> str:
    """Returns the name if it can stand in a URL; raises `InputError` if not."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(f"a served model's name is letters, digits and . _ - only, got {name!r}; give another --name")
    return name
