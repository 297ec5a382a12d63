"""Bias, variance and signal-to-noise ratio of every objective's gradient estimator against k, on a trained model.

Leaves `gradient_quality.csv`, `.md` and `.png` in the folder of `--out`. `gradient_quality_statistics.py` says what is
estimated and how; the plot is that of Rainforth et al. (2018) and Tucker et al. (2019).
"""

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.gradient_quality_figure import LOOKS, save_gradient_quality
from benchmarks.gradient_quality_measure import measure, objectives_at
from benchmarks.gradient_quality_models import linear_gaussian, perturb, trained_digits, weight_spread
from benchmarks.gradient_quality_report import claims, document, write_csv
from benchmarks.gradient_quality_statistics import snr_parameters_floor, with_errors
from iwae_tf.errors import InputError
from iwae_tf.objectives import OBJECTIVES, IWAEBound

RUN = Path("runs/digits-iwae-k50-l1-seed0")
TABLE_K, BACKWARD_K, BACKWARD_SAMPLES = 64, 50, (1, 5)


def main(arguments) -> None:
    """Measures, prints the claims and writes the three files."""
    begin, seed = time.perf_counter(), arguments.seed
    if arguments.linear_gaussian:
        (model, x), names = linear_gaussian(arguments.images, seed), LOOKS
    else:
        (model, x), names = trained_digits(arguments.run, arguments.images), OBJECTIVES
    perturb(model, arguments.perturbation, seed)
    rows, cheap = [], []
    for k in arguments.k:
        rows += measured_rows(model, x, objectives_at(names, k), arguments.repeats, seed)
        print(f"k = {k}: {time.perf_counter() - begin:.0f} s", flush=True)
    if arguments.backward_samples:
        cheap = measured_rows(model, x, _backward_objectives(), arguments.repeats, seed)
    facts = _facts(arguments, weight_spread(model, x, seed), time.perf_counter() - begin)
    print("\n".join([*facts, *claims(rows)]))
    write(arguments, rows, cheap, facts)


def write(arguments, rows: list[dict], cheap: list[dict], facts: list[str]) -> None:
    """Writes the three files; `cheap` are the rows of `_backward_objectives`."""
    out = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "gradient_quality.csv", rows + cheap)
    table_k = TABLE_K if TABLE_K in arguments.k else None
    shown = [row for row in cheap if row["estimator"] != "dreg"]
    text = document(rows, shown, table_k, f"python {' '.join(sys.argv)}", facts)
    (out / "gradient_quality.md").write_text(text, encoding="utf-8")
    title = f"Gradient estimators against k: {_model_words(arguments)}"
    save_gradient_quality(out / "gradient_quality.png", rows, title, _notes(arguments))


def measured_rows(model, x, objectives, repeats: int, seed: int) -> list[dict]:
    """The lines of the CSV for objectives of one k."""
    (k,) = {objective.num_samples for objective in objectives.values()}
    floor = snr_parameters_floor(repeats)
    return [
        {"estimator": name, "k": k, "network": network, "repeats": repeats, **with_errors(groups)}
        | {"snr_parameters_floor": floor}
        for (name, network), groups in measure(model, x, objectives, repeats, seed).items()
    ]


def _backward_objectives() -> dict:
    cheap = {f"iwae (m = {m})": IWAEBound(BACKWARD_K, backward_samples=m) for m in BACKWARD_SAMPLES}
    return {**objectives_at((), BACKWARD_K), **cheap}


def _model_words(arguments) -> str:
    return "linear-Gaussian model" if arguments.linear_gaussian else f"trained model {arguments.run.name}"


def _facts(arguments, spread: list[str], seconds: float) -> list[str]:
    images = "draws of the model" if arguments.linear_gaussian else "images, the first of training, binarised once"
    return [
        f"model: {_model_words(arguments)}, every weight moved by N(0, {arguments.perturbation:g}^2)",
        f"batch: {arguments.images} {images}; gradient of the mean bound of the batch",
        f"N = {arguments.repeats} independent gradients for each estimator and k, seed {arguments.seed}; "
        f"{seconds:.0f} s in all",
        *spread,
    ]


def _notes(arguments) -> list[str]:
    return [
        "SNR: norm of the mean gradient / root of the summed variance, corrected for the noise of the mean",
        f"N = {arguments.repeats} gradients, {arguments.images} images; bars: one standard error; points within two "
        f"of 0 are left out; weights moved by N(0, {arguments.perturbation:g}^2)",
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", default=RUN, help=f"run folder on the digits (default: {RUN})")
    parser.add_argument("--linear-gaussian", action="store_true", help="a model with weights of finite moments instead")
    parser.add_argument("--k", type=int, nargs="+", default=[1, 2, 4, 16, 64, 256], help="numbers of samples")
    parser.add_argument("--repeats", type=int, default=1000, help="gradients for each estimator and k (default: 1000)")
    parser.add_argument("--images", type=int, default=10, help="images in the batch (default: 10)")
    parser.add_argument("--perturbation", type=float, default=0.01, help="what moves every weight (default: 0.01)")
    parser.add_argument("--backward-samples", action="store_true", help="also iwae with 1 and 5 of 50 samples backward")
    parser.add_argument("--seed", type=int, default=0, help="of noise and perturbation (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("build/gradient-quality"), help="folder for what is written")
    return parser


if __name__ == "__main__":
    try:
        main(_parser().parse_args())
    except InputError as error:
        sys.exit(f"error: {error}")
