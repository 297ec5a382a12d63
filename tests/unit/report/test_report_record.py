"""What the report reads from the files of a run."""

import json

import numpy as np
import pytest
from run_files import BOUNDS, config_of, history_of, metrics_of, record_of, write_run

from iwae_tf import InputError
from iwae_tf.report.record import names_of, read_record, read_records


def test_an_evaluated_run_is_read_from_its_files(tmp_path):
    record = record_of(tmp_path / "run")
    assert record.metrics["bounds"] == BOUNDS
    assert record.metrics["active_units"] == [3]
    np.testing.assert_array_equal(record.history["bound"], [-38, -36, -34, -32])
    np.testing.assert_array_equal(record.history["val_bound"], [-38.5, -36.5, -34.5, -32.5])
    assert record.steps == (12, 12)
    np.testing.assert_array_equal(record.scores.log_likelihood, -30.0 - np.arange(20.0))
    np.testing.assert_array_equal(record.scores.unit_activities, [[0.02, 0.5, 0.009, 0.01]])
    assert record.plugins == ()
    assert not record.has_model


def test_a_history_may_be_missing_cut_off_or_without_validation(tmp_path):
    record = read_record(write_run(tmp_path / "begun"))
    assert (record.metrics, record.scores, record.steps) == (None, None, (0, 12))
    assert all(values.shape == (0,) for values in record.history.values())
    record = read_record(write_run(tmp_path / "cut-off", history=history_of(2, validated=False) + "3,9,-34.0,"))
    np.testing.assert_array_equal(record.history["step"], [3, 6])
    assert np.isnan(record.history["val_bound"]).all()


def test_a_setting_that_is_newer_than_the_run_has_its_default(tmp_path):
    config = config_of()
    del config["model"]["latent"], config["objective"], config["training"]["init_from"]
    record = read_record(write_run(tmp_path / "run", config))
    assert record.config["model"]["latent"] == "gaussian"
    assert record.config["objective"]["alpha"] is None
    assert record.config["training"]["init_from"] is None
    config |= {"plugins": ["my_objective"], "callbacks": ["my_callbacks:logger"]}
    record = read_record(write_run(tmp_path / "plugin", config))
    assert (record.plugins, record.callbacks) == (("my_objective",), ("my_callbacks:logger",))


# ---------------------------------------------------------------------------------------------- what cannot be read


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("config.json", "{", "cannot be read as JSON"),
        ("config.json", "[]", "holds no settings"),
        ("config.json", '{"data": {}, "model": 3}', "no section model and no training"),
        ("metrics.json", "{", "cannot be read as JSON"),
        ("metrics.json", "{}", "metrics.json is damaged"),
        ("metrics.json", json.dumps(metrics_of(bounds={"x": 1.0})), "metrics.json is damaged"),
        ("metrics.json", json.dumps(metrics_of(bounds={"1": 1.0})), "have other k"),
        ("metrics.json", json.dumps(metrics_of(log_likelihood=None)), "metrics.json is damaged"),
        ("history.csv", "a,b\n1,2\n", ""),
        ("history.csv", history_of(1).replace("-38.5", "low"), "cannot be read as the history"),
        ("history.csv", "epoch,seconds\n1,2\n", "cannot be read as the history"),
        ("scores.parquet", "no table", "scores.parquet is damaged"),
    ],
)
def test_a_damaged_file_is_named_in_one_line(tmp_path, name, text, message):
    run = write_run(tmp_path / "run")
    (run / name).write_text(text)
    if not message:  # a history without the column of seconds has no complete line
        assert len(read_record(run).history["epoch"]) == 0
        return
    with pytest.raises(InputError, match=message) as error:
        read_record(run)
    assert name in str(error.value)


def test_what_is_no_run_folder_is_refused(tmp_path):
    write_run(tmp_path / "digits-k5")
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"did you mean .*digits-k5"):
        read_record(tmp_path / "digits-k6")
    with pytest.raises(InputError, match="there is no run folder"):
        read_record(tmp_path / "file")
    with pytest.raises(InputError, match=r"it has no config\.json"):
        read_record(tmp_path / "empty")


def test_a_run_is_shown_once_eight_at_most_and_folders_of_one_name_go_by_their_paths(tmp_path):
    run = write_run(tmp_path / "run")
    with pytest.raises(InputError, match="given twice"):
        read_records([run, tmp_path / "run" / ".." / "run"])
    with pytest.raises(InputError, match="at most 8 runs go side by side, got 9"):
        read_records([tmp_path / str(number) for number in range(9)])
    assert len(read_records([run])) == 1
    paths = [tmp_path / "a" / "run", tmp_path / "b" / "run", tmp_path / "c"]
    assert names_of(paths) == [str(paths[0]), str(paths[1]), "c"]
