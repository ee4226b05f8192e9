"""Values that are no numbers end the work with the sample's name, before a mean or a byte hides them."""

from collections.abc import Iterable, Sequence

import torch

from attnseg.errors import UserError


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """True if no value is NaN or infinite."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def check_finite(
    what: str, names: Sequence[str], dtype: torch.dtype, *values: torch.Tensor
) -> None:
    """Raise where a sample has a value that is NaN or infinite.

    Args:
        what: "the attention is", for the message.
        names: of the B samples.
        dtype: that they were computed in.
        values: [B, ...] each.

    Raises:
        UserError: that names the first such sample.
    """
    for each in values:
        fine = torch.isfinite(each).flatten(1).all(1).tolist()
        if not all(fine):
            raise UserError(
                f"{names[fine.index(False)]}: {what} not finite; the weights are damaged, or "
                f"{str(dtype).removeprefix('torch.')} overflows: try `device: cpu` (--device cpu), which "
                "computes in float32"
            )
