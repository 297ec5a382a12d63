"""Bias, variance and signal-to-noise ratio of every objective's gradient estimator against k, on a trained model.

    python -m benchmarks.gradient_quality [RUN | --linear-gaussian] [--repeats 1000] [--out build/gradient-quality]

writes `gradient_quality.csv`, `.md` and `.png`. With g_1 ... g_N independent gradients, m their mean, r_n a reference
gradient from the same random numbers and d_n = g_n - r_n, and with norms and traces over P parameters:

    variance        tr Cov(g)
    signal squared  ||E g||^2      estimated without bias by ||m||^2 - variance / N
    bias squared    ||E d||^2      estimated without bias by (||sum d||^2 - sum ||d||^2) / (N (N - 1))
    snr             ||E g|| / sqrt(tr Cov(g)), from the first two lines
    snr_parameters  mean over parameters of |m| / std, without those that never move; sqrt(2 / (pi N)) without signal

Reference: Rainforth et al. (2018), section 3 and figure 1; Tucker et al. (2019).
"""

import argparse
import csv
import math
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from scipy import stats

import iwae_tf
from benchmarks import figures, package
from iwae_tf import InputError, seeds
from iwae_tf.objectives import OBJECTIVES, IWAEBound, objective_class

RUN = Path("runs/digits-iwae-k50-l1-seed0")
REFERENCE = "dreg"  # unbiased for L_k with the least noise; its own reference is `iwae`, unbiased too
NUM_GROUPS = 4  # M of miwae and piwae
JACKKNIFE_GROUPS = 10  # of draws
TABLE_K, LARGE_K, BACKWARD_K, BACKWARD_SAMPLES = 64, 16, 50, (1, 5)
LINEAR_DIM, TAIL_SAMPLES = 20, 5000
NETWORKS = ("inference", "generative")
QUANTITIES = ("variance", "signal_squared", "bias_squared", "snr", "snr_parameters")
COLUMNS = ["estimator", "k", "network", "repeats", *(c for name in QUANTITIES for c in (name, f"{name}_se"))]
COLUMNS.append("snr_parameters_floor")
CLAIMS = [  # estimator, network, slope of the SNR where the weights have enough moments
    ("iwae", "inference", "-1/2 (Rainforth et al. 2018)"),
    ("dreg", "inference", "+1/2 (Tucker et al. 2019)"),
    ("iwae", "generative", "+1/2 (Rainforth et al. 2018)"),
    ("dreg", "generative", "the same"),
]
LOOKS = {  # estimator -> colour and line; darkness differs too, for print
    "elbo": (figures.QUIET, (0, (5, 2))),
    "iwae": (figures.ACCENT, "-"),
    "dreg": (figures.LINE, "-"),
    "stl": ("#17909b", "-"),
    "miwae": ("#b07d00", "-"),
    "rws": ("#8a5aa8", "-"),
    "vimco": ("#3d7a3a", "-"),
}
SAME_AS_IWAE = ("dreg", "stl", "rws", "vimco")  # in the generative network


def quantities(n, total, squares, difference, difference_squares) -> np.ndarray:
    """Returns the values of `QUANTITIES` from sums over n draws: of g, g^2 and d, [P], and of ||d||^2.

    The two squares may be below 0 where noise exceeds them.
    """
    mean = total / n  # [P]
    variances = np.maximum(squares - n * mean**2, 0.0) / (n - 1)
    variance, moving = variances.sum(), variances > 0.0
    signal = mean @ mean - variance / n
    bias = (difference @ difference - difference_squares) / (n * (n - 1))
    parameters = np.mean(np.abs(mean[moving]) / np.sqrt(variances[moving])) if moving.any() else math.nan
    snr = math.sqrt(max(signal, 0.0) / variance) if variance > 0.0 else math.nan
    return np.array([variance, signal, bias, snr, parameters])


def with_errors(sums: list[np.ndarray]) -> dict[str, float]:
    """Returns every quantity and its standard error `<name>_se`, by the jackknife over equal groups of draws.

    Args:
        sums: arguments of `quantities`, each with a leading axis of groups.
    """
    whole = [np.sum(values, axis=0) for values in sums]
    groups = zip(*sums, strict=True)
    left_out = [quantities(*(a - b for a, b in zip(whole, group, strict=True))) for group in groups]  # [G, 5]
    errors = np.sqrt((len(left_out) - 1) * np.var(left_out, axis=0))
    values = dict(zip(QUANTITIES, quantities(*whole), strict=True))
    return values | {f"{name}_se": error for name, error in zip(QUANTITIES, errors, strict=True)}


