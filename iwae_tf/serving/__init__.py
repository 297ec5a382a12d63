"""Serving: SavedModels that score log p(x), and the client that calls them.

`export_saved_model` writes a SavedModel; `iwae_tf.serving.client` reads scores from a server or from the folder. The
client imports TensorFlow only for gRPC and folders, so this module imports it lazily.
"""


def __getattr__(name: str):
    if name == "export_saved_model":
        from iwae_tf.serving.saved_model import export_saved_model

        return export_saved_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
