"""Work on many files in threads, in order, with progress; hashing and Pillow's codecs release the interpreter lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from joblib import Parallel, cpu_count, delayed

from glaucoma.progress import track

__all__ = ["in_threads"]

MOST = 8  # threads; each may hold a decoded image of data.max_megapixels

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    work: Callable[[Item], Result], items: Sequence[Item], title: str, unit: str = "image"
) -> Iterator[Result]:
    """Yield `work(item)` for each item, in the order of `items`; few results wait in memory at a time."""
    parallel = Parallel(n_jobs=min(cpu_count(), MOST), backend="threading", return_as="generator")
    results = parallel(delayed(work)(item) for item in items)
    yield from track(results, title, len(items), unit)
