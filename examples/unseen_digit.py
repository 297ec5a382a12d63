"""Anomaly scores: a model of the handwritten digits 0 to 8 meets the 9.

`prepare` writes the images; `report` reads their scores, asks the model for contributions, and draws two figures;
docs/anomalies.md has the commands between.
"""

import argparse
import sys
from pathlib import Path

import matplotlib
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score, roc_curve

matplotlib.use("Agg")
import matplotlib.pyplot as plt

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from iwae_tf.plots import style
from iwae_tf.serving.client import ScoringClient

UNSEEN = 9
NUM_TRAIN = 1397  # images of the data set that may be trained on; the others are held-out rows or scored, by turns
EXPLAINED = 5  # nines in the figure of contributions
RATES = (0.01, 0.05, 0.1)


def prepare(folder: Path) -> None:
    """Writes `digits-0-to-8.npz`, to train on and with held-out rows, and `test.npz`: other digits and all nines."""
    digits = load_digits()
    x, y = (digits.data / 16).astype(np.float32), digits.target
    number, seen = np.arange(len(x)), y != UNSEEN
    train, held_out = number < NUM_TRAIN, (number >= NUM_TRAIN) & (number % 2 == 0)
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "digits-0-to-8.npz", x_train=x[seen & train], x_test=x[seen & held_out])
    test = ~seen | ~(train | held_out)
    np.savez(folder / "test.npz", x=x[test], y=y[test])


def report(folder: Path, picture: Path) -> None:
    """Prints how well each score tells the nines from the others, and what the refined proposals find; draws it."""
    unseen = np.load(folder / "test.npz")["y"] == UNSEEN
    refined, plain = np.load(folder / "scores.npz"), np.load(folder / "scores-q.npz")
    scores = {"log p(x), refined": refined["log_prob"], "L_5000": plain["log_prob"], "ELBO": plain["elbo"]}
    print(f"{(~unseen).sum()} new digits 0 to 8, {unseen.sum()} nines\n")
    print("score              AUROC    mean of 0 to 8    mean of 9")
    for name, values in scores.items():
        auroc = roc_auc_score(unseen, -values)
        print(f"{name:<18} {auroc:.3f}{values[~unseen].mean():18.2f}{values[unseen].mean():13.2f}")
    for name, found in (("refined", refined), ("q", plain)):
        errors = [np.median(found["standard_error"][rows]) for rows in (~unseen, unseen)]
        print(f"standard error, {name:<8} {errors[0]:.3f} (0 to 8), {errors[1]:.3f} (9), medians")
    print(f"reliable: {refined['reliable'].mean():.1%} of the refined scores")
    for rate in RATES:
        of_seen, of_nines = (np.mean(refined["p_value"][rows] <= np.float32(rate)) for rows in (~unseen, unseen))
        print(f"alarms at a false alarm rate of {rate:.0%}: {of_seen:.1%} of 0 to 8, {of_nines:.1%} of the nines")
    _draw(unseen, scores, picture)


def explain(folder: Path, url: str, picture: Path) -> None:
    """Draws an ordinary digit and the nines with the lowest log p(x), and the contributions of their pixels."""
    with np.load(folder / "test.npz") as test, np.load(folder / "scores.npz") as scores:
        x, y, log_prob, p_value = test["x"], test["y"], scores["log_prob"], scores["p_value"]
    order = np.argsort(log_prob)
    seen, nines = order[y[order] != UNSEEN], order[y[order] == UNSEEN]
    shown = np.append(seen[len(seen) // 2], nines[:EXPLAINED])
    with ScoringClient(url) as client:
        contributions = client.explain(x[shown])
    notes = [
        f"left: the {y[shown[0]]} with the median score of the digits 0 to 8; then the nines with the lowest scores",
        "red: pixels less likely than those of held-out digits, which lower the score; blue: more likely",
    ]
    figure = style.page("Which pixels are strange", notes, width=760, height=300)
    axes, largest = figure.subplots(2, len(shown)), np.nanmax(np.abs(contributions))
    for (above, below), row, values in zip(axes.T, shown, contributions, strict=True):
        above.imshow(x[row].reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
        look = {"fontsize": style.SMALL, "color": style.INK}
        above.set_title(f"log p(x) {style.number(log_prob[row], 1)}\np-value {p_value[row]:.3f}", **look)
        heat = below.imshow(values.reshape(8, 8), cmap="RdBu", vmin=-largest, vmax=largest)
    for one in axes.flat:
        one.set(xticks=[], yticks=[])
    bar = figure.colorbar(heat, ax=axes[1], fraction=0.05, pad=0.01)
    bar.set_label("contribution in nats", fontsize=style.SMALL)
    bar.ax.tick_params(labelsize=style.SMALL)
    style.write(figure, picture)


def _draw(unseen, scores, picture: Path) -> None:
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    refined, plain, _ = scores.values()
    bins = np.linspace(refined.min(), refined.max(), 40)
    for rows, label in ((~unseen, "new digits 0 to 8"), (unseen, "the unseen 9")):
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
    right.margins(y=0.25)
    right.legend(loc="upper right", markerscale=2)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("prepare", "report"))
    parser.add_argument("--folder", type=Path, default=Path("runs/unseen-digit"), help="where the files are")
    parser.add_argument("--url", default="export/models/digits-0-to-8", help="the model that explains the scores")
    parser.add_argument("--pictures", type=Path, help="where the two figures go (default: the folder)")
    arguments = parser.parse_args()
    if arguments.step == "prepare":
        prepare(arguments.folder)
    else:
        pictures = arguments.pictures or arguments.folder
        report(arguments.folder, pictures / "unseen_digit.png")
        explain(arguments.folder, arguments.url, pictures / "unseen_digit-contributions.png")
