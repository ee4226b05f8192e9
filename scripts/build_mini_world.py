#!/usr/bin/env python3
"""Write the mini world's data sets in the official layouts.

The same seed writes the same bytes. Existing files are replaced.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from attnseg.app import flags
from attnseg.datasets.mug19 import read_mug19
from attnseg.errors import run
from attnseg.io.files import write_json
from attnseg.mini.world.cityscapes_layout import CITYSCAPES_SPLITS, write_cityscapes
from attnseg.mini.world.coco_layout import COCO_SPLITS, write_coco
from attnseg.mini.world.imagenet_s_layout import IMAGENET_S_SPLITS, write_imagenet_s
from attnseg.mini.world.mugs19 import write_mug19
from attnseg.mini.world.splits import VOC_SPLITS
from attnseg.mini.world.voc_layout import write_voc

# name -> (folder, function that writes it, its splits: (random stream, scenes, ...), or None if the
# layout lists them)
LAYOUTS: dict[str, tuple[str, Callable[[Path, int], object], dict | None]] = {
    "voc": ("VOCdevkit/VOC2012", write_voc, VOC_SPLITS),
    "coco": ("coco", write_coco, COCO_SPLITS),
    "imagenet_s": ("imagenet_s", write_imagenet_s, IMAGENET_S_SPLITS),
    "cityscapes": ("cityscapes", write_cityscapes, CITYSCAPES_SPLITS),
    "mug19": ("mug19", write_mug19, None),
}


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, "--seed", output="folder of the data sets")
    parser.add_argument(
        "--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS), help="which data sets"
    )
    args = parser.parse_args(argv)
    for layout in args.layouts:
        name, write, scenes = LAYOUTS[layout]
        write(args.output / name, args.seed)
        if scenes is None:
            splits = read_mug19(args.output / name).split_sizes()
        else:
            splits = {split: count for split, (_, count, *_) in scenes.items()}
        write_json(args.output / f"{layout}.json", {"seed": args.seed, "splits": splits})
        print(f"wrote {layout} in {args.output / name}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
