"""Layers: each maps features to the parameters of a distribution and knows how to read them.

A likelihood is a Keras layer made with `(units, initializer_seeds, mean)` whose `call` returns parameters and that has
`log_prob(parameters, value)`, `sample(parameters, key)`, `mean(parameters)`, `distribution(parameters)` (the same
thing as a TFP distribution), `in_support(value)` and the text `support`.

What ends q(h_l | .) and p(h_l | .) of a stochastic layer is made and read in the same way, and also has
`sample_and_log_prob(parameters, noise)`, a sample made of standard normal noise, and `described(parameters)`, the
parameters as a named tuple whose entries in `described_by` are shown to people. The prior p(h_L) of the top layer is
an object made with `units` that has `log_prob(value)`, `sample(n, key)`, `mean()` and the text `description`.
"""
