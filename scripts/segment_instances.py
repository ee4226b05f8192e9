#!/usr/bin/env python3
"""Find personal instances in scenes: segments, and their correlation with every query.

Reads a Mug19 folder and, a subject, the weights of train_custom_diffusion.py (--personal holds a
folder for each). Each method answers all triplets; evaluate_instances.py scores them.

custom_selfcross  the identifier in the description: "the <new1> mug filled with cola"
subject_only      "a <new1> mug"
context_only      the description without the identifier, by the base model
arithmetic        the class's embedding averaged with an image embedding of the subject: CLIP's
                  with --clip; without, the learnt embedding of the identifier stands in for it
dino_vit          best matches of dense features: DINO's with --dino, inside our segments; a
                  segmentor's backbone with --features, inside the true instances' boxes
mask_rcnn         pooled features inside the true instances' boxes, as of --features

A method that cannot be run is listed in manifest.json with the reason.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from tqdm import tqdm

from attnseg.datasets.images import read_image, read_mask
from attnseg.datasets.mug19 import Mug19, Triplet, read_mug19
from attnseg.diffusion import custom_diffusion as cd
from attnseg.diffusion.attention import check_blocks
from attnseg.diffusion.extract import Options
from attnseg.diffusion.instances import (
    Scene,
    Segments,
    correlations,
    query_maps,
    scene_of,
    scene_segments,
)
from attnseg.diffusion.load import load_parts
from attnseg.errors import UserError, run
from attnseg.files import write_atomically, write_json
from attnseg.gpu import claim_device
from attnseg.masks import descriptors
from attnseg.prompts import Query

DIFFUSION = ("custom_selfcross", "subject_only", "context_only", "arithmetic")
METHODS = (*DIFFUSION, "dino_vit", "mask_rcnn")
NO_MASK_RCNN = "Mask R-CNN needs Detectron2 or torchvision, which no environment here has"
NO_DINO = "no DINO ViT: give --dino, a folder or hub id"


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--root", type=Path, required=True, help="Mug19 folder")
    p.add_argument("--personal", type=Path, required=True, help="holds <subject>/ for each subject")
    p.add_argument("--model", required=True, help="folder or hub id of the base Stable Diffusion")
    p.add_argument("--revision", help="of a hub id")
    p.add_argument("--output", type=Path, required=True, help="folder for the results")
    p.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    p.add_argument("--clip", help="folder or hub id of the CLIP whose text encoder the model has")
    p.add_argument("--dino", help="folder or hub id of a DINO ViT, as facebook/dino-vits8")
    p.add_argument("--features", type=Path, help="weights of a segmentor of this workflow")
    p.add_argument(
        "--feature-stage", type=int, choices=range(1, 5), default=2, help="of its backbone"
    )
    p.add_argument("--cross-blocks", type=int, nargs="+", default=list(Options.cross_blocks))
    p.add_argument("--self-block", type=int, default=Options.self_block)
    p.add_argument("--timestep", type=int, default=Options.timestep, help="0 to 999")
    p.add_argument("--iterations", type=int, default=Options.iterations)
    p.add_argument("--noises", type=int, default=1, help="maps averaged a query")
    p.add_argument("--resize", choices=("official", "none"), default=Options.resize)
    p.add_argument("--template", default="{}", help="of queries, with {} for the description")
    p.add_argument(
        "--foreground-threshold", type=float, help="(default: where x > (1 - x)^2, as for classes)"
    )
    p.add_argument(
        "--locality",
        type=float,
        metavar="CELLS",
        help="how near the cells of a segment are, a standard deviation (default: no matter)",
    )
    p.add_argument("--scenes", nargs="+", help="only these (default: all)")
    p.add_argument("--batch-size", type=int, default=16, help="U-Net passes at a time")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    return p


@dataclass
class Work:
    """What all methods share."""

    data: Mug19
    triplets: list[Triplet]
    parts: object
    options: Options
    scenes: dict[tuple[str, str], Scene]
    segments: dict[tuple[str, str], Segments]
    personal: Path
    template: str
    batch_size: int
    threshold: float | None
    progress: Callable[[Iterable], Iterable]
    rows: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)  # method -> id -> [S]
    about: dict[str, dict] = field(default_factory=dict)

    def answer(self, method: str, parts, asked: Sequence[tuple[Triplet, str]], **edit) -> None:
        """Correlations of the triplets' queries; equal queries of a view are computed once."""
        queries: dict[tuple[str, str, str], Query] = {}
        for triplet, text in asked:
            key = (triplet.scene, triplet.view, text)
            queries.setdefault(key, cd.phrase_query(text, self.template))
        asks = [(self.scenes[scene, view], query) for (scene, view, _), query in queries.items()]
        maps = query_maps(
            parts, asks, self.options, self.batch_size, progress=self.progress, **edit
        )
        found = dict(zip(queries, (selfcross for selfcross, _ in maps), strict=True))
        rows = self.rows.setdefault(method, {})
        for triplet, text in asked:
            view = (triplet.scene, triplet.view)
            rows[triplet.id] = correlations([found[*view, text]], self.segments[view])[0]

    def by_subject(self) -> dict[str, list[Triplet]]:
        groups: dict[str, list[Triplet]] = {}
        for triplet in self.triplets:
            groups.setdefault(triplet.subject, []).append(triplet)
        return groups


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    if args.locality is not None and args.locality <= 0:
        raise UserError("--locality must be positive")
    if not 0 <= args.timestep < 1000 or min(args.noises, args.batch_size) < 1:
        raise UserError("--timestep is 0 to 999, --noises and --batch-size at least 1")
    started = time.time()

    def log(line: str) -> None:
        print(f"[{time.time() - started:6.1f} s] {line}", flush=True)

    def progress(batches):
        return tqdm(batches, unit="batch", mininterval=2, disable=not sys.stderr.isatty())

    data = read_mug19(args.root)
    triplets = [t for t in data.triplets if args.scenes is None or t.scene in args.scenes]
    if not triplets:
        raise UserError(f"{args.root}: no triplet of the scenes {' '.join(args.scenes or [])}")
    check_subjects(data, triplets, args.personal, args.methods)
    options = Options(
        cross_blocks=tuple(args.cross_blocks),
        self_block=args.self_block,
        timestep=args.timestep,
        iterations=args.iterations,
        noises=args.noises,
        resize=args.resize,
        seed=args.seed,
    )
    parts = load_parts(args.model, args.revision, claim_device(args.device))
    check_blocks(parts.unet, options.cross_blocks, options.self_block)
    views = list(dict.fromkeys((t.scene, t.view) for t in triplets))
    scenes = {
        view: scene_of(parts, "/".join(view), data.read_view(*view), options) for view in views
    }
    log(f"{len(views)} views of {len({scene for scene, _ in views})} scenes")
    segments: dict[tuple[str, str], Segments] = {}
    for word in dict.fromkeys(data.class_of(t.subject) for t in triplets):
        mine = [v for v in views if data.class_of(data.instances(v[0])[0]) == word]
        found = scene_segments(
            parts, [scenes[v] for v in mine], word, [len(data.instances(v[0])) for v in mine], options,
            threshold=args.foreground_threshold, locality=args.locality,
            batch_size=args.batch_size, progress=progress,
        )  # fmt: skip
        segments |= dict(zip(mine, found, strict=True))
    log("segments")
    work = Work(
        data, triplets, parts, options, scenes, segments, args.personal, args.template,
        args.batch_size, args.foreground_threshold, progress,
    )  # fmt: skip
    for method in args.methods:
        reason = run_method(work, method, args)
        if reason:
            work.about[method] = {"not_run": reason}
        log(f"{method}: {reason or work.about[method]['model']}")
    save(work, args, time.time() - started)
    return 0