def objectives_at(names, k: int) -> dict[str, iwae_tf.objectives.Objective]:
    """Returns the objectives that exist for k samples, with default settings and M = 4; `iwae` and `dreg` first."""
    made = {}
    for name in dict.fromkeys(["iwae", REFERENCE, *names]):
        groups = {"groups": NUM_GROUPS} if name in ("miwae", "piwae") else {}
        try:
            made[name] = objective_class(name)(num_samples=k, **groups)
        except InputError:  # vimco and jvi need 2 samples, miwae and piwae a multiple of M
            continue
    return made


def draw_function(model, x, objectives: dict, seed: int):
    """Returns a compiled function: number of a draw -> gradients of all estimators from the same noise, [E, P].

    The gradient is that of the loss, minus the mean bound of the batch, by the parameters of the inference network and
    then of the generative network.
    """
    (k,) = {objective.num_samples for objective in objectives.values()}
    shape = [k, x.shape[0], sum(model.latent_units)]  # [k, B, H]

    @tf.function(autograph=False)
    def draw(number):
        def key_of(purpose, counter=0):
            return seeds.key(seed, purpose, number, 1000 * k + counter)

        noise = seeds.normal(shape, key_of(seeds.Purpose.TRAIN_NOISE))
        rows = [package.bound_and_gradients(model, one, x, noise, key_of)[1] for one in objectives.values()]
        return tf.stack([tf.concat([tf.reshape(gradient, [-1]) for gradient in row], axis=0) for row in rows])

    return draw


def network_slices(model) -> dict[str, slice]:
    """Returns the range of the P parameters that belongs to each network."""
    middle = num_parameters(model.inference_network)
    return {"inference": slice(0, middle), "generative": slice(middle, num_parameters(model))}


def num_parameters(layer) -> int:
    """Returns the number of trained parameters of a model or layer."""
    return sum(int(np.prod(variable.shape)) for variable in layer.trainable_variables)


