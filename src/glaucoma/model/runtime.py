"""Configure Keras (quiet, seeded, deterministic); the only module that imports TensorFlow.

Import Keras from here (`from glaucoma.model.runtime import keras`), so that the environment is set before the backend
starts. TensorFlow is the default backend; `KERAS_BACKEND=jax` or `torch` runs the same code.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from glaucoma.base.environment import threads
from glaucoma.base.errors import ParamsError

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # serious errors are raised as Python exceptions
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # else the first worker takes all of a GPU's memory


with suppress(ParamsError):  # `fresh` raises it again, where it is reported properly
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads())


@contextmanager
def _library_chatter_kept_back() -> Iterator[None]:
    """Hide the output of native code while it loads (TensorFlow prints in every process); show it if loading fails."""
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(real, 2)
            kept.seek(0)
            os.write(2, kept.read())
            raise
        finally:
            os.dup2(real, 2)
            os.close(real)


with _library_chatter_kept_back():
    import keras


__all__ = ["describe", "fresh", "keras", "ready_to_predict", "tensorflow", "threads"]


def fresh(seed: int) -> None:
    """Reset Keras: clear layers and names, seed all random generators, enable deterministic kernels.

    Deterministic and default kernels give different values, so the choice is made once, here. The cost on a CPU is not
    measurable.

    Raises:
        ParamsError: GLAUCOMA_THREADS is not a valid number.
    """
    threads()
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")  # it warns of retracing, which a search does on purpose
        tf.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(threads())


def ready_to_predict(model: keras.Model) -> None:
    """Trace `model.predict` once, for batches of any size.

    TensorFlow would trace it for the first batch's size and again at the first batch of another size (a last one, a
    smaller split): 2 s wasted for a whole EfficientNetB0. The results are the same.
    """
    if keras.backend.backend() == "tensorflow" and model.predict_function is None:
        model.make_predict_function()
        given = tuple(tensorflow().TensorSpec((None, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs)
        model.predict_function.get_concrete_function([(given if len(given) > 1 else given[0],)])  # type: ignore[attr-defined]


def describe() -> dict[str, str]:
    """Versions that affect results: Keras, its backend and the backend's version."""
    backend = keras.backend.backend()
    return {"keras": keras.__version__, "backend": backend, "backend_version": sys.modules[backend].__version__}


def tensorflow() -> Any:
    """TensorFlow itself, for its file formats only; everything else uses Keras."""
    import tensorflow as tf

    return tf
