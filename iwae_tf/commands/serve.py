"""Serves an exported model on this machine, without Docker.

The newest version of an exported importance weighted autoencoder is served by the KServe SDK, under the REST predict
call of TensorFlow Serving: POST http://HOST:PORT/v1/models/NAME:predict. One model, no batching, no version or label
routes. Ctrl-C or SIGTERM stops it within 8 seconds: new connections are refused at once, open requests get 4
seconds. Needs: pip install "kserve>=0.21,<0.22".
"""

import importlib.util
import os
from pathlib import Path

from iwae_tf.commands import flags
from iwae_tf.commands.quiet import import_tensorflow
from iwae_tf.errors import InputError


def add_flags(parser: flags.Parser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("model", metavar="MODEL", help="folder of an exported model, e.g. export/models/digits")
    parser.add_argument("--port", type=int, default=8501, help="port to listen on; 0 takes a free one (default: 8501)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")


def run(arguments) -> int:
    """Serves until it is stopped; returns the exit code."""
    from iwae_tf.serving import local_server, model_folder

    name, version = model_folder.find_version(Path(arguments.model))
    if importlib.util.find_spec("kserve") is None:
        raise InputError('the KServe SDK is not installed; run: pip install "kserve>=0.21,<0.22"')
    with local_server.bind(arguments.host, arguments.port) as listener:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # the answer to a request says why it failed
        import_tensorflow()
        local_server.serve(name, version, listener)
    return 0
