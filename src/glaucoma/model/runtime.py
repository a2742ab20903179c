"""The one place that prepares Keras and knows of TensorFlow: quiet, seeded, deterministic.

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
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what matters arrives as a Python exception
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # else the first worker takes all of a GPU's memory


with suppress(ParamsError):  # `fresh` raises it again, where it is shown as a sentence
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(threads())


@contextmanager
def _library_chatter_kept_back() -> Iterator[None]:
    """Keep back what native code prints while it loads (TensorFlow greets every process); show it if loading fails."""
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
    """Start from nothing: no layers or names left over, all random generators seeded, deterministic kernels on.

    Deterministic and default kernels give different values, so the choice is made once, here. It costs nothing
    measurable on a CPU.

    Raises:
        ParamsError: the environment asks for a number of threads that is none.
    """
    threads()
    keras.backend.clear_session(free_memory=False)
    keras.utils.set_random_seed(seed)
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")  # it warns of every model traced anew, which a search does on purpose
        tf.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        torch.set_num_threads(threads())


def ready_to_predict(model: keras.Model) -> None:
    """Have `model.predict` traced once for batches of any size.

    TensorFlow would trace it for the first batch's size and, at the first batch of another size (a last one, a smaller
    split), once more for any: 2 s in vain for a whole EfficientNetB0. What it computes is the same.
    """
    if keras.backend.backend() == "tensorflow" and model.predict_function is None:
        model.make_predict_function()
        given = tuple(tensorflow().TensorSpec((None, *tensor.shape[1:]), tensor.dtype) for tensor in model.inputs)
        model.predict_function.get_concrete_function([(given if len(given) > 1 else given[0],)])  # type: ignore[attr-defined]


def describe() -> dict[str, str]:
    """Versions that decide a result: Keras, its backend and the backend's own version."""
    backend = keras.backend.backend()
    return {"keras": keras.__version__, "backend": backend, "backend_version": sys.modules[backend].__version__}


def tensorflow() -> Any:
    """TensorFlow itself, for its own file formats: whatever else is done goes through Keras."""
    import tensorflow as tf

    return tf
