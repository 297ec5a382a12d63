"""Layers: each maps features to the parameters of a distribution and knows how to read them.

A likelihood is a Keras layer made with `(units, initializer_seeds, mean)` whose `call` returns parameters and that has
`log_prob(parameters, value)`, `sample(parameters, key)`, `mean(parameters)`, `distribution(parameters)` (the same
thing as a TFP distribution), `in_support(value)` and the text `support`.
"""
