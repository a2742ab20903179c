"""Networks as ONNX files: run by onnxruntime, which needs neither Keras nor TensorFlow."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joblib import cpu_count

from glaucoma.base.errors import GlaucomaError, WeightsError, one_line

__all__ = ["INSTALL", "LOG_ODDS", "SUFFIX", "Portable", "Runner"]

SUFFIX = ".onnx"
LOG_ODDS = "log_odds"  # name of the second output, float32 (n, 1)
SMALLEST = 1.2e-38  # of float32
INSTALL = "pip install 'glaucoma[onnx]'"


class Runner(ABC):
    """A classifier's graph that some program other than Keras runs.

    Attributes:
        input_shape: (None, size, size, 3).
        output_shape: (None, classes).
    """

    input_shape: tuple
    output_shape: tuple

    @abstractmethod
    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (n, classes), for float32 (n, size, size, 3) in 0–255."""

    def log_odds(self, pixels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        """Log-odds of abnormal, float64 (n,), for (n, size, size, 3) in 0–255: ln of the two probabilities' ratio.

        The smaller probability keeps its digits where the larger has rounded to 1: to ± 87, then float32 ends.
        """
        found = np.log(np.maximum(self(pixels.astype("float32")).astype("float64"), SMALLEST))
        return found[:, classes.index("abnormal")] - found[:, classes.index("normal")]


class Portable(Runner):
    """A classifier's graph that is ready to run, and what its file says of it.

    Attributes:
        card: the file's metadata, as `glaucoma export` writes it: classes, positive, threshold, input.

    Args:
        path: the `.onnx` file.

    Raises:
        GlaucomaError: onnxruntime is not installed.
        WeightsError: no whole ONNX graph of one input, or not one that `glaucoma export` wrote.
    """

    def __init__(self, path: Path):
        try:
            import onnxruntime
        except ImportError:
            raise GlaucomaError(f"{path} needs onnxruntime, which is not installed", INSTALL) from None
        options = onnxruntime.SessionOptions()
        given = os.environ.get("GLAUCOMA_THREADS", "")
        options.intra_op_num_threads = int(given) if given.isdecimal() and int(given) else cpu_count()
        options.log_severity_level = 3  # what matters arrives as a Python exception
        remedy = "write it with `glaucoma export`"
        try:
            # From bytes, so that weights in other files are looked for below the working folder alone
            self._session = onnxruntime.InferenceSession(
                Path(path).read_bytes(), options, providers=["CPUExecutionProvider"]
            )
            (taken,), (given_back, *others) = self._session.get_inputs(), self._session.get_outputs()
        except Exception as error:  # damaged in many ways: protobuf, graph, operators; or two inputs
            raise WeightsError(f"{path} is no ONNX file of a classifier: {one_line(error)}", remedy) from None
        self._names = taken.name, given_back.name
        self._has_log_odds = LOG_ODDS in [one.name for one in others]  # not so in files of older releases
        self.output_shape = (None, *given_back.shape[1:])
        self.card: dict[str, Any] = {
            key: _value(text) for key, text in self._session.get_modelmeta().custom_metadata_map.items()
        }
        wanted: dict[str, type | tuple[type, ...]] = {"classes": list, "input": dict, "threshold": (int, float)}
        lacking = [key for key, kind in wanted.items() if not isinstance(self.card.get(key), kind)]
        if lacking:
            raise WeightsError(f"{path} does not say in its metadata its {', '.join(lacking)}", remedy)
        size = self.card["input"].get("size")  # of a graph that resizes, and takes any
        self.input_shape = (None, *(side if isinstance(side, int) else size for side in taken.shape[1:]))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (n, classes), for float32 (n, size, size, 3) in 0–255."""
        taken, given_back = self._names
        return self._session.run([given_back], {taken: pixels})[0]

    def log_odds(self, pixels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        """The graph's own second output, float64 (n,)."""
        if not self._has_log_odds:
            return super().log_odds(pixels, classes)
        (found,) = self._session.run([LOG_ODDS], {self._names[0]: pixels.astype("float32")})
        return found[:, 0].astype("float64")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
