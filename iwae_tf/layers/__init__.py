"""Layers: each maps features to the parameters of a distribution and knows how to read them.

`likelihood.Likelihood` says what a likelihood has, ours or a user's own; `registry` has the names.

What ends q(h_l | .) and p(h_l | .) of a stochastic layer is made and read in the same way, and also has
`sample_and_log_prob(parameters, noise)`, a sample made of standard normal noise, and `described(parameters)`, the
parameters as a named tuple whose entries in `described_by` are shown to people. The prior p(h_L) of the top layer is
an object made with `units` that has `log_prob(value)`, `sample(n, key)`, `mean()` and the text `description`.
"""

import importlib

_PUBLIC = {"Likelihood": "likelihood", "ConvEncoder": "conv", "ConvDecoder": "conv"}


def __getattr__(name: str):
    if name in _PUBLIC:  # they need TensorFlow, which the registry does not
        return getattr(importlib.import_module(f"iwae_tf.layers.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
