"""Which Keras dtype policies a model may have, and what they mean here."""

from iwae_tf.errors import InputError

# Keras' policy for each `precision` of `iwae_tf.config.ModelConfig`.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


def checked_policy(policy):
    """The dtype policy, if scores and gradients under it can be trusted.

    Under the mixed ones the hidden tanh layers compute in 16 bits, and under bfloat16 the product that makes Bernoulli
    logits in a log-likelihood (`iwae_tf.layers.bernoulli_density`). The weights, the layers that make `loc` and the log
    scale, and all that is computed from these and from logits stay in float32. A model keeps its policy when it is
    saved, so that its scores do not depend on who loads it.

    bfloat16 has the range of float32 and 8 bits. float16 has 11 bits and little range, and so its gradients are scaled
    on their way through each layer (`iwae_tf.layers.float16`).

    Args:
        policy: a `keras.DTypePolicy`.

    Raises:
        InputError: (a `ValueError`) for any other. Weights of 16 bits lose small steps; noise and densities are
            float32, so that float64 would promise digits that are not there.
    """
    if policy.name not in POLICIES.values():
        *others, last = POLICIES.values()
        raise InputError(
            f"the dtype policy must be {', '.join(others)} or {last}, got {policy.name!r}: pass dtype='float32' to the "
            "model, or call keras.config.set_dtype_policy('float32') before making it"
        )
    return policy
