"""Batches that become smaller where the device's memory does not hold them."""

import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol, Self, TypeVar

import torch

from attnseg.errors import UserError

Result = TypeVar("Result")


class Samples(Protocol):
    """A list, a range, a tensor: what has runs."""

    def __len__(self) -> int: ...

    def __getitem__(self, run: slice, /) -> Self: ...


Items = TypeVar("Items", bound=Samples)


class Batches:
    """Runs of samples that pass a network together: `size` at a time, halved, for good, whenever
    memory runs out.

    `what` names one sample in messages.
    """

    def __init__(self, size: int, what: str = "sample"):
        self.size = size
        self.what = what

    def over(self, items: Items, work: Callable[[Items], Result]) -> Iterator[tuple[Items, Result]]:
        """Each run of `items`, in order, and what `work` makes of it.

        Raises:
            UserError: where memory does not hold a single one.
        """
        start = 0
        while start < len(items):
            part = items[start : start + self.size]
            fits, result = self._tried(work, part)
            if fits:
                start += len(part)
                yield part, result

    def together(
        self, items: Items, work: Callable[[Items], Result], undo: Callable[[], object]
    ) -> list[Result]:
        """What `work` makes of every run; for parts that add up, as gradients do.

        Where memory runs out, `undo` is called and all of it begins again in smaller runs.
        """
        while True:
            results: list[Result] = []
            size = self.size
            for start in range(0, len(items), size):
                fits, result = self._tried(work, items[start : start + size])
                if not fits:
                    undo()
                    break
                results.append(result)
            else:
                return results

    def _tried(self, work: Callable[[Items], object], part: Items) -> tuple[bool, Any]:
        """(True, the result), or where memory ran out (False, None) and a smaller size."""
        try:
            return True, work(part)
        except torch.OutOfMemoryError:
            pass  # what the failed pass held is freed when the exception is gone
        if len(part) == 1:
            raise UserError(
                f"the GPU's memory does not hold one {self.what} at a time: use a GPU with more "
                "memory, or smaller images"
            )
        torch.cuda.empty_cache()
        self.size = len(part) // 2
        print(
            f"out of memory with {len(part)} {self.what}s at a time: going on with {self.size}",
            file=sys.stderr,
            flush=True,
        )
        return False, None
