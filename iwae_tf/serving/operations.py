"""Checks what the graph of a SavedModel does before TensorFlow loads it, as a model is code.

Files, processes and Python functions are named by text, and operations that act on the outside are stateful. The
exports of this package calculate with numbers, so neither is needed. Operations on values of any type, such as `Equal`
by which `score_columns` compares text, are allowed: they name nothing. TensorFlow is imported with this module.
"""

from collections.abc import Iterable

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

_ALLOWED = {  # although they are stateful, or take a text
    *("ReadVariableOp", "ResourceGather", "ResourceGatherNd", "VarHandleOp", "VariableShape"),
    *("Case", "If", "StatefulPartitionedCall", "While"),  # the functions that they call are checked
    *("Assert", "CheckNumerics", "Fingerprint", "StatelessRandomGetAlg"),
}
_TEXTS = {  # attributes of harmless text that TensorFlow declares without a list of values
    *("config", "config_proto", "executor_type", "frame_name", "message"),
    *("data_format", "src_format", "dst_format", "equation", "noise", "set_operation"),
    *("bad_indices_policy", "interpolation", "fill_mode", "kernel_type"),
}
# In functions that Python cannot call: a SavedModel has two, with which other loaders read and write its variables.
_SAVER = {
    *("SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "StaticRegexFullMatch", "StringJoin"),
    *("AssignVariableOp", "DisableCopyOnRead"),
}


def refused_operations(meta_graph) -> list[str]:
    """Returns the names of the operations that may touch files, processes or Python, sorted; empty for our exports.

    Args:
        meta_graph: the `MetaGraphDef` of a SavedModel of TensorFlow 2, with its object graph.
    """
    functions = {function.signature.name: function.node_def for function in meta_graph.graph_def.library.function}
    callable_names, waiting = set(), set(meta_graph.object_graph_def.concrete_functions)
    while waiting:
        name = waiting.pop()
        callable_names.add(name)
        waiting |= _called(functions.get(name, ())) - callable_names
    refused = {node.op for node in meta_graph.graph_def.node if not _harmless(node.op) and node.op not in _SAVER}
    for name, nodes in functions.items():
        saver = set() if name in callable_names else _SAVER
        refused |= {op for op in {node.op for node in nodes} - functions.keys() - saver if not _harmless(op)}
    return sorted(refused)


def _called(nodes: Iterable) -> set[str]:
    """Returns the names of all functions that nodes refer to."""
    values = [value for node in nodes for value in node.attr.values()]
    lists = {function.name for value in values for function in value.list.func}
    return {node.op for node in nodes} | {value.func.name for value in values} | lists


def _harmless(name: str) -> bool:
    operation = op_def_registry.get(name)
    if name in _ALLOWED or operation is None or operation.is_stateful:
        return name in _ALLOWED
    takes_text = any(argument.type == tf.string.as_datatype_enum for argument in operation.input_arg)
    texts = {a.name for a in operation.attr if a.type in ("string", "list(string)") and not a.allowed_values.list.s}
    return texts <= _TEXTS and not takes_text
