"""Sizes that do not fit into memory are refused with the sum before anything is built."""

import numpy as np
import pytest

from iwae_tf import IWAE, InputError, memory
from iwae_tf.commands.main import main
from iwae_tf.objectives import JVI, MIWAE, TVO, IWAEBound

GIB = 2**30


@pytest.fixture
def small_machine(monkeypatch):
    """A machine of 1 GiB."""
    monkeypatch.setattr(memory, "available", lambda: GIB)


def test_the_number_of_weights_is_that_of_the_models():
    for sizes in ((784, (50,), ((200, 200),)), (12, (100, 50), ((20, 30), ())), (8, (3,), ((),))):
        found = IWAE(*sizes).count_params() - 1  # the number of batches
        assert memory.count_weights(*sizes) == found


def test_the_memory_is_that_of_the_machine_or_of_its_group(tmp_path, monkeypatch):
    machine = memory.available()
    for text, expected in ((f"{GIB // 2}\n", GIB // 2), ("max\n", machine), (f"{2**62}", machine)):
        (tmp_path / "max").write_text(text)
        monkeypatch.setattr(memory, "LIMITS", (str(tmp_path / "max"), str(tmp_path / "none")))
        assert memory.available() == expected


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--k", "1000000"], "for the layers' outputs of 20 x 1000000 samples"),
        (["--k", "1000000", "--backward-samples", "2"], "for noise and log-weights"),
        (["--k", "20000", "--batch-size", "1"], "for validation with k = 20000"),
        (["--k", str(10**12)], "k must be at most 500000000"),
        (["--k", str(500_000_000)], "GiB for the log-weights of iwae"),
        (["--latent-units", str(10**20)], "GiB for weights"),
        (["--latent-units", str(10**4000)], "GiB for weights"),
        (["--hidden-units", str(10**9)], "GiB for weights"),
        (["--batch-size", str(10**30)], "batch_size must be at most 500000000"),
        (["--k", "20000", "--batch-size", str(4 * 10**8)], "outputs of 1297 x 20000 samples"),
        (["--k", "20000", "--objective", "jvi", "--order", "2"], "log-weights of jvi"),
        (["--objective", "tvo", "--points", str(10**9)], "log-weights of tvo"),
        (["--eval-samples", str(2**31)], "eval_samples must be at most"),
        (["--epochs", str(10**30)], "epochs must be at most"),
    ],
)
def test_flags_that_ask_for_more_memory_than_there_is_end_in_one_line(flags, words, small_machine, tmp_path, capsys):
    assert main(["train", *flags, "--output-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_the_sum_names_its_parts_and_what_to_lower(small_machine):
    model = IWAE(12, 3, 8)
    model.compile(objective=IWAEBound(10**6))
    with pytest.raises(InputError, match=r"^not enough memory: .* \+ 2.74 GiB for .* 32 x .* the 1 GiB .* lower k"):
        model.fit(np.zeros([100, 12]), verbose=0)
    with pytest.raises(InputError, match=r"GiB for log-weights .*take log_weight_chunks"):
        model.log_weights(np.zeros([2, 12]), 4 * 10**8)
    with pytest.raises(InputError, match=r"GiB for draws .*lower n"):
        model.sample(10**9)


def test_settings_that_fit_take_no_time(small_machine):
    JVI(1000, order=2).check_model((3,), True)
    TVO(50, points=1000).check_model((3,), True)
    with pytest.raises(InputError, match="groups must divide the number of samples, 499999998, got 4; 3 does"):
        MIWAE(499_999_998, groups=4)


@pytest.mark.parametrize(("levels", "words"), [(2**16 + 1, "levels must be at most 65536"), (2**16, "an output layer")])
def test_levels_are_a_size_too(levels, words, small_machine):
    with pytest.raises(InputError, match=words):
        IWAE(784, 3, 50, likelihood="categorical", levels=levels)
