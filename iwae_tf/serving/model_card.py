"""The model card of an exported version: what it models, from which data, how well, and how to ask it.

Reference: Mitchell et al. (2019), "Model cards for model reporting".
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iwae_tf.evaluation.compare import mean_name
from iwae_tf.models.streaming import CHUNK, HARD_FACTOR
from iwae_tf.serving.scores import SCORE_COLUMNS

MODEL_CARD = Path("assets.extra") / "model_card.md"

_INTENDED = """\
Scores rows like those of its training data: log p(x), the logarithm of the probability or density that the model gives
to a row, in nats; higher is more typical. It also encodes rows, reconstructs them and draws new ones."""
_LIMITS = """\
- A score is an importance sampling estimate, which is too low rather than too high; rows with `reliable` = 0 may be far
  too low.
- log p(x) compares rows under this model. It compares models only with the same likelihood, the same units of the
  values and the same protocol.
- Rows unlike the training data can have high scores, e.g. images that are smoother than those of the training data.
- Other data than those of training, and data that drift, need a test of their own.
- Whoever trained the model knows where its data come from, whether they may be used, and which groups are
  under-represented; none of it is recorded here."""

_MISSING = """\
- log p(x) is that of the observed values, so scores and p-values of rows with different missing values do not compare.
"""


def _own_samples(provenance: Mapping[str, Any]) -> str:
    """Returns the number of samples of a score of `serving_default`, which a refined proposal adapts to the row."""
    number = provenance["num_samples"]
    return (
        f"{min(CHUNK, number)} to {HARD_FACTOR * number}, as a row needs" if provenance.get("refine") else str(number)
    )


def model_card(provenance: Mapping[str, Any]) -> str:
    """Returns the card in Markdown.

    Args:
        provenance: of the version, as in its `provenance.json`. Sections whose facts are missing, e.g. the results of
            a model that was exported without its run, are left out.
    """
    sections = {
        "Use": _INTENDED,
        "Model": _bullets(_model(provenance)),
        "Data": _bullets(_data(_section(provenance, "config", "data"))),
        "Training": _bullets(_training(_section(provenance, "config", "training"), _section(provenance, "metrics"))),
        "Results on the test split": _results(_section(provenance, "metrics")),
        "Input": _bullets(_input(provenance)),
        "Status of a row": _bullets(provenance.get("statuses", {})),
        "Held-out rows": _bullets(_held_out(_section(provenance, "held_out"))),
        "Limits": (_MISSING if provenance.get("missing") else "") + _LIMITS,
        "Software": _bullets(provenance.get("versions", {})),
    }
    title = f"# {provenance['model_name']}"
    return "\n\n".join([title, *(f"## {name}\n\n{text}" for name, text in sections.items() if text)]) + "\n"


def _section(content: Mapping, *names: str) -> Mapping:
    """Returns a section inside sections, empty where one of them is missing."""
    for name in names:
        content = content.get(name) or {}
    return content


def _bullets(facts: Mapping[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items() if value not in (None, "", [], ()))


def _model(provenance: Mapping) -> dict[str, Any]:
    units = " + ".join(map(str, provenance["latent_units"]))
    facts = {
        "kind": "importance weighted autoencoder",
        "stochastic layers": len(provenance["latent_units"]),
        "latent units": f"{units}, {provenance['latent']}",
        "likelihood": f"{provenance['likelihood']}; values: {provenance['observations']}",
    }
    if provenance.get("levels"):
        facts["levels of a value"] = provenance["levels"]
    settings = _section(provenance, "config", "model")
    return facts | {name: settings.get(key) for name, key in {"network": "network", "prior": "prior"}.items()}


def _data(data: Mapping) -> dict[str, Any]:
    names = {"data set": "dataset", "source": "source", "split": "split"}
    facts = {name: data.get(key) for name, key in names.items()}
    rows = [f"{data[f'num_{split}']} {split}" for split in ("train", "valid", "test") if f"num_{split}" in data]
    facts["rows"] = ", ".join(rows)
    facts["binarisation in training"] = data.get("binarization_train")
    facts["binarisation for scores"] = data.get("binarization_evaluation")
    checksums = data.get("sha256") or {}
    return facts | {f"SHA-256 of the {split} rows": value for split, value in checksums.items()}


def _training(training: Mapping, metrics: Mapping) -> dict[str, Any]:
    names = ("objective", "k", "epochs", "batch_size", "optimizer", "learning_rate", "schedule", "seed")
    facts = {name.replace("_", " "): training.get(name) for name in names}
    facts["starts from the weights of"] = training.get("init_from")
    if (epochs := metrics.get("best_epoch", metrics.get("epochs_done"))) not in (None, facts["epochs"]):
        facts["epochs"] = f"{epochs}, of at most {facts['epochs']}"
    return facts


def _results(metrics: Mapping) -> str:
    """Returns log p(x) and L_k with their standard errors over the rows, and the protocol; empty without them."""
    if not {"log_likelihood", "standard_error", "bounds", "bound_standard_errors"} <= set(metrics):
        return ""
    errors, reliability = metrics["bound_standard_errors"], metrics.get("reliability", {})
    name, counted = "estimate of log p(x)", {"reliable", "num_rows"} <= set(reliability)
    if counted:
        name = mean_name(reliability["reliable"], reliability["num_rows"])
    rows = [
        (name, metrics["log_likelihood"], metrics["standard_error"]),
        *((f"L_{k}", value, errors[k]) for k, value in metrics["bounds"].items()),
    ]
    table = ["| mean, in nats | estimate | standard error |", "|---|---|---|"]
    table += [f"| {name} | {value:.3f} | {error:.3f} |" for name, value, error in rows]
    facts = {"rows": metrics.get("num_test"), "samples of L_k for each row": metrics.get("num_samples")}
    if {"mean_num_samples", "largest_num_samples"} <= set(reliability):
        average, most = reliability["mean_num_samples"], reliability["largest_num_samples"]
        facts["samples of an estimate for each row"] = f"{average:.0f} on average, at most {most}"
    if counted:
        facts["reliable scores"] = f"{reliability['reliable']} of {reliability['num_rows']}"
    facts["active units"] = " + ".join(map(str, metrics.get("active_units", ())))
    protocol = metrics.get("protocol", {})
    facts |= {name: protocol.get(name) for name in ("binarization", "proposal", "seed")}
    return "\n".join(table) + "\n\n" + _bullets(facts)


def _held_out(held_out: Mapping) -> dict[str, Any]:
    """Returns what `p_value` is a share of, and below which log p(x) a row alarms."""
    alarms = _section(held_out, "alarm_below").items()
    return {"number": held_out.get("rows")} | {
        f"log p(x) below which a row alarms at a false alarm rate of {rate}": f"{value:.3f}" for rate, value in alarms
    }


def _input(provenance: Mapping) -> dict[str, Any]:
    facts = {"x": f"float32 [B, {provenance['data_dim']}], {provenance['values']}"}
    if provenance["input"] != "real":
        facts["grey pixels, between 0 and 1 once divided"] = provenance["input_rule"]
    facts["missing values"] = "NaN" if provenance["missing"] else "none; a row with NaN has a status"
    if provenance.get("columns"):
        facts["columns, in this order"] = ", ".join(
            f"{column['name']} ({column['likelihood']})" for column in provenance["columns"]
        )
    if SCORE_COLUMNS in provenance.get("signatures", ()):
        columns = _section(provenance, "config", "data")["table_columns"]
        texts = ", ".join(column["name"] for column in columns if column["kind"] == "category")
        kinds = f"text for {texts} and numbers for the others" if texts else "numbers for all"
        facts["rows by column"] = f"signature {SCORE_COLUMNS}, with {kinds}"
    return facts | {
        "samples of a score": f"{_own_samples(provenance)}; a request may ask for at most {provenance['max_samples']}"
    }
