"""What attention modules compute, seen from outside: any processor of diffusers stays in place.

A forward pass is watched for its calls of `scaled_dot_product_attention`; hooks on the attention
modules tell whose call it is. Queries and keys are those that enter the softmax: after norms, rotary
embeddings, adapters and learnt projections.
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
    """One attention: `query` [B, heads, N, d], `key` [B, heads, L, d], and its mask where it has one.

    `value` [B, heads, L, d] and `output` [B, heads, N, d], before the output projection, where they
    were asked for.
    """

    query: torch.Tensor
    key: torch.Tensor
    mask: torch.Tensor | None = None
    value: torch.Tensor | None = None
    output: torch.Tensor | None = None


class _Stop(Exception):
    """Raised inside the network once everything watched has been seen."""


class _Watch(TorchFunctionMode):
    """Keeps the first attention call of each module that is being entered."""

    def __init__(self, count: int, stop: bool, values: bool):
        super().__init__()
        self.count, self.stop, self.values = count, stop, values
        self.inside: list[Hashable] = []
        self.seen: dict[Any, Seen] = {}

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention or not self.inside:
            return func(*args, **kwargs)
        name = self.inside[-1]
        if name in self.seen:
            return func(*args, **kwargs)
        names = ("query", "key", "value", "attn_mask")
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        seen = self.seen[name] = Seen(given["query"], given["key"], given.get("attn_mask"))
        last = self.stop and len(self.seen) == self.count
        if last and not self.values:
            raise _Stop
        output = func(*args, **kwargs)
        if self.values:
            seen.value, seen.output = given["value"], output
        if last:
            raise _Stop
        return output


@contextmanager
def record(
    modules: Mapping[Name, torch.nn.Module], *, stop: bool = True, values: bool = False
) -> Iterator[dict[Name, Seen]]:
    """Record the attention of some modules in the forward pass inside the block, by their names.

    With `stop` the last of them ends the pass, and with it the block; what the pass computes is
    otherwise the same to the bit. With `values` also what is attended to, and the result. Nothing
    is left behind, whatever happens inside.

    Raises:
        RuntimeError: where a module's attention was not seen, as its processor computes it by hand.
    """
    watch = _Watch(len(modules), stop, values)
    with ExitStack() as hooks:
        for name, module in modules.items():

            def enter(*_: object, name: Hashable = name) -> None:
                watch.inside.append(name)

            def leave(*_: object) -> None:
                watch.inside.pop()

            hooks.callback(module.register_forward_pre_hook(enter).remove)
            hooks.callback(module.register_forward_hook(leave).remove)
        hooks.enter_context(watch)
        try:
            yield watch.seen
        except _Stop:
            return
    for name, module in modules.items():
        if name not in watch.seen:
            processor = type(getattr(module, "processor", module)).__name__
            raise RuntimeError(
                f"the attention {name} was not seen: {processor} did not run, or does not call "
                "scaled_dot_product_attention"
            )
