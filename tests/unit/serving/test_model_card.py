"""The model card: what it says of a run and of a model without one, and that it is part of an exported version."""

import json
import shutil

import pytest
from run_files import BOUNDS, ERRORS, config_of, metrics_of

from iwae_tf.errors import InputError
from iwae_tf.serving.model_card import MODEL_CARD, model_card
from iwae_tf.serving.model_folder import PROVENANCE, verified_checksum


@pytest.fixture
def provenance(small_folder):
    return json.loads((small_folder / PROVENANCE).read_text())


def _sections(card: str) -> dict[str, str]:
    """Returns the text of each section by its heading."""
    return dict(text.partition("\n\n")[::2] for text in card.split("\n## ")[1:])


def test_the_card_has_the_numbers_of_the_run_with_their_errors(provenance):
    reliability = {"reliable": 15, "num_rows": 20, "mean_num_samples": 613.4, "largest_num_samples": 2000}
    metrics = metrics_of(reliability=reliability, protocol={"seed": 3, "proposal": "refined"})
    card = model_card(provenance | {"config": config_of(training={"k": 7}), "metrics": metrics})
    assert card.startswith("# small\n\n## Use\n")
    sections = _sections(card)
    for k, value in BOUNDS.items():
        assert f"| L_{k} | {value:.3f} | {ERRORS[k]:.3f} |" in sections["Results on the test split"]
    assert f"| lower bound on log p(x) | {BOUNDS[50]:.3f} | {ERRORS[50]:.3f} |" in sections["Results on the test split"]
    metrics["reliability"]["reliable"] = 18
    assert f"| log p(x) | {BOUNDS[50]:.3f} |" in model_card(provenance | {"metrics": metrics})
    samples = "samples of L_k for each row: 50\n- samples of an estimate for each row: 613 on average, at most 2000\n"
    assert samples in card
    assert "- reliable scores: 15 of 20\n- active units: 3\n- proposal: refined\n- seed: 3" in card
    assert "- rows: 60 train, 10 valid, 20 test\n" in sections["Data"]
    assert "- split: a split\n" in sections["Data"]
    assert "- k: 7\n- epochs: 60\n" in sections["Training"]
    assert "starts from" not in sections["Training"]
    started = model_card(provenance | {"config": config_of(training={"init_from": "runs/first"}), "metrics": metrics})
    assert "- starts from the weights of: runs/first\n" in started
    for ended in ({"epochs_done": 23}, {"epochs_done": 33, "best_epoch": 23}):
        assert "- epochs: 23, of at most 60\n" in model_card(
            provenance | {"config": config_of(), "metrics": metrics_of(**ended)}
        )
    assert "- latent units: 5 + 3, gaussian\n- likelihood: bernoulli;" in sections["Model"]
    assert "x: float32 [B, 12], as they are" in sections["Input"]
    assert "- 3: the score is not finite" in sections["Status of a row"]
    assert "too low rather than too high" in sections["Limits"]


def test_a_model_without_its_run_has_a_card_without_data_and_results(provenance):
    sections = _sections(model_card(provenance | {"config": None, "metrics": None, "held_out": None}))
    assert list(sections) == ["Use", "Model", "Input", "Status of a row", "Limits", "Software"]


def test_the_card_says_when_a_row_alarms(provenance):
    held_out = {"rows": 400, "alarm_below": {"0.01": -41.25, "0.05": -38.5}}
    text = _sections(model_card(provenance | {"held_out": held_out}))["Held-out rows"]
    alarm = "log p(x) below which a row alarms at a false alarm rate of"
    assert text == f"- number: 400\n- {alarm} 0.01: -41.250\n- {alarm} 0.05: -38.500\n"
    assert "Held-out rows" not in _sections(model_card(provenance | {"held_out": None}))


def test_the_columns_of_a_table_are_listed_in_order(provenance):
    columns = [{"name": "age", "likelihood": "student-t"}, {"name": "colour", "likelihood": "categorical"}]
    sections = _sections(model_card(provenance | {"columns": columns, "missing": True}))
    assert "- columns, in this order: age (student-t), colour (categorical)\n" in sections["Input"]
    assert "- missing values: NaN\n" in sections["Input"]
    assert "rows with different missing values do not compare" in sections["Limits"]


@pytest.mark.parametrize(
    ("number", "refine", "words"),
    [(5000, True, "500 to 20000, as a row needs"), (100, True, "100 to 400, as a row needs"), (5000, False, "5000")],
)
def test_the_card_has_the_samples_of_a_score(provenance, number, refine, words):
    text = _sections(model_card(provenance | {"num_samples": number, "refine": refine}))["Input"]
    assert f"- samples of a score: {words}; a request may ask for at most" in text


def test_the_card_of_an_export_is_that_of_its_provenance_and_part_of_the_checksum(small_folder, provenance, tmp_path):
    assert (small_folder / MODEL_CARD).read_text() == model_card(provenance)
    assert MODEL_CARD.as_posix() in provenance["files"]
    version = shutil.copytree(small_folder, tmp_path / "1")
    assert verified_checksum(version) == provenance["checksum"]
    (version / MODEL_CARD).write_text("a better model")
    with pytest.raises(InputError, match="its files have changed since the export"):
        verified_checksum(version)
