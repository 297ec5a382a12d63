"""What is written of the measurements: the CSV, the table for the documents, and the claims with their slopes."""

import csv
import math
from pathlib import Path

from benchmarks.gradient_quality_statistics import QUANTITIES, fit_slope, has_signal

COLUMNS = [
    "estimator",
    "k",
    "network",
    "repeats",
    *(column for name in QUANTITIES for column in (name, f"{name}_se")),
    "snr_parameters_floor",
]
# estimator, network, the slope of its SNR where the weights have moments enough
CLAIMS = [
    ("iwae", "inference", "-1/2 (Rainforth et al. 2018)"),
    ("dreg", "inference", "+1/2 (Tucker et al. 2019)"),
    ("iwae", "generative", "+1/2 (Rainforth et al. 2018)"),
    ("dreg", "generative", "the same"),
]
LARGE_K = 16


def write_csv(path: Path, rows: list[dict]) -> None:
    """One line for each estimator, k and network; columns `COLUMNS`, numbers with 6 digits."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: f"{v:.6g}" if isinstance(v, float) else v for name, v in row.items()})


def series(rows: list[dict], estimator: str, network: str) -> list[dict]:
    """The rows of an estimator whose signal is at least two standard errors, in the order of k."""
    kept = [row for row in rows if (row["estimator"], row["network"]) == (estimator, network) and has_signal(row)]
    return sorted(kept, key=lambda row: row["k"])


def slope_words(points: list[dict], quantity: str = "snr") -> str:
    """Slope of the log of a quantity on log k with its standard error, or a dash where none can be fitted."""
    power = 1.0 if quantity.startswith("snr") else 0.5  # of squares the root
    values = [row[quantity] ** power for row in points]
    slope, error = fit_slope([row["k"] for row in points], values)
    return "-" if math.isnan(slope) else f"{slope:+.2f} +- {error:.2f}"


def claims(rows: list[dict]) -> list[str]:
    """A line for each claim: what was measured, of what parts, and what the papers say."""
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


def table(rows: list[dict], k: int) -> list[str]:
    """Both networks of every estimator at one k: variance, bias relative to the gradient of L_k, snr and its slope."""
    at_k = {(row["estimator"], row["network"]): row for row in rows if row["k"] == k}
    lines = [
        f"Left the inference, right the generative network, k = {k}. Bias: norm of the difference between the mean",
        "gradient and that of L_k, as a share of the latter; for other bounds how far their gradient is from that of",
        "L_k. Reference: `dreg`, itself compared with `iwae`, both unbiased.",
        "",
        "| estimator | variance | bias | SNR | slope | variance | bias | SNR | slope |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(name for name, _ in at_k):
        cells = []
        for network in ("inference", "generative"):
            row = at_k[name, network]
            signal = math.sqrt(max(at_k["dreg", network]["signal_squared"], 0.0))
            variance = _with_error(row["variance"], row["variance_se"])
            snr = _with_error(row["snr"], row["snr_se"])
            cells += [variance, relative_bias(row, signal), snr, slope_words(series(rows, name, network))]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return lines


def relative_bias(row: dict, signal: float) -> str:
    """||bias|| / ||gradient of L_k||; "<" where it is within two standard errors of 0, "0" where only rounding is."""
    squared, error = row["bias_squared"], row["bias_squared_se"]
    if abs(squared) + error < 1e-9 * signal**2:
        return "0"
    if squared < 2 * error:
        return f"< {math.sqrt(max(squared, 0.0) + 2 * error) / signal:.2g}"
    return f"{math.sqrt(squared) / signal:.2g}"


def _with_error(value: float, error: float) -> str:
    """A value and its error with the digits that the error leaves."""
    if not error > 0.0:
        return f"{value:.3g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} +- {error:.{digits}f}"


def document(rows: list[dict], cheap: list[dict], table_k: int | None, command: str, facts: list[str]) -> str:
    """The text of the .md file.

    Args:
        rows: of all estimators and k.
        cheap: of `iwae` at one k with all samples in the backward pass, first, and with fewer; may be empty.
        table_k: k of the table; None for no table.
        command: what was run.
        facts: how it was measured.
    """
    lines = ["# Quality of the gradient estimators", "", "```sh", command, "```", "", *(f"- {fact}" for fact in facts)]
    lines += ["", "Slopes of logs on log k, with standard errors from the residuals; points with a signal of less than"]
    lines += ["two standard errors are left out:", "", *claims(rows)]
    lines += ["", *table(rows, table_k)] if table_k is not None else []
    lines += ["", *_backward_table(cheap)] if cheap else []
    return "\n".join(lines) + "\n"


def _backward_table(rows: list[dict]) -> list[str]:
    """Variance with m of the k samples in the backward pass, against that with all."""
    full = {row["network"]: row for row in rows if row["estimator"] == "iwae"}
    lines = [f"| k = {rows[0]['k']} | network | variance | of that with all |", "|---|---|---|---|"]
    for row in rows:
        share = row["variance"] / full[row["network"]]["variance"]
        variance = _with_error(row["variance"], row["variance_se"])
        lines.append(f"| `{row['estimator']}` | {row['network']} | {variance} | {share:.2f} |")
    return lines
