"""Learning rates over a run."""

import keras

STAGES = 8


def paper_schedule(learning_rate: float, total_steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """The paper's eight stages: stage i takes 3^i / 3280 of the steps at learning_rate * 10^(-i/7).

    Over 3,280 passes that is 3^i passes in stage i; shorter runs shorten every stage in proportion.

    Reference: Burda, Grosse, Salakhutdinov (2016), section 5.
    """
    ends = [sum(3**j for j in range(i + 1)) for i in range(STAGES)]
    boundaries = [round(total_steps * end / ends[-1]) for end in ends[:-1]]
    # Keras changes to the next value after the boundary step, the paper at it.
    rates = [learning_rate * 10 ** (-i / (STAGES - 1)) for i in range(STAGES)]
    return keras.optimizers.schedules.PiecewiseConstantDecay([b - 1 for b in boundaries], rates)
