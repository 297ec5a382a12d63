"""Loads a SavedModel as a server does: through TensorFlow's C API, in a process without TensorFlow's Python.

A program of its own: `python c_api.py TENSORFLOW_FOLDER SAVED_MODEL REQUESTS.json ANSWERS.npz`. REQUESTS is a list of
`{"inputs": {tensor name: [dtype, nested list]}, "outputs": [tensor name, ...]}`; ANSWERS has arrays
`<request>/<tensor name>` and `peak_kib`, the peak memory of the process. XLA is switched off first, as TensorFlow
Serving does. Nothing is imported but the standard library and NumPy.
"""

import ctypes
import json
import sys
from pathlib import Path

import numpy as np

DTYPES = {1: np.float32, 3: np.int32, 9: np.int64}  # TF_DataType
TEXT, TEXT_BYTES = 7, 24  # TF_STRING, and the size of a TF_TString
CODES = {np.dtype(dtype): code for code, dtype in DTYPES.items()}


class Pointer(ctypes.c_void_p):
    """A result type that stays a pointer when it is passed on (a plain c_void_p would come back as an int)."""


class Output(ctypes.Structure):
    """TF_Output."""

    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class Session:
    """A SavedModel with tag "serve" in a session."""

    def __init__(self, tensorflow_folder: str, saved_model: str):
        ctypes.CDLL(f"{tensorflow_folder}/libtensorflow_framework.so.2", mode=ctypes.RTLD_GLOBAL)
        self.c = ctypes.CDLL(f"{tensorflow_folder}/libtensorflow_cc.so.2", mode=ctypes.RTLD_GLOBAL)
        self.c._ZN10tensorflow21DisableXlaCompilationEv()
        for name in ("NewStatus", "NewGraph", "NewSessionOptions", "LoadSessionFromSavedModel"):
            getattr(self.c, f"TF_{name}").restype = Pointer
        for name in ("GraphOperationByName", "AllocateTensor", "TensorData"):
            getattr(self.c, f"TF_{name}").restype = Pointer
        self.c.TF_Message.restype = ctypes.c_char_p
        self.c.TF_Dim.restype = ctypes.c_int64
        self.status, self.graph = self.c.TF_NewStatus(), self.c.TF_NewGraph()
        options, tags = self.c.TF_NewSessionOptions(), (ctypes.c_char_p * 1)(b"serve")
        self.session = self.c.TF_LoadSessionFromSavedModel(
            options, None, saved_model.encode(), tags, 1, self.graph, None, self.status
        )
        self._check()

    def run(self, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        """Feeds tensors by name and fetches tensors by name."""
        feeds = (Output * len(inputs))(*map(self._output, inputs))
        values = (ctypes.c_void_p * len(inputs))(*(self._tensor(array).value for array in inputs.values()))
        fetches = (Output * len(outputs))(*map(self._output, outputs))
        results = (ctypes.c_void_p * len(outputs))()
        fed, fetched = (feeds, values, len(inputs)), (fetches, results, len(outputs))
        self.c.TF_SessionRun(self.session, None, *fed, *fetched, None, 0, None, self.status)
        self._check()
        return [self._array(Pointer(result)) for result in results]

    def _check(self):
        if self.c.TF_GetCode(self.status):
            sys.exit(self.c.TF_Message(self.status).decode())

    def _output(self, name: str) -> Output:
        operation, index = name.split(":")
        found = self.c.TF_GraphOperationByName(self.graph, operation.encode())
        if not found:
            sys.exit(f"no operation {operation} in the graph")
        return Output(found.value, int(index))

    def _tensor(self, array: np.ndarray) -> Pointer:
        shape, size = (ctypes.c_int64 * array.ndim)(*array.shape), ctypes.c_size_t(array.nbytes)
        if array.dtype.kind == "U":
            size = ctypes.c_size_t(TEXT_BYTES * array.size)
            tensor = self.c.TF_AllocateTensor(TEXT, shape, array.ndim, size)
            first = self.c.TF_TensorData(tensor).value
            for i, text in enumerate(array.ravel().tolist()):
                place, content = ctypes.c_void_p(first + TEXT_BYTES * i), text.encode()
                self.c.TF_StringInit(place)
                self.c.TF_StringCopy(place, content, ctypes.c_size_t(len(content)))
            return tensor
        tensor = self.c.TF_AllocateTensor(CODES[array.dtype], shape, array.ndim, size)
        ctypes.memmove(self.c.TF_TensorData(tensor), array.ctypes.data, array.nbytes)
        return tensor

    def _array(self, tensor: Pointer) -> np.ndarray:
        shape = [self.c.TF_Dim(tensor, axis) for axis in range(self.c.TF_NumDims(tensor))]
        array = np.empty(shape, DTYPES[self.c.TF_TensorType(tensor)])
        ctypes.memmove(array.ctypes.data, self.c.TF_TensorData(tensor), array.nbytes)
        return array


def peak_kib() -> int:
    """Peak memory of this process; Linux' ru_maxrss would start at that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main():
    tensorflow_folder, saved_model, requests, answers = sys.argv[1:]
    session = Session(tensorflow_folder, saved_model)
    arrays = {}
    for number, request in enumerate(json.loads(Path(requests).read_text())):
        inputs = {name: np.array(value, dtype) for name, (dtype, value) in request["inputs"].items()}
        for name, array in zip(request["outputs"], session.run(inputs, request["outputs"]), strict=True):
            arrays[f"{number}/{name}"] = array
    assert "tensorflow" not in sys.modules
    np.savez(answers, peak_kib=peak_kib(), **arrays)


if __name__ == "__main__":
    main()
