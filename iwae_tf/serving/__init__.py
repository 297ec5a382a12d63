"""Serving: SavedModels that score log p(x), and the client that asks them.

`export_saved_model` writes one; `iwae_tf.serving.client` reads scores from a server, or from the folder itself. The
client imports no TensorFlow unless it has to, so neither does this file.
"""


def __getattr__(name: str):
    if name == "export_saved_model":
        from iwae_tf.serving.saved_model import export_saved_model

        return export_saved_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
