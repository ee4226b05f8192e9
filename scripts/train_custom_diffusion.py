#!/usr/bin/env python3
"""Teach Stable Diffusion a subject from a few photos (Custom Diffusion).

    python scripts/train_custom_diffusion.py --photos my_photos --class mug --output my_mug

What `attnseg train-subject` does, and with --mug19 each subject of that folder on its own, in
<output>/<subject>; --part K/N takes every N-th of them. Interrupted, the same command goes on from its
last checkpoint and ends with the same weights.
"""

import argparse
import sys
from pathlib import Path

from attnseg.app import train_subject
from attnseg.app.options import Help, Parser
from attnseg.app.subject import given, regularisation_folders, teach
from attnseg.datasets.mug19 import read_mug19
from attnseg.errors import UserError, run
from attnseg.io.files import images_in, write_json
from attnseg.personalised import custom_diffusion as cd
from attnseg.personalised.personal import read_personal


def parser() -> argparse.ArgumentParser:
    p = Parser(description=__doc__)
    train_subject.add_arguments(p)
    p.formatter_class = Help
    p.add_argument("--mug19", type=Path, metavar="ROOT", help="the subjects of a Mug19 folder")
    p.add_argument(
        "--part",
        type=part,
        default=(0, 1),
        metavar="K/N",
        help="K from 0 (with --mug19; default 0/1)",
    )
    p.add_argument(
        "--only-regularisation",
        action="store_true",
        help="generate the images of the class, and stop",
    )
    p.add_argument("--summary", type=Path, metavar="JSON", help="what was done, written last")
    return p


def part(text: str) -> tuple[int, int]:
    """ "0/2" -> (0, 2)."""
    try:
        number, count = map(int, text.split("/"))
    except ValueError:
        number, count = -1, 0
    if not 0 <= number < count:
        raise argparse.ArgumentTypeError(f"{text}: write it as 0/2, the first of two parts")
    return number, count


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    lessons = subjects_of(args) if args.mug19 else {args.output: given(args)}
    teach(args, lessons, args.only_regularisation)
    if args.summary:
        write_json(args.summary, summary(args, lessons))
    return 0


def summary(args: argparse.Namespace, lessons: dict[Path, list[cd.Concept]]) -> dict:
    """Generate the images of each class, or train the subjects; return a summary."""
    if args.only_regularisation:
        words = {c.class_word: folder for concepts in lessons.values()
                 for c, folder in zip(concepts, regularisation_folders(args, concepts), strict=True)}  # fmt: skip
        return {word: len(images_in(folder)) for word, folder in words.items()}
    return {output.name: read_personal(output).info["seconds"] for output in lessons}


def subjects_of(args: argparse.Namespace) -> dict[Path, list[cd.Concept]]:
    """Every N-th subject of a Mug19 folder, as {output folder: its concept}."""
    if args.photos or args.classes or args.regularisation or len(args.token or []) > 1:
        raise UserError("--mug19 takes photos and classes of its folder: give at most one --token")
    data = read_mug19(args.mug19)
    number, count = args.part
    return {
        args.output / subject: cd.concepts_from(
            [data.root / "subjects" / subject],
            [data.class_of(subject)],
            args.token or ["<new1>"],
        )
        for subject in sorted(data.subjects)[number::count]
    }


if __name__ == "__main__":
    sys.exit(run(main))