def check_subjects(
    data: Mug19, triplets: list[Triplet], folder: Path, methods: Sequence[str]
) -> None:
    """Raise before any work where the weights of a subject are not there."""
    if not {"custom_selfcross", "subject_only", "arithmetic"} & set(methods):
        return
    for subject in dict.fromkeys(triplet.subject for triplet in triplets):
        if not (folder / subject / cd.INFO).is_file():
            raise UserError(
                f"{folder}: no weights of the subject {subject!r}; run scripts/"
                f"train_custom_diffusion.py --photos {data.root / 'subjects' / subject} "
                f"--class {data.class_of(subject)} --output {folder / subject}"
            )


def run_method(work: Work, method: str, args: argparse.Namespace) -> str | None:
    """Fill `work.rows[method]`; a reason where it cannot be done."""
    name = work.parts.name
    if method == "context_only":
        work.about[method] = {"model": name}
        work.answer(method, work.parts, [(t, t.description) for t in work.triplets])
    elif method in ("custom_selfcross", "subject_only"):
        work.about[method] = {
            "model": f"{name}, Custom Diffusion",
            "seconds_an_instance": seconds_an_instance(work),
        }
        for subject, triplets in work.by_subject().items():
            personal = cd.read_personal(work.personal / subject)
            token, word = next(iter(personal.classes.items()))
            texts = {
                t.id: f"a {token} {word}"
                if method == "subject_only"
                else cd.personal_description(t.description, word, token)
                for t in triplets
            }
            with cd.personalised(work.parts, personal, str(work.personal / subject)) as parts:
                work.answer(method, parts, [(t, texts[t.id]) for t in triplets])
    elif method == "arithmetic" and args.clip:
        work.about[method] = {"model": f"{name}, {args.clip}"}
        arithmetic_clip(work, args.clip)
    elif method == "arithmetic":
        work.about[method] = {
            "model": f"{name}; in place of CLIP's image embedding the learnt embedding of the identifier"
        }
        arithmetic_learnt(work)
    elif method == "dino_vit" and args.dino:
        work.about[method] = {"model": args.dino}
        dino(work, args.dino)
    elif args.features:
        features, about = descriptors.segmentor_features(args.features, args.feature_stage)
        work.about[method] = {
            "model": f"{about}, trained by this workflow; true instance boxes",
            "true_masks": True,
        }
        compared(work, method, features)
    else:
        return NO_DINO if method == "dino_vit" else NO_MASK_RCNN
    return None


