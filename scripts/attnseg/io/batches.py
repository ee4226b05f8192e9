"""Batches that shrink when the device runs out of memory."""

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
    """A batch size, halved for good whenever memory runs out.

    `what` names one sample in messages; `least` is the smallest size that works.
    """

    def __init__(self, size: int, what: str = "sample", least: int = 1):
        self.size = size
        self.what = what
        self.least = least

    def over(self, items: Items, work: Callable[[Items], Result]) -> Iterator[tuple[Items, Result]]:
        """Each run of `items`, in order, and what `work` makes of it.

        Raises:
            UserError: if a single item does not fit in memory.
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
        """Results of `work` on every batch, for side effects that add up, such as gradients.

        When memory runs out, `undo` is called and all items start again in smaller batches.
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
            pass  # the failed pass's memory is freed only once the exception is gone
        if len(part) < 2 * self.least:
            count = f"one {self.what}" if self.least == 1 else f"{len(part)} {self.what}s"
            raise UserError(
                f"the GPU's memory does not hold {count} at a time: use a GPU with more memory or "
                "smaller images"
            )
        torch.cuda.empty_cache()
        self.size = len(part) // 2
        print(
            f"out of memory with {len(part)} {self.what}s at a time: continuing with {self.size}",
            file=sys.stderr,
            flush=True,
        )
        return False, None
