#!/usr/bin/env python3
"""Build VOC 2012's SegmentationClassAug and the list trainaug from the files of VOC and SBD.

    python scripts/build_voc_aug.py --root resources/VOCdevkit/VOC2012 \\
        --sbd resources/VOCdevkit/VOC2012/SBD

trainaug has the 10,582 ids of SBD and VOC's train that are not in VOC's val. VOC's masks take
precedence over SBD's. Existing masks are kept; the palette, classes and size of all are checked.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

from tqdm import tqdm

from attnseg.app import flags
from attnseg.datasets import voc_aug
from attnseg.errors import run


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, "--processes")
    flags.add(parser, "--root", help="the folder VOCdevkit/VOC2012")
    parser.add_argument(
        "--sbd", type=Path, required=True, help="the folder benchmark_RELEASE/dataset of SBD"
    )
    parser.add_argument(
        "--images", type=int, default=voc_aug.TRAINAUG, help="ids that trainaug must have (10582)"
    )
    args = parser.parse_args(argv)

    def progress(masks: Iterable) -> tqdm:
        return tqdm(masks, desc="masks", unit="", mininterval=2, disable=not sys.stderr.isatty())

    summary = voc_aug.build(
        args.root, args.sbd, images=args.images, processes=args.processes, progress=progress
    )
    print(
        f"{summary['masks']} masks ({summary['from_voc']} of VOC, {summary['from_sbd']} of SBD, "
        f"{summary['with_ignored_pixels']} with ignored pixels), "
        f"{summary['trainaug']} ids in trainaug -> {args.root / 'SegmentationClassAug'}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
