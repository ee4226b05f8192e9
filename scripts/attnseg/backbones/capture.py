"""Record attention during a forward pass without replacing diffusers' attention processors.

Calls of `scaled_dot_product_attention` are intercepted inside the attention modules, whose hooks tell
which of them makes the call; the rest of the network runs as without. The recorded queries and keys are those that enter the softmax: after norms,
rotary embeddings, adapters and trained projections.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

Name = TypeVar("Name", bound=Hashable)


@dataclass
class Seen:
    """Inputs of one attention: `query` [B, heads, N, d], `key` [B, heads, L, d], and its mask, if any.

    `value` [B, heads, L, d] and `output` [B, heads, N, d], before the output projection, only if
    recorded with `values`.
    """

    query: torch.Tensor
    key: torch.Tensor
    mask: torch.Tensor | None = None
    value: torch.Tensor | None = None
    output: torch.Tensor | None = None

    def inputs(self, rows: slice = slice(None)) -> tuple[torch.Tensor, torch.Tensor, Any]:
        """Query, key and mask of some rows of the batch."""
        mask = None if self.mask is None else self.mask[rows]
        return self.query[rows], self.key[rows], mask


class _Stop(Exception):
    """Raised inside the network once all watched modules have been recorded."""


class _Watch(TorchFunctionMode):
    """Records the first attention call within each watched module."""

    def __init__(self, count: int, stop: bool, values: bool, keep: Callable[[Any, Seen], Any]):
        super().__init__()
        self.count, self.stop, self.values, self.keep = count, stop, values, keep
        self.inside: list[Hashable] = []
        self.seen: dict[Any, Any] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        name = self.inside[-1]
        if name in self.seen:
            return func(*args, **kwargs)
        names = ("query", "key", "value", "attn_mask")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        seen = Seen(given["query"], given["key"], given.get("attn_mask"))
        last = self.stop and len(self.seen) + 1 == self.count
        output = None if last and not self.values else func(*args, **kwargs)
        if self.values:
            seen.value, seen.output = given["value"], output
        self.seen[name] = self.keep(name, seen)
        if last:
            raise _Stop
        return output


@contextmanager
def record(
    modules: Mapping[Name, torch.nn.Module],
    *,
    stop: bool = True,
    values: bool = False,
    keep: Callable[[Name, Seen], Any] = lambda _, seen: seen,
) -> Iterator[dict[Name, Any]]:
    """Record the attention of some modules in the forward pass inside the block, by their names.

    Args:
        modules: attention modules by any name.
        stop: end the pass, and the block, after the last of them. Otherwise the pass's result is
            bitwise the same as without recording.
        values: also record values and outputs.
        keep: what is kept of a module's `Seen`, by default all; called at once, so that a reading needs
            the memory of one module's.

    Raises:
        RuntimeError: if a module's processor does not call `scaled_dot_product_attention`.
    """
    watch = _Watch(len(modules), stop, values, keep)

    def leave(*_: object) -> None:
        watch.__exit__(None, None, None)
        watch.inside.pop()

    def leave_all() -> None:
        while watch.inside:  # modules that an exception ended
            leave()

    with ExitStack() as hooks:
        for name, module in modules.items():

            def enter(*_: object, name: Hashable = name) -> None:
                watch.inside.append(name)
                watch.__enter__()

            hooks.callback(module.register_forward_pre_hook(enter).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        hooks.callback(leave_all)
        try:
            yield watch.seen
        except _Stop:
            return
    for name, module in modules.items():
        if name not in watch.seen:
            processor = type(getattr(module, "processor", module)).__name__
            raise RuntimeError(
                f"the attention {name} was not recorded: {processor} did not run, or does not call "
                "scaled_dot_product_attention"
            )
