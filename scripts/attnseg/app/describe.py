"""Say what is read of a model: its attention blocks, their grids, its text, and the defaults taken.

attnseg describe stabilityai/stable-diffusion-xl-base-1.0 --revision COMMIT
attnseg describe MODEL --cross-blocks 1/4 --self-block '1/2 decoder'    # which blocks these are
"""

import argparse
import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from attnseg.app import flags

if TYPE_CHECKING:  # a program that only parses flags is quick
    from attnseg.backbones.interface import Backbone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder or hub id of a text-to-image model")
    flags.add(parser, "--revision --model-file --device --cross-blocks --self-block --reading")


def main(args: argparse.Namespace) -> int:
    from attnseg.backbones import load_backbone
    from attnseg.io.gpu import claim_device

    device = claim_device(args.device)
    backbone = load_backbone(args.model, args.revision, device, file=args.model_file)
    print("\n".join(lines(backbone, args)))
    return 0


def lines(backbone: "Backbone", args: argparse.Namespace) -> Iterator[str]:
    import torch

    from attnseg.text2mask.options import blocks_of, options_for
    from attnseg.text2mask.queries import text_query

    (height, width), (channels, rows, columns) = backbone.size, backbone.latent_shape(backbone.size)
    yield f"{type(backbone).__name__} in {backbone.name}"
    yield (
        f"images: {height} x {width} pixels, sides multiples of {backbone.multiple}; "
        f"latents {channels} x {rows} x {columns}"
    )
    yield "attention blocks of such an image, in forward order:"
    places: dict[int, tuple[int, str, list[str]]] = {}
    for (number, role), at in backbone.blocks.items():
        places.setdefault(number, (at.halvings, at.part, []))[2].append(role)
    for (halvings, part, roles), group in itertools.groupby(places, places.__getitem__):
        cells = f"{-(-rows // 2**halvings)} x {-(-columns // 2**halvings)} cells"
        here = f"1/{2**halvings} of the latent{f', {part}' if part else ''}, {cells}"
        yield f"  {runs(group):8} {here}: {', '.join(roles)}"
    query = text_query(["dog"], background=False)
    with torch.no_grad():
        _, length, features = backbone.encode_text([query.text]).hidden.shape
    (found,) = backbone.token_positions(query)
    yield f"text: {length} positions of {features} features; dog in {query.text!r}: {runs(found)}"
    taken = options_for(backbone, args.cross_blocks, args.self_block, reading=args.reading)
    cross, own = ([block.number for block in blocks] for blocks in blocks_of(backbone, taken))
    reading = ", reading output" if taken.reading == "output" else ""
    yield (
        f"{'as asked' if args.cross_blocks or args.self_block else 'defaults'}: "
        f"cross blocks {runs(cross)}, self block{'s' * (len(own) > 1)} {runs(own) or 'none'}, "
        f"timestep {taken.timestep}, resize {taken.resize}{reading}"
    )


def runs(numbers: Iterable[int]) -> str:
    """[1, 2, 3, 5] as ``1-3, 5``."""
    groups = itertools.groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])
    ends = [[number for _, number in group] for _, group in groups]
    return ", ".join(f"{g[0]}-{g[-1]}" if len(g) > 1 else f"{g[0]}" for g in ends)
