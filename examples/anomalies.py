"""Alarms on a table: a model of benign tumours meets malignant ones.

scikit-learn's breast cancer table: 30 measurements each of 357 benign and 212 malignant tumours. `prepare` writes the
rows to train on and the rows to score, `report` reads the scores and draws the figure; docs/anomalies.md has the
commands between. `repeat` does all of it with several seeds, each with other benign rows to train on.
"""

import argparse
import logging
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.csv
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import iwae_tf
from iwae_tf.commands.main import main
from iwae_tf.plots import style

UNSEEN = 80  # benign rows that are scored, and neither trained on nor held out
SPLIT = "0.5,0.05,0.45"  # shares of train, valid and test: the test rows are the held-out rows of the p-values
EPOCHS, SAMPLES, SEEDS = 100, 5000, 5
RATES = (0.01, 0.05, 0.1)
STRANGEST = 3  # columns of each row


def prepare(folder: Path, seed: int) -> None:
    """Writes `benign.csv`, rows to train on, and `others.csv`, other benign and all malignant rows."""
    table = load_breast_cancer()
    rng = np.random.default_rng(seed)
    benign = rng.permutation(np.flatnonzero(table.target == 1))
    order = np.concatenate([benign, rng.permutation(np.flatnonzero(table.target == 0))])
    columns = {"id": np.arange(len(order)), "tumour": np.where(table.target == 1, "benign", "malignant")[order]}
    columns |= dict(zip(table.feature_names, table.data[order].T, strict=True))
    rows = pyarrow.table(columns)
    known = len(benign) - UNSEEN
    folder.mkdir(parents=True, exist_ok=True)
    pyarrow.csv.write_csv(rows.slice(0, known).drop_columns("tumour"), folder / "benign.csv")
    pyarrow.csv.write_csv(rows.slice(known), folder / "others.csv")