def seconds_an_instance(work: Work) -> float:
    """How long the learning of a subject took, on average."""
    folders = [work.personal / subject for subject in work.by_subject()]
    return float(np.mean([cd.read_personal(folder).info.get("seconds", 0) for folder in folders]))


def arithmetic_learnt(work: Work) -> None:
    """The class's word becomes the mean of its own and the identifier's learnt embedding."""
    base = {
        name: layer.weight.detach().float().cpu()
        for name, layer in cd.text_projections(work.parts.unet).items()
    }
    table = work.parts.text_encoder.get_input_embeddings().weight
    for subject, triplets in work.by_subject().items():
        personal = cd.read_personal(work.personal / subject)
        (token, row), word = next(iter(personal.embeddings.items())), work.data.class_of(subject)
        own = cd.initial_embedding(work.parts.tokenizer, table, word).cpu()
        mixed = cd.Personal({token: (own + row) / 2}, base, personal.info)
        texts = [cd.personal_description(t.description, word, token) for t in triplets]
        texts = [text.replace(f"{token} {word}", token, 1) for text in texts]
        with cd.personalised(work.parts, mixed, str(work.personal / subject)) as parts:
            work.answer("arithmetic", parts, list(zip(triplets, texts, strict=True)))


@torch.no_grad()
def arithmetic_clip(work: Work, path: str) -> None:
    """The class's hidden states become the mean of CLIP's embeddings of the photos and the class.

    CLIP's joint space has the width of the text encoder's hidden states (768 for Stable Diffusion
    1.x), though not its scale: the mean is brought to the length of what it replaces.
    """
    from transformers import CLIPModel

    try:
        clip = CLIPModel.from_pretrained(path).eval().to(work.parts.device)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0][:150]
        raise UserError(f"--clip {path}: no CLIP can be loaded from there ({reason})") from None
    width = work.parts.text_encoder.config.hidden_size
    if clip.config.projection_dim != width:
        raise UserError(
            f"--clip {path}: embeddings of {clip.config.projection_dim} numbers, the model's text "
            f"encoder has {width}: give the CLIP that the model's text encoder is of"
        )
    for subject, triplets in work.by_subject().items():
        word = work.data.class_of(subject)
        photos = [read_image(path) for path in work.data.photos(subject)]
        mixed = clip_mean(clip, work.parts.tokenizer, photos, word)

        def edit(hidden: torch.Tensor, positions: list[int], mixed=mixed) -> torch.Tensor:
            hidden = hidden.clone()
            length = hidden[positions].norm(dim=-1, keepdim=True)
            hidden[positions] = mixed.to(hidden) * length
            return hidden

        asked = [(triplet, triplet.description) for triplet in triplets]
        work.answer("arithmetic", work.parts, asked, edit=edit, class_word=word)


