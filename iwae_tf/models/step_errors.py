"""What a step finds wrong while it is computed, and how that reaches the user."""

import contextlib
import re

import tensorflow as tf

from iwae_tf.errors import InputError

BAD_INPUT = "iwae_tf bad input"
BAD_BOUND = "iwae_tf bound not finite"


def asserted(condition, message):
    """Context in which tensors are computed only once `condition` has been found true, in a graph as in eager mode."""
    check = tf.debugging.Assert(condition, message)
    return tf.control_dependencies([] if check is None else [check])


@contextlib.contextmanager
def plain_errors(model):
    """Turns the failed assertions of a step into errors that name what came and what to do."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        message = error.message
        if BAD_BOUND in message:
            raise InputError(
                f"the bound or its gradient is not finite at step {model.step}, which was not "
                "taken; a smaller learning rate is the usual remedy"
            ) from None
        if BAD_INPUT in message:
            came = re.sub(r"[][\s]|b?'", " ", message.split(BAD_INPUT, 1)[1].split("{{node")[0])  # graph or eager form
            came = " ".join(came.split())
            raise InputError(model.input_requirements(came)) from None
        raise
