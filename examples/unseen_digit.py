"""Anomaly scores: a model of the handwritten digits 0 to 8 meets the 9.

`prepare` writes the images, `report` reads their scores and draws the figure; docs/serving.md has the commands between.
"""

import argparse
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score, roc_curve

matplotlib.use("Agg")
import matplotlib.pyplot as plt

UNSEEN = 9
NUM_TRAIN = 1397  # images of the data set that may be trained on; the other 400 are held out


def prepare(folder: Path) -> None:
    """Writes `digits-0-to-8.npz` to train on and `test.npz`: held-out digits and all nines, with their labels."""
    digits = load_digits()
    x, y = (digits.data / 16).astype(np.float32), digits.target
    held_out = np.arange(len(x)) >= NUM_TRAIN
    seen = y != UNSEEN
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "digits-0-to-8.npz", x_train=x[seen & ~held_out], x_test=x[seen & held_out])
    test = ~seen | held_out
    np.savez(folder / "test.npz", x=x[test], y=y[test])


def report(folder: Path, picture: Path) -> None:
    """Prints how well the scores tell the nines from the others, and how far each can be trusted; draws the figure."""
    unseen = np.load(folder / "test.npz")["y"] == UNSEEN
    scores, again = np.load(folder / "scores.npz"), np.load(folder / "scores-again.npz")
    print(f"{(~unseen).sum()} held-out digits 0 to 8, {unseen.sum()} nines")
    for name in ("log_prob", "elbo"):
        print(f"AUROC of -{name}: {roc_auc_score(unseen, -scores[name]):.3f}")
    moved = np.abs(scores["log_prob"] - again["log_prob"])
    trusted = scores["pareto_k"] < 0.7
    print("\nmedians             rows  nines  AUROC  sample size  standard error  moved by another seed")
    for title, rows in (("pareto_k < 0.7", trusted), ("pareto_k >= 0.7", ~trusted)):
        auroc = roc_auc_score(unseen[rows], -scores["log_prob"][rows])
        size, error = (np.median(scores[name][rows]) for name in ("effective_sample_size", "standard_error"))
        share, median = unseen[rows].mean(), np.median(moved[rows])
        print(f"{title:<18}{rows.sum():6}{share:7.0%}{auroc:7.3f}{size:13.0f}{error:16.3f}{median:23.3f}")
    _draw(unseen, scores, picture)


def _draw(unseen, scores, picture: Path) -> None:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    bins = np.linspace(scores["log_prob"].min(), scores["log_prob"].max(), 40)
    for rows, label in ((~unseen, "held-out digits 0 to 8"), (unseen, "the unseen 9")):
        left.hist(scores["log_prob"][rows], bins, density=True, alpha=0.6, label=label)
        right.plot(scores["log_prob"][rows], scores["pareto_k"][rows], ".", ms=4)
    left.set(xlabel="log p(x) in nats", ylabel="density", title="Scores")
    left.margins(y=0.3)
    left.legend(loc="upper left")
    for name in ("log_prob", "elbo"):
        false_alarms, found, _ = roc_curve(unseen, -scores[name])
        middle.plot(false_alarms, found, label=f"-{name}, AUROC {roc_auc_score(unseen, -scores[name]):.3f}")
    middle.plot([0, 1], [0, 1], ":", color="grey")
    middle.set(xlabel="share of digits 0 to 8 flagged", ylabel="share of nines found", title="ROC")
    middle.legend(loc="lower right")
    right.axhline(0.7, ls=":", color="grey")
    right.set(xlabel="log p(x) in nats", ylabel="pareto_k", title="How far to trust each score")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("prepare", "report"))
    parser.add_argument("--folder", type=Path, default=Path("runs/unseen-digit"), help="where the files are")
    parser.add_argument("--picture", type=Path, help="where the figure goes (default: unseen_digit.png in the folder)")
    arguments = parser.parse_args()
    if arguments.step == "prepare":
        prepare(arguments.folder)
    else:
        report(arguments.folder, arguments.picture or arguments.folder / "unseen_digit.png")