def clip_mean(clip, tokenizer, photos: list[np.ndarray], word: str) -> torch.Tensor:
    """Mean of CLIP's embeddings of photos and of a word, all of unit length: [D], unit length."""
    size = clip.config.vision_config.image_size
    mean = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1)
    std = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(3, 1, 1)
    pixels = torch.stack([((cd.square(photo, size) + 1) / 2 - mean) / std for photo in photos])
    device = next(clip.parameters()).device
    seen = clip.visual_projection(clip.vision_model(pixels.to(device)).pooler_output)
    ids = tokenizer([word], return_tensors="pt").input_ids.to(device)
    said = clip.text_projection(clip.text_model(ids).pooler_output)[0]
    unit = torch.nn.functional.normalize
    image = unit(unit(seen, dim=-1).mean(0), dim=0)
    return unit(image + unit(said, dim=0), dim=0)


def compared(work: Work, method: str, features: descriptors.Features) -> None:
    """Features of the photos against those inside the true box of every instance."""
    similarity = {
        "dino_vit": descriptors.dense_similarity,
        "mask_rcnn": descriptors.pooled_similarity,
    }[method]
    subjects = {name: subject_cells(work.data, name, features) for name in work.by_subject()}
    regions: dict[tuple[str, str], list[torch.Tensor]] = {}
    rows = work.rows.setdefault(method, {})
    for triplet in work.triplets:
        view = (triplet.scene, triplet.view)
        if view not in regions:
            described = features(work.data.read_view(*view))
            boxes = [descriptors.box_of(mask) for mask in work.data.read_masks(*view)]
            regions[view] = [descriptors.inside(described, box) for box in boxes]
        rows[triplet.id] = np.array(
            [similarity(subjects[triplet.subject], region) for region in regions[view]]
        )


def subject_cells(data: Mug19, subject: str, features: descriptors.Features) -> list[torch.Tensor]:
    """A subject's cells in each photo [D, n]: inside its true box, or all where no mask is given."""
    cells = []
    for photo in data.photos(subject):
        image, path = read_image(photo), data.subject_mask_path(photo)
        mask = np.ones(image.shape[:2], bool)
        if path.is_file():
            mask = descriptors.box_of(read_mask(path, image.shape[:2]) > 0)
        cells.append(descriptors.inside(features(image), mask))
    return cells


def dino(work: Work, path: str) -> None:
    """The best match of each of a scene's cells among the subject's salient ones, a segment's mean."""
    features = descriptors.load_dino(path, work.parts.device)
    known = {}
    for subject in work.by_subject():
        cells = []
        for photo in work.data.photos(subject):
            described, saliency = features(read_image(photo)), features.saliency
            cells.append(described[:, saliency >= saliency.mean()])
        known[subject] = torch.cat(cells, 1)
    rows = work.rows.setdefault("dino_vit", {})
    described, shown = None, None
    for triplet in sorted(work.triplets, key=lambda t: (t.scene, t.view)):
        view = (triplet.scene, triplet.view)
        if shown != view:
            described, shown = features(work.data.read_view(*view)), view
        best = torch.einsum("dn,dhw->nhw", known[triplet.subject], described).amax(0)
        masks = work.segments[view].masks(work.threshold)
        rows[triplet.id] = np.array(
            [
                best[share > 0.5].mean() if (share > 0.5).any() else -1.0
                for share in shares(masks, best)
            ]
        )


def shares(masks: np.ndarray, like: torch.Tensor) -> torch.Tensor:
    """How much of each cell of a grid a mask covers: [S, H, W] bool -> [S, h, w]."""
    return torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(masks).float(), like.shape)


def save(work: Work, args: argparse.Namespace, seconds: float) -> None:
    """segments.safetensors, a file a method, and the manifest last."""
    args.output.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for (scene, view), segments in work.segments.items():
        tensors[f"{scene}/{view}/labels"] = segments.labels.to(torch.int8)
        tensors[f"{scene}/{view}/foreground"] = segments.foreground.half()
    with write_atomically(args.output / "segments.safetensors") as partial:
        save_file(tensors, partial)
    for method, rows in work.rows.items():
        with write_atomically(args.output / f"{method}.safetensors") as partial:
            save_file(
                {name: torch.from_numpy(np.asarray(row)).float() for name, row in rows.items()},
                partial,
            )
    write_json(
        args.output / "manifest.json",
        {
            "parameters": {
                **work.options.parameters(),
                "model": work.parts.name,
                "template": work.template,
                "foreground_threshold": args.foreground_threshold,
                "locality": args.locality,
            },
            "seconds": round(seconds, 1),
            "methods": work.about,
            "views": {
                "/".join(view): {"size": s.size, "content": s.fit.content, "padded": s.fit.padded}
                for view, s in work.segments.items()
            },
        },
    )


if __name__ == "__main__":
    sys.exit(run(main))
