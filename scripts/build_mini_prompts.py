#!/usr/bin/env python3
"""Write prompts for the generation of training images: captions of the mini world's scenes that name a
class of VOC, one JSON object per line. The first n prompts do not depend on --count.
"""

import argparse
import sys
from pathlib import Path

from attnseg.attn2mask.prompt_sets import write_prompts
from attnseg.errors import UserError, run
from attnseg.mini.world.prompts import mini_world_prompts


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="prompts file (.jsonl)")
    parser.add_argument("--count", type=int, required=True, help="prompts")
    parser.add_argument("--seed", type=int, default=0, help="of the scenes")
    args = parser.parse_args(argv)
    if args.count < 1:
        raise UserError(f"--count {args.count}: give at least 1")
    write_prompts(args.output, mini_world_prompts(args.count, args.seed))
    print(f"{args.count} prompts in {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
