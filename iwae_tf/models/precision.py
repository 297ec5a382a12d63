"""Which Keras dtype policies a model may have, and what they mean here."""

from iwae_tf.errors import InputError

POLICIES = ("float32", "mixed_bfloat16")


def checked_policy(policy):
    """The dtype policy, if scores and gradients under it can be trusted.

    Under "mixed_bfloat16" the hidden tanh layers compute in bfloat16. The weights, the layers that make `loc`, the log
    scale and the logits, and all that is computed from these stay in float32. A model keeps its policy when it is
    saved, so that its scores do not depend on who loads it.

    Args:
        policy: a `keras.DTypePolicy`.

    Raises:
        InputError: (a `ValueError`) for any other. Small gradients vanish in float16 unless the loss is scaled, which
            the training step does not do; weights of 16 bits lose small steps; noise and densities are float32, so
            that float64 would promise digits that are not there.
    """
    if policy.name not in POLICIES:
        raise InputError(
            f"the dtype policy must be {' or '.join(POLICIES)}, got {policy.name!r}: pass dtype='float32' to the "
            "model, or call keras.config.set_dtype_policy('float32') before making it"
        )
    return policy
