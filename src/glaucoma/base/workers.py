"""Process many files in threads, in order, with progress; hashing and Pillow's codecs release the GIL."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from joblib import cpu_count

from glaucoma.base.progress import track

__all__ = ["in_threads"]

MOST = 8  # threads; each may hold a decoded image of data.max_megapixels

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], title: str, unit: str = "image"
) -> Iterator[Result]:
    """Yield `work(item)` for each item, in the order of `items`; only a few results are in memory at a time.

    No thread is left running, even after an error: a thread in SciPy's C++ code at exit would abort the process.
    """
    threads = min(cpu_count(), MOST)
    pool = ThreadPoolExecutor(threads)
    try:
        left = iter(items)
        waiting = deque(pool.submit(work, item) for item in islice(left, 2 * threads))
        for _ in track(range(len(items)), title, len(items), unit):
            result = waiting.popleft().result()
            waiting.extend(pool.submit(work, item) for item in islice(left, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