def read(folder: Path) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Returns the columns of `scores.csv`, and which of its rows are malignant."""
    scores = pyarrow.csv.read_csv(folder / "scores.csv")
    tumour = pyarrow.csv.read_csv(folder / "others.csv")["tumour"].to_numpy()
    return {name: scores[name].to_numpy() for name in scores.column_names}, tumour == "malignant"


def measured(folder: Path) -> dict[str, float]:
    """Returns the AUROC of log p(x) and of two baselines on the same rows, and the shares of rows that alarm."""
    scores, malignant = read(folder)
    shares = [float(share) for share in SPLIT.split(",")]
    train = iwae_tf.data.load(str(folder / "benign.csv"), id_column="id", split=shares).x_train
    others = pyarrow.csv.read_csv(folder / "others.csv").drop_columns(["id", "tumour"])
    scaler = StandardScaler().fit(train)
    train, x = scaler.transform(train), scaler.transform(np.stack([c.to_numpy() for c in others.columns], axis=1))
    mixtures = [GaussianMixture(n, reg_covar=1e-3, random_state=0).fit(train) for n in range(1, 6)]
    mixture = min(mixtures, key=lambda fitted: fitted.bic(train))
    found = {"AUROC, log p(x)": roc_auc_score(malignant, -scores["log_prob"])}
    found["AUROC, Gaussian mixture"] = roc_auc_score(malignant, -mixture.score_samples(x))
    forest = IsolationForest(random_state=0).fit(train)
    found["AUROC, isolation forest"] = roc_auc_score(malignant, -forest.score_samples(x))
    for rate in RATES:
        for name, rows in (("benign", ~malignant), ("malignant", malignant)):
            found[f"{name} rows that alarm at {rate:g}"] = np.mean(scores["p_value"][rows] <= np.float32(rate))
    return found


def report(folders: list[Path], picture: Path) -> None:
    """Prints the measures of one run, or their mean and standard deviation over several, and draws the figure."""
    found = [measured(folder) for folder in folders]
    for name in found[0]:
        values = [one[name] for one in found]
        spread = f" +- {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
        print(f"{name:<34} {np.mean(values):.3f}{spread}")
    _draw([read(folder) for folder in folders], picture)


def _draw(found: list, picture: Path) -> None:
    runs = f"each of {len(found)} runs" if len(found) > 1 else "one run"
    notes = [
        f"left: cumulative distributions of the p-values in {runs}; right: how many of the malignant rows that alarm, "
        f"at a false alarm rate of 0.05, have the column among their {STRANGEST} strangest"
    ]
    figure = style.page("Alarms of a model of benign tumours", notes, width=760, height=360)
    shares = ("share of rows with at most this p-value", "share of the malignant rows that alarm")
    labels = [("p-value", shares[0]), (shares[1], "column")]
    left, right = style.panels(figure, labels)
    left.plot([0, 1], [0, 1], color=style.QUIET, linestyle=style.DASHED, linewidth=1.2, label="exact p-values")
    counts = {}
    for run, (scores, malignant) in enumerate(found):
        for rows, color, name in ((malignant, style.ACCENT, "malignant"), (~malignant, style.LINE, "unseen benign")):
            left.ecdf(scores["p_value"][rows], color=color, linewidth=1.2, label=None if run else name)
        alarming = malignant & (scores["p_value"] <= np.float32(0.05))
        for place in range(1, STRANGEST + 1):
            for name in scores[f"strange_{place}"][alarming]:
                counts[name] = counts.get(name, 0.0) + 1 / alarming.sum() / len(found)
    left.legend(loc="lower right", frameon=False, fontsize=style.SMALL, labelcolor=style.INK)
    left.set(xlim=(0, 1), ylim=(0, 1.02))
    shown = sorted(counts, key=counts.get)[-10:]
    right.barh(shown, [counts[name] for name in shown], color=style.ACCENT, height=0.7)
    right.grid(visible=False, axis="y")
    right.grid(axis="x", color=style.FAINT, linewidth=0.8)
    right.tick_params(axis="y", length=0, labelcolor=style.INK)
    picture.parent.mkdir(parents=True, exist_ok=True)
    style.write(figure, picture)


def repeat(folder: Path, picture: Path) -> None:
    """Prepares, trains, exports and scores with each seed in a folder of its own, and reports all of them."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it warns of several exports in one process
    folders = [folder / f"seed{seed}" for seed in range(SEEDS)]
    for seed, one in enumerate(folders):
        prepare(one, seed)
        rows, run, model = str(one / "benign.csv"), str(one / "run"), str(one / "models" / "benign")
        samples = ["--latent-units", "5", "--hidden-units", "50,50", "--eval-samples", str(SAMPLES), "--overwrite"]
        settings = ["--id-column", "id", "--split", SPLIT, "--epochs", str(EPOCHS), *samples, "--seed", str(seed)]
        (one / "scores.csv").unlink(missing_ok=True)
        flags = ["--id-column", "id", "--false-alarm-rate", "0.05", "--explain", str(STRANGEST)]
        for words in (
            ["train", "--dataset", rows, "--output-dir", run, "--verbose", "0", *settings],
            ["export", run, "--name", "benign", "--output-dir", str(one / "models"), "--num-samples", str(SAMPLES)],
            ["score", str(one / "others.csv"), "--url", model, *flags, "--out", str(one / "scores.csv")],
        ):
            if code := main(words):
                sys.exit(code)
    report(folders, picture)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("prepare", "report", "repeat"))
    parser.add_argument("--folder", type=Path, default=Path("runs/anomalies"), help="where the files are")
    parser.add_argument("--picture", type=Path, help="where the figure goes (default: anomalies.png in the folder)")
    arguments = parser.parse_args()
    picture = arguments.picture or arguments.folder / "anomalies.png"
    if arguments.step == "prepare":
        prepare(arguments.folder, seed=0)
    else:
        (repeat if arguments.step == "repeat" else lambda folder, to: report([folder], to))(arguments.folder, picture)
