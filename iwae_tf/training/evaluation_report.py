"""What an evaluation says: `report.json`, `per_example.parquet` and the closing table."""

import numpy as np

from iwae_tf.config import RELIABLE_PARETO_K
from iwae_tf.evaluation.log_likelihood import LikelihoodEstimate, monte_carlo_error, standard_error_of_mean
from iwae_tf.layers.levels import bits_per_dimension


def bits_entry(model, log_p: float) -> dict:
    """`bits_per_dimension` of a mean log p(x) in nats, where it is the log of a probability; else nothing."""
    if model.levels is None:
        return {}
    return {"bits_per_dimension": bits_per_dimension(log_p, model.data_dim)}


def likelihood_section(estimate: LikelihoodEstimate) -> dict:
    """Means over the images with their errors, and how far the estimates of single images can be trusted."""
    values, errors = estimate.log_likelihood, estimate.standard_error
    return {
        "log_likelihood": float(values.mean()),
        "standard_error": standard_error_of_mean(values),
        "monte_carlo_error": monte_carlo_error(errors),
        "elbo": float(estimate.elbo.mean()),
        "bounds": {str(k): value for k, value in estimate.mean_bounds.items()},
        "bound_standard_errors": {str(k): value for k, value in estimate.bound_standard_errors.items()},
        "reliability": {
            "num_images": len(values),
            f"pareto_k_above_{RELIABLE_PARETO_K}": int(np.sum(~(estimate.pareto_k < RELIABLE_PARETO_K))),
            "not_converged": int(np.sum(~estimate.converged)),
            "median_effective_sample_size": float(np.median(estimate.effective_sample_size)),
            "median_standard_error": float(np.median(errors)),
            "mean_num_samples": float(estimate.num_samples.mean()),
            "largest_num_samples": int(estimate.num_samples.max()),
        },
    }


def write_per_example(path, estimate: LikelihoodEstimate) -> None:
    """One row for each image, in the order of the data set."""
    import pyarrow
    import pyarrow.parquet

    columns = {"row": np.arange(len(estimate.log_likelihood), dtype=np.int64)}
    columns |= {name: values for name, values in vars(estimate).items() if name != "bounds"}
    columns |= {f"bound_{k}": values for k, values in estimate.bounds.items()}
    beside = path.with_name(path.name + ".part")
    pyarrow.parquet.write_table(pyarrow.table(columns), beside)
    beside.replace(path)


def table(report: dict) -> str:
    """The closing table of `evaluate`."""
    reliability, last = report["reliability"], list(report["bounds"])[-1]
    lines = [f"{'k':>8}  mean L_k (nats)"]
    lines += [
        f"{k:>8}  {mean:10.3f} +- {report['bound_standard_errors'][k]:.3f}{'   log p(x)' if k == last else ''}"
        for k, mean in report["bounds"].items()
    ]
    number = reliability["num_images"]
    if reliability["largest_num_samples"] > int(last):
        lines.append(f"  target  {report['log_likelihood']:10.3f} +- {report['standard_error']:.3f}   log p(x)")
    lines += [
        "",
        f"log p(x) {report['log_likelihood']:.3f}, standard error over images {report['standard_error']:.3f}, of the "
        f"samples {report['monte_carlo_error']:.4f}",
        *([f"bits per dimension {report['bits_per_dimension']:.4f}"] if "bits_per_dimension" in report else []),
        f"samples an image: {reliability['mean_num_samples']:.0f} on average, at most "
        f"{reliability['largest_num_samples']}; effective {reliability['median_effective_sample_size']:.0f} (median)",
        f"{reliability[f'pareto_k_above_{RELIABLE_PARETO_K}']} of {number} images have a Pareto k of "
        f"{RELIABLE_PARETO_K} or more: their estimates are probably too low",
    ]
    if report["protocol"]["target_standard_error"] is not None:
        lines.append(f"{reliability['not_converged']} of {number} images did not reach the target")
    return "\n".join(lines)
