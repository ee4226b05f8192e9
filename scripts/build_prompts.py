#!/usr/bin/env python3
"""Write the prompts that training images are generated from, one JSON object a line.

    coco         captions of --captions that name a VOC class or a synonym, in random order
    mini_world   the same from captions of the mini world's scenes
    imagenet_s   "a photo of <class> with a background", a random synonym each
    cityscapes   "a photo of <class>, <class>, ... in cityscape by a dashboard camera"

The first n prompts do not depend on --count, so smaller sets are heads of larger ones.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from attnseg import prompt_sets
from attnseg.caption_matching import LITERAL_PERSON, VOC_NAMES
from attnseg.datasets import imagenet_s
from attnseg.errors import UserError, run
from attnseg.settings import Synthesis


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--source", choices=("coco", "mini_world", "imagenet_s", "cityscapes"), required=True
    )
    parser.add_argument("--output", type=Path, required=True, help="prompts file (.jsonl)")
    parser.add_argument(
        "--count", type=int, help="prompts; without it, every caption of --captions"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order and of the samples")
    parser.add_argument("--captions", type=Path, help="coco: captions_train2014.json")
    parser.add_argument(
        "--person-words",
        choices=("literal", "all"),
        default=Synthesis.model_fields["person_words"].default,
        help="coco: person and people alone name one, as in the paper, or man, woman, ..., too",
    )
    parser.add_argument(
        "--root", type=Path, help="imagenet_s: folder with the categories and names"
    )
    parser.add_argument(
        "--adapted", action="store_true", help="cityscapes: the domain token sks of the LoRA"
    )
    args = parser.parse_args(argv)
    prompts = build(args)
    prompt_sets.write_prompts(args.output, prompts)
    counts = Counter(name for prompt in prompts for name in prompt.classes)
    print(f"{len(prompts)} prompts in {args.output}")
    print(", ".join(f"{name} {number}" for name, number in counts.most_common()))
    return 0


def build(args: argparse.Namespace) -> list[prompt_sets.Prompt]:
    """The prompts that the command line asks for."""
    if args.count is not None and args.count < 1:
        raise UserError(f"--count {args.count}: give at least 1")
    if args.source == "coco":
        if args.captions is None:
            raise UserError("--source coco needs --captions: give captions_train2014.json")
        names = VOC_NAMES | ({"person": LITERAL_PERSON} if args.person_words == "literal" else {})
        captions = prompt_sets.read_captions(args.captions)
        return prompt_sets.caption_prompts(captions, args.count, args.seed, names)
    if args.count is None:
        raise UserError(f"--source {args.source} needs --count")
    if args.source == "mini_world":
        return prompt_sets.mini_world_prompts(args.count, args.seed)
    if args.source == "imagenet_s":
        if args.root is None:
            raise UserError("--source imagenet_s needs --root: the folder of the data set")
        return prompt_sets.imagenet_s_prompts(imagenet_s.synonyms(args.root), args.count, args.seed)
    return prompt_sets.cityscapes_prompts(args.count, args.seed, args.adapted)


if __name__ == "__main__":
    sys.exit(run(main))
