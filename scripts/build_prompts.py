#!/usr/bin/env python3
"""Write prompts for the generation of training images, one JSON object per line.

    --source coco --captions FILE    captions that name a class of --dataset, in random order
    --source imagenet_s --root DIR   "a photo of <class> with a background", a random synonym each
    --source cityscapes              "a photo of <class>, <class>, ... in cityscape by ..."

For any other data set, its template with its classes. The first n prompts do not depend on --count,
so larger sets start with smaller ones.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from attnseg import datasets
from attnseg.app import flags
from attnseg.attn2mask import prompt_sets
from attnseg.errors import UserError, run
from attnseg.settings import Synthesis


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, "--seed", output="prompts file (.jsonl)")
    parser.add_argument("--source", required=True, help="as --dataset")
    parser.add_argument(
        "--count", type=int, help="prompts; without it, every caption of --captions"
    )
    parser.add_argument(
        "--captions", type=Path, help="a COCO captions file, as captions_train2014.json"
    )
    flags.add(
        parser, "--dataset", help=f"with --captions, whose classes they name: {datasets.HELP}"
    )
    parser.add_argument(
        "--person-words",
        choices=("literal", "all"),
        default=Synthesis.model_fields["person_words"].default,
        help="with --captions: person and people alone name one, as in the paper, or man, woman, ..., too",
    )
    flags.add(
        parser,
        "--root",
        help="folder of the source, where its classes are listed there",
        required=False,
    )
    parser.add_argument(
        "--adapted", action="store_true", help="with the domain token of the LoRA (sks)"
    )
    args = parser.parse_args(argv)
    prompts = build(args)
    prompt_sets.write_prompts(args.output, prompts)
    counts = Counter(name for prompt in prompts for name in prompt.classes)
    print(f"{len(prompts)} prompts in {args.output}")
    print(", ".join(f"{name} {number}" for name, number in counts.most_common()))
    return 0


def build(args: argparse.Namespace) -> list[prompt_sets.Prompt]:
    """The prompts requested on the command line."""
    if args.count is not None and args.count < 1:
        raise UserError(f"--count {args.count}: give at least 1")
    source = datasets.load(args.source)
    if source.captions and args.captions is None:
        raise UserError(
            f"--source {source.name} needs --captions: give {source.captions} of its folder"
        )
    if args.captions is None and args.count is None:
        raise UserError(f"--source {args.source} needs --count")
    if args.captions is not None:
        captions, literal = prompt_sets.read_captions(args.captions), args.person_words == "literal"
        return prompt_sets.caption_prompts(captions, args.count, args.seed, args.dataset, literal)
    return prompt_sets.template_prompts(source, args.count, args.seed, args.root, args.adapted)


if __name__ == "__main__":
    sys.exit(run(main))
