"""A REST server that answers as TF Serving does, and fails as a test tells it to."""

import contextlib
import http.server
import json
import socket
import struct
import threading
import time

import numpy as np

RESET = "reset the connection"
QUICK = {"timeout": 5.0, "retry_seconds": 0.2}  # of a client that gives up soon


def scores_of(x) -> dict:
    """The server's scores of x [B, D]: simple functions of each row, NaN and status 1 for a row with NaN."""
    total = np.asarray(x, np.float32).sum(axis=1)
    bad = np.isnan(total)
    spread = np.where(bad, np.float32(np.nan), np.float32(0.25))
    return {
        "log_prob": -total,
        "elbo": -total - np.float32(1),
        "standard_error": spread,
        "effective_sample_size": 40 * spread,
        "pareto_k": np.where(total > 1, np.float32(np.inf), spread),
        "p_value": np.where(bad, np.float32(np.nan), 1 / (1 + np.abs(total))),
        "reliable": (~bad & (total <= 1)).astype(np.int32),
        "status": bad.astype(np.int32),
    }


def assert_scores_of(scores, x) -> None:
    """The scores are those of these images, in value and type."""
    for name, values in scores_of(x).items():
        np.testing.assert_array_equal(getattr(scores, name), values)
        assert getattr(scores, name).dtype == values.dtype


class ScriptedServer:
    """The model "m" of `dim` values an image.

    Attributes:
        requests: method, path and body of every request, in order.
        script: answers to the next predict calls before the usual ones: (status, text), or `RESET`.
        versions: version and state of each, as the status route gives them; None answers as the KServe SDK.
        labels: versions by label.
        metadata: whether the metadata route exists.
        most_rows: requests with more rows are answered by 504; with `hang` they are answered after that time only.
        seconds: time that a predict call takes.
    """

    def __init__(self, dim=4, port=0):
        self.dim, self.requests, self.script = dim, [], []
        self.versions, self.labels, self.metadata = [("1", "AVAILABLE")], {}, True
        self.most_rows, self.hang, self.seconds = None, None, 0.0
        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1/models/m"

    def __enter__(self):
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._http.server_close()

    def predictions(self):
        """Path and body of the predict calls."""
        return [(path, body) for method, path, body in self.requests if method == "POST"]

    def rows(self):
        """The number of rows of each predict call."""
        return [len(body["inputs"]["x"]) for _, body in self.predictions()]

    def answer(self, method, path, body):
        """Status and text for a request."""
        path = path.removeprefix("/v1/models/m")
        if method == "POST":
            return self._predict(body)
        if path.endswith("/metadata") and self.metadata:
            x = {"tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": str(self.dim), "name": ""}]}}
            definitions = {name: {"inputs": {"x": x}} for name in ("serving_default", "log_prob_k")}
            return 200, json.dumps({"metadata": {"signature_def": {"signature_def": definitions}}})
        if path == "":
            return self._status(self.versions)
        label = path.removeprefix("/labels/")
        if label in self.labels:
            return self._status([(self.labels[label], "AVAILABLE")])
        found = [version for version in self.versions if path == f"/versions/{version[0]}"]
        return self._status(found) if found else (404, '{"error": "no such route or version"}')

    def _predict(self, body):
        if self.script:
            return self.script.pop(0)
        x = body["inputs"]["x"]
        time.sleep(self.seconds)
        if self.most_rows is not None and len(x) > self.most_rows:
            if self.hang is None:
                return 504, '{"error": "Timed out waiting for notification"}'
            time.sleep(self.hang)
        if len(x[0]) != self.dim:
            return 400, json.dumps({"error": f"input must be 2 dimensional\n with {self.dim} columns"})
        return 200, json.dumps({"outputs": {name: values.tolist() for name, values in scores_of(x).items()}})

    def _status(self, versions):
        if versions is None:
            return 200, '{"name": "m", "ready": true}'
        states = [{"version": version, "state": state, "status": {}} for version, state in versions]
        return 200, json.dumps({"model_version_status": states})

    def _handler(self):
        scripted = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self._answer("GET", None)

            def do_POST(self):
                self._answer("POST", json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, method, body):
                scripted.requests.append((method, self.path, body))
                answer = scripted.answer(method, self.path, body)
                if answer == RESET:  # closing with a linger of 0 s sends a reset
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return
                with contextlib.suppress(ConnectionError):  # the client may have given up
                    self.send_response(answer[0])
                    self.end_headers()
                    self.wfile.write(answer[1].encode())

            def log_message(self, *_):
                pass

        return Handler
