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
    """Prints how well each score tells the nines from the others, and what the refined proposals find; draws it."""
    unseen = np.load(folder / "test.npz")["y"] == UNSEEN
    refined, plain = np.load(folder / "scores.npz"), np.load(folder / "scores-q.npz")
    scores = {"log p(x), refined": refined["log_prob"], "L_5000": plain["log_prob"], "ELBO": plain["elbo"]}
    print(f"{(~unseen).sum()} held-out digits 0 to 8, {unseen.sum()} nines\n")
    print("score              AUROC    mean of 0 to 8    mean of 9")
    for name, values in scores.items():
        auroc = roc_auc_score(unseen, -values)
        print(f"{name:<18} {auroc:.3f}{values[~unseen].mean():18.2f}{values[unseen].mean():13.2f}")
    for name, found in (("refined", refined), ("q", plain)):
        sizes = [np.median(found["effective_sample_size"][rows]) for rows in (~unseen, unseen)]
        print(f"effective samples of 5000, {name:<8} {sizes[0]:.0f} (0 to 8), {sizes[1]:.0f} (9), medians")
    print(f"reliable: {refined['reliable'].mean():.1%} of the refined scores")
    _draw(unseen, scores, picture)


def _draw(unseen, scores, picture: Path) -> None:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    refined, plain, _ = scores.values()
    bins = np.linspace(refined.min(), refined.max(), 40)
    for rows, label in ((~unseen, "held-out digits 0 to 8"), (unseen, "the unseen 9")):
        left.hist(refined[rows], bins, density=True, alpha=0.6, label=label)
        right.plot(refined[rows], refined[rows] - plain[rows], ".", ms=4, label=label)
    left.set(xlabel="log p(x) in nats", ylabel="density", title="Scores")
    left.margins(y=0.3)
    left.legend(loc="upper left")
    for name, values in scores.items():
        false_alarms, found, _ = roc_curve(unseen, -values)
        middle.plot(false_alarms, found, label=f"{name}, AUROC {roc_auc_score(unseen, -values):.3f}")
    middle.plot([0, 1], [0, 1], ":", color="grey")
    middle.set(xlabel="share of digits 0 to 8 flagged", ylabel="share of nines found", title="ROC")
    middle.legend(loc="lower right")
    right.axhline(0.0, ls=":", color="grey")
    right.set(xlabel="log p(x) in nats", ylabel="log p(x) - L_5000 in nats", title="What q(h | x) misses")
    right.legend(loc="upper right")
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
