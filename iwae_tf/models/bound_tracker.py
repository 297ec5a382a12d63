"""The running mean of the bound."""

import keras


class BoundTracker(keras.metrics.Metric):
    """Mean of the bound over the examples seen, of all replicas, and the same on each.

    Keras' own `Mean` keeps a sum for each replica, which can only be read by all workers together: a worker that saves
    it alone would wait for the others.
    """

    def __init__(self, name: str = "bound"):
        super().__init__(name=name)
        self.total, self.count = (
            keras.Variable(0.0, trainable=False, aggregation="only_first_replica", name=part)
            for part in ("total", "count")
        )

    def update_state(self, bound_sum, num_examples):
        """Adds the sum of the bound over so many examples, of all replicas together."""
        self.total.assign_add(bound_sum)
        self.count.assign_add(num_examples)

    def result(self):
        return self.total / self.count

    def reset_state(self):
        self.total.assign(0.0)
        self.count.assign(0.0)