def measure(model, x, objectives: dict, repeats: int, seed: int) -> list[dict]:
    """Returns the rows of the CSV for objectives of one k, among them `iwae` and `dreg`.

    Args:
        model: an `iwae_tf.IWAE`.
        x: [B, D].
        objectives: name -> objective, all with the same number of samples.
        repeats: draws in all, a multiple of `JACKKNIFE_GROUPS`.
        seed: of the noise.
    """
    if repeats % JACKKNIFE_GROUPS or repeats < 2 * JACKKNIFE_GROUPS:
        raise InputError(f"--repeats must be a multiple of 10 and at least 20, got {repeats}")
    draw, slices, names = draw_function(model, x, objectives, seed), network_slices(model), list(objectives)
    references = [names.index("iwae" if name == REFERENCE else REFERENCE) for name in names]
    each, shape = repeats // JACKKNIFE_GROUPS, (JACKKNIFE_GROUPS, len(names), num_parameters(model))
    total, squares, difference = np.zeros((3, *shape))  # [G, E, P] each
    norms = {network: np.zeros(shape[:2]) for network in slices}  # [G, E]
    for number in range(repeats):
        g = draw(tf.constant(number)).numpy().astype(np.float64)  # [E, P]
        d = g - g[references]
        for sums, values in ((total, g), (squares, g**2), (difference, d)):
            sums[number // each] += values
        for network, own in slices.items():
            norms[network][number // each] += np.sum(d[:, own] ** 2, axis=1)
    (k,) = {objective.num_samples for objective in objectives.values()}
    rows, count = [], np.full(JACKKNIFE_GROUPS, each)
    for row, name in enumerate(names):
        for network, own in slices.items():
            sums = [count, *(values[:, row, own] for values in (total, squares, difference)), norms[network][:, row]]
            facts = {"estimator": name, "k": k, "network": network, "repeats": repeats}
            floor = math.sqrt(2.0 / (math.pi * repeats))
            rows.append({**facts, **with_errors(sums), "snr_parameters_floor": floor})
    return rows


def trained_digits(run: Path, images: int):
    """Returns the model of a run on the digits and the first training images, binarised once: model, x [B, 64]."""
    if not run.is_dir():
        raise InputError(f"there is no run folder {run}: `python train.py --k 50` makes {RUN}")
    trained = package.read_run(run)
    if trained.config["data"]["dataset"] != "digits":
        raise InputError(f"{run} must be a run on the digits, got one on {trained.config['data']['dataset']}")
    return trained.model, tf.constant(package.binarized(iwae_tf.data.load("digits"), "train")[:images])


def linear_gaussian(images: int, seed: int):
    """Returns p(h) = N(0, I), p(x | h) = N(h, I), q(h | x) = N(x / 2, 2/3 I) in 20 dimensions, and draws of x: [B, 20].

    The posterior is N(x / 2, I / 2). As q is wider, all moments of the weights are finite.

    Reference: Rainforth et al. (2018), section 4, with the prior's mean at 0.
    """
    eye = np.eye(LINEAR_DIM)
    model = iwae_tf.IWAE(LINEAR_DIM, (LINEAR_DIM,), ((),), likelihood="gaussian")
    package.set_linear(model.inference_network, eye / 2, (2 / 3) ** 0.5)
    package.set_linear(model.generative_network, eye, 1.0)
    x = np.sqrt(2.0) * seeds.normal([images, LINEAR_DIM], seeds.key(seed, seeds.Purpose.SIMULATION))
    return model, tf.constant(x)


def perturb(model, deviation: float, seed: int) -> None:
    """Adds N(0, deviation^2) to every weight: at the optimum itself gradients have no signal.

    Reference: Rainforth et al. (2018), section 4, with a deviation of 0.01.
    """
    for number, variable in enumerate(model.trainable_variables):
        noise = seeds.normal(variable.shape, seeds.key(seed, seeds.Purpose.WEIGHTS, number))
        variable.assign(variable + deviation * noise)


def weight_spread(model, x, seed: int) -> list[str]:
    """Returns sentences on the variance of the importance weights.

    The theory is an expansion in Var(w) / (k E(w)^2). With tanh layers that variance is infinite where a scale s of q
    is below sqrt(1/2): log p(x | h) is bounded below, and p(h)^2 / q(h | x) grows as exp(h^2 / (2 s^2) - h^2).
    """
    log_w = model.log_weights(x, TAIL_SAMPLES, seed).numpy().astype(np.float64)  # [k, B]
    w = np.exp(log_w - log_w.max(axis=0))
    spread = w.var(axis=0) / w.mean(axis=0) ** 2  # [B]
    lines = [
        f"Var(w) / E(w)^2 of the images, from {TAIL_SAMPLES} samples: median {np.median(spread):.3g}, largest "
        f"{spread.max():.3g}; the theory's slopes need k far above it"
    ]
    if any(model.hidden_units):
        narrow = int((model.encode(x)[0].scale.numpy() < 0.5**0.5).any(axis=1).sum())
        lines.append(
            f"images with a scale of q below sqrt(1/2), for which Var(w) is infinite: {narrow} of {len(x)}; with "
            "`--linear-gaussian` it is finite"
        )
    return lines


def series(rows: list[dict], estimator: str, network: str) -> list[dict]:
    """Returns an estimator's rows in the order of k, without those whose signal is below two standard errors."""
    own = [row for row in rows if (row["estimator"], row["network"]) == (estimator, network)]
    return sorted((r for r in own if r["signal_squared"] > 2 * r["signal_squared_se"]), key=lambda row: row["k"])


def slope_words(points: list[dict], quantity: str = "snr") -> str:
    """Returns the slope of the log of a quantity on log k with its standard error, or a dash below 3 points."""
    values = np.array([row[quantity] for row in points], np.float64)
    if len(points) < 3 or not (values > 0.0).all():
        return "-"
    power = 1.0 if quantity.startswith("snr") else 0.5  # of squares the root
    fit = stats.linregress(np.log([row["k"] for row in points]), power * np.log(values))
    return f"{fit.slope:+.2f} +- {fit.stderr:.2f}"


def claims(rows: list[dict]) -> list[str]:
    """Returns a line for each claim of the papers: measured slopes, and the slope in theory."""
    lines = []
    for name, network, claim in CLAIMS:
        points = series(rows, name, network)
        large = [row for row in points if row["k"] >= LARGE_K]
        lines.append(
            f"- `{name}`, {network}: SNR {slope_words(points)}, for k >= {LARGE_K} {slope_words(large)}; signal "
            f"{slope_words(points, 'signal_squared')}, noise {slope_words(points, 'variance')}; mean over parameters "
            f"{slope_words(points, 'snr_parameters')}. In theory {claim}"
        )
    return lines


def relative_bias(row: dict, signal: float) -> str:
    """Returns ||bias|| / ||gradient of L_k||, "<" within two standard errors of 0, "0" within rounding of it."""
    squared, error = row["bias_squared"], row["bias_squared_se"]
    if abs(squared) + error < 1e-9 * signal**2:
        return "0"
    if squared < 2 * error:
        return f"< {math.sqrt(max(squared, 0.0) + 2 * error) / signal:.2g}"
    return f"{math.sqrt(squared) / signal:.2g}"


def _with_error(row: dict, quantity: str) -> str:
    """Returns a value and its error, with the digits that the error leaves."""
    value, error = row[quantity], row[f"{quantity}_se"]
    if not error > 0.0:
        return f"{value:.3g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} +- {error:.{digits}f}"


def table(rows: list[dict], k: int) -> list[str]:
    """Returns the table of both networks of every estimator at one k."""
    at_k = {(row["estimator"], row["network"]): row for row in rows if row["k"] == k}
    lines = [
        f"Left the inference, right the generative network, k = {k}. Bias: norm of the difference between the mean",
        "gradient and that of L_k, as a share of the latter; for other bounds how far their gradient is from that of",
        f"L_k. Reference: `{REFERENCE}`, itself compared with `iwae`, both unbiased.",
        "",
        "| estimator | variance | bias | SNR | slope | variance | bias | SNR | slope |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(name for name, _ in at_k):
        cells = []
        for network in NETWORKS:
            row, signal = at_k[name, network], math.sqrt(max(at_k[REFERENCE, network]["signal_squared"], 0.0))
            cells += [_with_error(row, "variance"), relative_bias(row, signal), _with_error(row, "snr")]
            cells.append(slope_words(series(rows, name, network)))
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


def backward_table(rows: list[dict]) -> list[str]:
    """Returns the table of `iwae` with m of the k samples in the backward pass; the first rows have all of them."""
    full = {row["network"]: row["variance"] for row in rows if row["estimator"] == "iwae"}
    lines = [f"| k = {rows[0]['k']} | network | variance | of that with all |", "|---|---|---|---|"]
    for row in rows:
        share, variance = row["variance"] / full[row["network"]], _with_error(row, "variance")
        lines.append(f"| `{row['estimator']}` | {row['network']} | {variance} | {share:.2f} |")
    return lines


def document(rows: list[dict], backward: list[dict], facts: list[str], command: str) -> str:
    """Returns the text of the .md file.

    Args:
        rows: of all estimators and k.
        backward: of `iwae` with fewer samples in the backward pass; may be empty.
        facts: sentences on the measurement.
        command: that was run.
    """
    lines = ["# Quality of the gradient estimators", "", "```sh", command, "```", "", *(f"- {fact}" for fact in facts)]
    lines += ["", "Slopes of logs on log k, with standard errors from the residuals; points with a signal of less than"]
    lines += ["two standard errors are left out:", "", *claims(rows)]
    if any(row["k"] == TABLE_K for row in rows):
        lines += ["", *table(rows, TABLE_K)]
    if backward:
        lines += ["", *backward_table(backward)]
    return "\n".join(lines) + "\n"


def write_csv(path: Path, rows: list[dict]) -> None:
    """Writes a line for each estimator, k and network; numbers have 6 digits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{v:.6g}" if isinstance(v, float) else v for name, v in row.items()} for row in rows)


def quality_figure(rows: list[dict], title: str, notes: list[str]):
    """Returns the figure against k: SNR above, variance below; inference network left, generative network right."""
    figure, axes = figures.page(title, notes, 2, 2)
    ends_of = {}
    for one, (name, quantity, network) in zip(
        axes.flat, ((name, name.lower(), network) for name in ("SNR", "variance") for network in NETWORKS), strict=True
    ):
        figures.style(one, "k, samples per image (log)", f"{name}, {network} network (log)")
        figures.log_x(one, sorted({row["k"] for row in rows if row["estimator"] in LOOKS}))
        one.set_yscale("log")
        ends_of[one] = _draw_lines(one, rows, network, quantity)
    figures.label_ends(figure, ends_of)
    return figure


def _draw_lines(axes, rows: list[dict], network: str, quantity: str) -> list[tuple]:
    """Draws a line for each estimator; returns their ends."""
    ends = []
    for name, (color, line) in LOOKS.items():
        own = [row for row in rows if (row["estimator"], row["network"]) == (name, network)]
        kept = sorted(own, key=lambda row: row["k"]) if quantity == "variance" else series(own, name, network)
        if not kept or (network == "generative" and name in SAME_AS_IWAE):
            continue
        k, value, error = (np.array([row[key] for row in kept]) for key in ("k", quantity, f"{quantity}_se"))
        low = np.minimum(error, 0.9 * value)  # on a log axis a bar cannot reach 0
        axes.errorbar(k, value, (low, error), color=color, ls=line, lw=1.6, marker="o", ms=4, elinewidth=1, zorder=3)
        label = "iwae, dreg,\nstl, rws, vimco" if network == "generative" and name == "iwae" else name
        ends.append((k[-1], value[-1], label, color))
    return ends


def main(arguments) -> None:
    """Measures, prints the claims and writes the three files."""
    begin, seed, out = time.perf_counter(), arguments.seed, arguments.out
    if arguments.linear_gaussian:
        (model, x), names, images = linear_gaussian(arguments.images, seed), LOOKS, "draws of the model"
    else:
        (model, x), names = trained_digits(arguments.run, arguments.images), OBJECTIVES
        images = "images, the first of training, binarised once"
    what = "linear-Gaussian model" if arguments.linear_gaussian else f"trained model {arguments.run.name}"
    moved = f"N(0, {arguments.perturbation:g}^2)"
    perturb(model, arguments.perturbation, seed)
    rows, backward = [], []
    for k in arguments.k:
        rows += measure(model, x, objectives_at(names, k), arguments.repeats, seed)
        print(f"k = {k}: {time.perf_counter() - begin:.0f} s", flush=True)
    if arguments.backward_samples:
        cheap = {f"iwae (m = {m})": IWAEBound(BACKWARD_K, backward_samples=m) for m in BACKWARD_SAMPLES}
        backward = measure(model, x, objectives_at((), BACKWARD_K) | cheap, arguments.repeats, seed)
    facts = [
        f"model: {what}, every weight moved by {moved}",
        f"batch: {arguments.images} {images}; gradient of the mean bound of the batch",
        f"N = {arguments.repeats} independent gradients for each estimator and k, seed {seed}; "
        f"{time.perf_counter() - begin:.0f} s in all",
        *weight_spread(model, x, seed),
    ]
    print("\n".join([*facts, *claims(rows)]))
    out.mkdir(parents=True, exist_ok=True)
    write_csv(out / "gradient_quality.csv", rows + backward)
    command = " ".join(["python -m benchmarks.gradient_quality", *sys.argv[1:]])
    shown = [row for row in backward if row["estimator"] != REFERENCE]
    (out / "gradient_quality.md").write_text(document(rows, shown, facts, command), encoding="utf-8")
    notes = [
        "SNR: norm of the mean gradient / root of the summed variance, corrected for the noise of the mean.",
        f"N = {arguments.repeats} gradients, {arguments.images} images; bars: one standard error; points within two of "
        f"0 are left out; weights moved by {moved}.",
    ]
    figures.save(quality_figure(rows, f"Gradient estimators against k: {what}", notes), out / "gradient_quality.png")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gradient_quality", description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", default=RUN, help=f"run folder on the digits (default: {RUN})")
    parser.add_argument("--linear-gaussian", action="store_true", help="a model with weights of finite moments instead")
    parser.add_argument("--k", type=int, nargs="+", default=[1, 2, 4, 16, 64, 256], help="numbers of samples")
    parser.add_argument("--repeats", type=int, default=1000, help="gradients for each estimator and k (default: 1000)")
    parser.add_argument("--images", type=int, default=10, help="images in the batch (default: 10)")
    parser.add_argument(
        "--perturbation", type=float, default=0.01, help="standard deviation added to weights (default: 0.01)"
    )
    parser.add_argument("--backward-samples", action="store_true", help="also iwae with 1 and 5 of 50 samples backward")
    parser.add_argument("--seed", type=int, default=0, help="of noise and perturbation (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("build/gradient-quality"), help="folder of the three files")
    return parser


if __name__ == "__main__":
    try:
        main(_parser().parse_args())
    except InputError as error:
        sys.exit(f"error: {error}")
