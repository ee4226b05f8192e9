#!/usr/bin/env python3
"""Segment personal instances in scenes, and correlate the segments with every query.

Reads a Mug19 folder and the weights of train_custom_diffusion.py (--personal has one folder per
subject). Each method predicts all triplets; evaluate_instances.py scores the predictions.

custom_selfcross  the identifier in the description: "the <new1> mug filled with cola"
identifier_class  the same query, of whose words "<new1> mug" alone count
subject_only      "a <new1> mug"
context_only      the description without the identifier, by the base model
arithmetic        the class's embedding averaged with an image embedding of the subject: CLIP's
                  with --clip, otherwise the trained embedding of the identifier
dino_vit          best matches of dense features: with --dino those of DINO, inside our segments;
                  with --features those of a segmentor's backbone, inside ground-truth boxes
mask_rcnn         pooled features of --features inside ground-truth boxes

A method that cannot be run is listed in manifest.json with the reason. Interrupted, the same command
keeps the methods that are finished.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from attnseg.app import flags
from attnseg.backbones import load_backbone
from attnseg.backbones.model_files import weight_hashes
from attnseg.backbones.stable_diffusion import stable_diffusion
from attnseg.datasets.mug19 import Mug19, Triplet, read_mug19
from attnseg.errors import UserError, run
from attnseg.io.files import parameters_hash, sha256
from attnseg.io.gpu import claim_device
from attnseg.io.runs import forget_once
from attnseg.personalised.descriptors import Absent
from attnseg.personalised.instances import Segments, scene_segments
from attnseg.personalised.personal import INFO, read_personal
from attnseg.personalised.predictions import kept_rows, write_predictions, write_rows
from attnseg.personalised.referring import METHODS, OURS, Work, run_method
from attnseg.settings import SubjectSegmentationJob
from attnseg.settings.cli import given_settings
from attnseg.text2mask.extract import Sample, views_of
from attnseg.text2mask.options import Options, blocks_of


def parser() -> argparse.ArgumentParser:
    p = flags.program(
        __doc__,
        "--revision --device",
        output="folder for the results",
        settings=SubjectSegmentationJob,
    )
    flags.add(p, "--root", help="Mug19 folder")
    p.add_argument("--personal", type=Path, required=True, help="holds <subject>/ for each subject")
    flags.add(p, "--model", help="folder or hub id of the base Stable Diffusion")
    p.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    p.add_argument("--clip", help="folder or hub id of the CLIP whose text encoder the model has")
    p.add_argument("--dino", help="folder or hub id of a DINO ViT, as facebook/dino-vits8")
    p.add_argument("--features", type=Path, help="weights of a segmentor of this workflow")
    p.add_argument("--scenes", nargs="+", help="only these (default: all)")
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    settings = given_settings(args, SubjectSegmentationJob)
    started = time.monotonic()

    def log(line: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {line}", flush=True)

    def progress(batches: Iterable) -> tqdm:
        return tqdm(batches, unit="batch", mininterval=2, disable=not sys.stderr.isatty())

    data = read_mug19(args.root)
    triplets = [t for t in data.triplets if args.scenes is None or t.scene in args.scenes]
    if not triplets:
        raise UserError(f"{args.root}: no triplet of the scenes {' '.join(args.scenes or [])}")
    check_subjects(data, triplets, args.personal, args.methods)
    shared = ("timestep", "cross_blocks", "self_block", "iterations", "noises", "resize", "seed")
    options = Options(**{name: getattr(settings, name) for name in shared})
    device = claim_device(args.device)
    backbone = stable_diffusion(load_backbone(args.model, args.revision, device))
    blocks_of(backbone, options)
    views = list(dict.fromkeys((t.scene, t.view) for t in triplets))
    scenes = {}
    for view in views:
        sample = Sample("/".join(view), data.read_view(*view), [])
        (scenes[view],) = views_of(backbone, [sample], options)
    log(f"{len(views)} views of {len({scene for scene, _ in views})} scenes")
    segments: dict[tuple[str, str], Segments] = {}
    for word in dict.fromkeys(data.class_of(t.subject) for t in triplets):
        mine = [v for v in views if data.class_of(data.instances(v[0])[0]) == word]
        found = scene_segments(
            backbone, [scenes[v] for v in mine], word, [len(data.instances(v[0])) for v in mine], options,
            threshold=settings.foreground_threshold, locality=settings.locality,
            batch_size=settings.batch_size, progress=progress,
        )  # fmt: skip
        segments |= dict(zip(mine, found, strict=True))
    log("segments")
    work = Work(
        data, triplets, backbone, options, scenes, segments, args.personal, settings.template,
        settings.batch_size, settings.foreground_threshold, progress,
    )  # fmt: skip
    made_with = parameters_hash(inputs_of(work, args, settings))
    finished = [args.output / f"{method}.safetensors" for method in args.methods]
    forget_once(args.output / ".forced", finished, args.output)
    for method in args.methods:
        file = args.output / f"{method}.safetensors"
        kept = kept_rows(file, made_with)
        if kept is not None:
            work.rows[method], work.about[method] = kept
            log(f"{method}: there already")
            continue
        try:
            reason = run_method(work, method, args.clip, args.dino, args.features)
        except Absent as absent:  # blocks no other method
            reason = f"{absent}; when it can, remove {args.output / 'manifest.json'} and run again"
        if reason:
            work.about[method] = {"not_run": reason}
        else:
            write_rows(file, work.rows[method], made_with, work.about[method])
        log(f"{method}: {reason or work.about[method]['model']}")
    manifest = {
        "parameters": settings.dump() | {"model": backbone.name},
        "seconds": round(time.monotonic() - started, 1),
        "methods": work.about,
    }
    write_predictions(args.output, segments, manifest)
    return 0


def check_subjects(
    data: Mug19, triplets: list[Triplet], folder: Path, methods: Sequence[str]
) -> None:
    """Raise a `UserError` early if the weights of a subject are missing."""
    if not {*OURS, "subject_only", "arithmetic"} & set(methods):
        return
    for subject in dict.fromkeys(triplet.subject for triplet in triplets):
        if not (folder / subject / INFO).is_file():
            raise UserError(
                f"{folder}: no weights of the subject {subject!r}; run scripts/"
                f"train_custom_diffusion.py --photos {data.root / 'subjects' / subject} "
                f"--class {data.class_of(subject)} --output {folder / subject}"
            )


def inputs_of(work: Work, args: argparse.Namespace, settings: SubjectSegmentationJob) -> dict:
    """Everything that determines the predictions."""
    training = {
        subject: read_personal(work.personal / subject).info
        for subject in work.by_subject()
        if (work.personal / subject / INFO).is_file()
    }
    return settings.record() | {
        "model": work.backbone.name,
        "weights": weight_hashes(work.backbone.folder),
        "personal": training,
        "others": [args.clip, args.dino, args.features and sha256(args.features)],
        "triplets": [asdict(triplet) for triplet in work.triplets],
    }


if __name__ == "__main__":
    sys.exit(run(main))
