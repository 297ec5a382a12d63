import keras
import numpy as np
import pytest

from iwae_tf.training.schedule import paper_schedule

PAPER_EPOCHS = 3280
FLOAT32 = {"rtol": 1e-6}  # Keras keeps learning rates in float32


def rates(schedule, steps):
    return np.asarray(schedule(np.array(steps)), np.float64)


@pytest.mark.parametrize("steps_per_epoch", [1, 10, 2980])
def test_stage_i_of_the_paper_lasts_3_to_the_i_epochs_at_its_rate(steps_per_epoch):
    schedule = paper_schedule(1e-3, PAPER_EPOCHS * steps_per_epoch)
    first = 0
    for stage in range(8):
        last = first + 3**stage * steps_per_epoch - 1
        steps = [first, (first + last) // 2, last]
        np.testing.assert_allclose(rates(schedule, steps), 1e-3 * 10 ** (-stage / 7), **FLOAT32)
        first = last + 1
    assert first == PAPER_EPOCHS * steps_per_epoch
    np.testing.assert_allclose(rates(schedule, [0, first - 1]), [1e-3, 1e-4], **FLOAT32)


@pytest.mark.parametrize("learning_rate", [1e-2, 5e-4])
def test_the_rate_falls_from_the_one_given_to_a_tenth_of_it(learning_rate):
    schedule = paper_schedule(learning_rate, 3280)
    np.testing.assert_allclose(rates(schedule, [0, 3279]), [learning_rate, learning_rate / 10], **FLOAT32)


@pytest.mark.parametrize("total_steps", [6560, 1640, 1000, 100])
def test_a_run_of_another_length_stretches_every_stage_in_proportion(total_steps):
    found = rates(paper_schedule(1e-3, total_steps), range(total_steps))
    stages = np.round(-7 * np.log10(found / 1e-3)).astype(int)
    assert (np.diff(stages) >= 0).all()
    lengths = np.bincount(stages, minlength=8)
    # either end of a stage is rounded to a step
    assert (np.abs(lengths - total_steps * 3.0 ** np.arange(8) / PAPER_EPOCHS) <= 1.0).all()
    assert lengths.sum() == total_steps


@pytest.mark.parametrize("total_steps", [1, 2, 5])
def test_a_run_of_a_few_steps_has_a_rate_for_each_and_ends_at_a_tenth(total_steps):
    found = rates(paper_schedule(1e-3, total_steps), range(total_steps))
    assert (np.diff(found) <= 0).all()
    assert found.max() <= 1e-3 * (1 + 1e-6)  # float32
    np.testing.assert_allclose(found[-1], 1e-4, **FLOAT32)


def test_the_optimizer_takes_the_rate_of_the_step_that_it_is_about_to_take():
    optimizer = keras.optimizers.SGD(paper_schedule(1.0, 3280))
    weight = keras.Variable([0.0])
    optimizer.build([weight])
    taken = []
    for _ in range(5):
        before = float(weight[0])
        optimizer.apply([keras.ops.ones(1)], [weight])
        taken.append(before - float(weight[0]))
    # one epoch of one step, then three, then nine; the weight itself is float32 of up to 4
    np.testing.assert_allclose(taken, [10 ** (-stage / 7) for stage in (0, 1, 1, 1, 2)], atol=1e-6)


def test_the_schedule_survives_saving():
    schedule = paper_schedule(1e-3, 3280)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    steps = [0, 1, 3, 4, 1092, 1093, 3279]
    np.testing.assert_array_equal(rates(again, steps), rates(schedule, steps))
