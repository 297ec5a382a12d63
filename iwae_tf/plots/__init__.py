"""Figures of a run. `save_X(path, ...)` writes what the function X_figure(...) draws, as PNG, PDF or SVG by suffix.

A module is imported when it first draws: the posterior's needs TensorFlow, the others do not.
"""

import importlib

from iwae_tf.plots import style


def _writer(module: str, function: str):
    """Returns `save(path, ...)`, which writes the figure of a function in a module of this package, if there is one."""

    @style.plain_settings()
    def save(path, *arguments, **settings) -> None:
        figure = getattr(importlib.import_module(f"iwae_tf.plots.{module}"), function)(*arguments, **settings)
        if figure is not None:
            style.write(figure, path)

    save.__doc__ = f"Writes `iwae_tf.plots.{module}.{function}(...)`, which documents the arguments, to `path`."
    return save


save_activities = _writer("curves", "activities_figure")
save_bounds = _writer("curves", "bounds_figure")
save_columns = _writer("columns", "columns_figure")
save_differences = _writer("comparisons", "differences_figure")
save_distributions = _writer("comparisons", "distributions_figure")
save_extremes = _writer("image_grid", "extremes_figure")
save_posteriors = _writer("posterior", "posteriors_figure")
save_reconstructions = _writer("image_grid", "reconstructions_figure")
save_reliability = _writer("scores", "reliability_figure")
save_reproduction = _writer("comparisons", "reproduction_figure")
save_rows = _writer("image_grid", "grid_figure")
save_samples = _writer("image_grid", "samples_figure")
save_scores = _writer("scores", "scores_figure")
save_sweep = _writer("comparisons", "sweep_figure")
