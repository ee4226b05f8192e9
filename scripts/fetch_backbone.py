#!/usr/bin/env python3
"""Download a backbone's ImageNet weights and store them as safetensors.

    python scripts/fetch_backbone.py https://download.pytorch.org/models/resnet101-63fe2227.pth \\
        --output resources/models/resnet101-63fe2227.safetensors

Interrupted downloads are resumed. The digits after the name's last dash must be the first digits of
the file's SHA-256, as in PyTorch's model zoo.
"""

import argparse
import re
import sys

from attnseg.app import flags
from attnseg.errors import UserError, run
from attnseg.io.downloads import download
from attnseg.io.files import write_atomically


def parser() -> argparse.ArgumentParser:
    p = flags.program(__doc__, output="a .safetensors file")
    p.add_argument("address", help="of a .pth file named <name>-<digits of its SHA-256>.pth")
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    digits = re.search(r"-([0-9a-f]{8,64})\.pth$", args.address)
    if not digits:
        raise UserError(f"{args.address}: the name must end in -<digits of its SHA-256>.pth")
    file = args.output.with_name(args.address.rsplit("/", 1)[-1])
    download(args.address, file, sha256=digits[1])

    import torch
    from safetensors.torch import save_file

    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
        weights = dict(weights.get("state_dict", weights))  # OpenMMLab's checkpoints have one
    except Exception as error:  # pickle, zip and torch raise many types
        raise UserError(
            f"{file}: damaged, or a pickle of more than weights ({type(error).__name__}), which is never "
            "read; remove it, and do not use this address"
        ) from None
    with write_atomically(args.output) as partial:
        save_file({name: value.contiguous() for name, value in weights.items()}, partial)
    file.unlink()
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
