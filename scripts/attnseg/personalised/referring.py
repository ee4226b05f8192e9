"""The methods of Table 7 (Text2Mask, Section 5.3).

Each computes, for every triplet, the correlation of its query with the segments of its view. Ours
and its ablations use Stable Diffusion; the baselines match images.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F

from attnseg.backbones.stable_diffusion import StableDiffusion
from attnseg.backbones.text import Query
from attnseg.core.geometry import central_square
from attnseg.datasets.images import read_image, read_mask
from attnseg.datasets.mug19 import Mug19, Triplet
from attnseg.errors import UserError
from attnseg.evaluations import NO_MASK_RCNN
from attnseg.io.batches import Batches
from attnseg.personalised import descriptors
from attnseg.personalised.instances import Segments, correlations, word_positions
from attnseg.personalised.personal import (
    Personal,
    initial_embedding,
    personal_description,
    personalised,
    phrase_query,
    read_personal,
    text_projections,
)
from attnseg.text2mask.extract import Edit, View, query_maps
from attnseg.text2mask.options import Options

if TYPE_CHECKING:
    from transformers import CLIPModel, CLIPTokenizer

OURS = ("custom_selfcross", "identifier_class")  # every word of the query; these two alone
DIFFUSION = (*OURS, "subject_only", "context_only", "arithmetic")
METHODS = (*DIFFUSION, "dino_vit", "mask_rcnn")
NO_DINO = "no DINO ViT: give --dino, a folder or hub id"


@dataclass
class Work:
    """Inputs shared by all methods, and their results."""

    data: Mug19
    triplets: list[Triplet]
    backbone: StableDiffusion
    options: Options
    scenes: dict[tuple[str, str], View]
    segments: dict[tuple[str, str], Segments]
    personal: Path
    template: str
    batch_size: int
    threshold: float | None
    progress: Callable[[Iterable], Iterable]
    rows: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)  # method -> id -> [S]
    about: dict[str, dict] = field(default_factory=dict)

    def predict(
        self,
        method: str,
        backbone: StableDiffusion,
        texts: Sequence[tuple[Triplet, str]],
        edit: Edit | None = None,
        others: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Fill `rows[method]` for triplets and their texts; equal queries of a view run once.

        `others`: methods whose map is that of some words of the same texts, by name the words; they
        take no passes of their own.
        """
        queries: dict[tuple[str, str, str], Query] = {}
        for triplet, text in texts:
            key = (triplet.scene, triplet.view, text)
            queries.setdefault(key, phrase_query(text, self.template, [*others.values()]))
        pairs = [(self.scenes[scene, view], query) for (scene, view, _), query in queries.items()]
        passes = Batches(self.batch_size, "U-Net pass")
        maps = query_maps(backbone, pairs, self.options, passes, edit=edit, progress=self.progress)
        found = {key: m.kinds["selfcross"] for key, m in zip(queries, maps, strict=True)}
        for triplet, text in texts:
            view = (triplet.scene, triplet.view)
            values = correlations([*found[*view, text]], self.segments[view])
            for name, row in zip((method, *others), values, strict=True):
                self.rows.setdefault(name, {})[triplet.id] = row

    def by_subject(self) -> dict[str, list[Triplet]]:
        groups: dict[str, list[Triplet]] = {}
        for triplet in self.triplets:
            groups.setdefault(triplet.subject, []).append(triplet)
        return groups


def run_method(
    work: Work,
    method: str,
    clip: str | None = None,
    dino: str | None = None,
    features: Path | None = None,
) -> str | None:
    """Fill `work.rows[method]` and `work.about[method]`; return the reason if that is impossible.

    `clip`, `dino`: folder or hub id; `features`: weights of a segmentor of this workflow.
    """
    name = work.backbone.name
    if method == "context_only":
        work.about[method] = {"model": name}
        work.predict(method, work.backbone, [(t, t.description) for t in work.triplets])
    elif method in (*OURS, "subject_only"):
        work.about[method] = {
            "model": f"{name}, Custom Diffusion",
            "seconds_per_instance": seconds_per_instance(work),
        }
        if method in work.rows:
            return None  # it came with the other of `OURS`
        for subject, triplets in work.by_subject().items():
            personal = read_personal(work.personal / subject)
            token, word = next(iter(personal.classes.items()))
            texts = [(t, personal_description(t.description, word, token)) for t in triplets]
            others = {OURS[1]: f"{token} {word}"}
            if method == "subject_only":
                texts, others = [(t, f"a {token} {word}") for t in triplets], {}
            with personalised(work.backbone, personal, str(work.personal / subject)) as changed:
                first = OURS[0] if others else method
                work.predict(first, changed, texts, others=others)
    elif method == "arithmetic" and clip:
        work.about[method] = {"model": f"{name}, {clip}"}
        arithmetic_clip(work, clip)
    elif method == "arithmetic":
        work.about[method] = {
            "model": f"{name}; in place of CLIP's image embedding the learnt embedding of the identifier"
        }
        arithmetic_identifier(work)
    elif method == "dino_vit" and dino:
        work.about[method] = {"model": dino}
        matched(work, dino)
    elif features:
        described, about = descriptors.segmentor_features(features)
        work.about[method] = {
            "model": f"{about}, trained by this workflow; true instance boxes",
            "true_masks": True,
        }
        compared(work, method, described)
    else:
        return NO_DINO if method == "dino_vit" else NO_MASK_RCNN
    return None


def seconds_per_instance(work: Work) -> float:
    """Mean training time of a subject, in seconds."""
    folders = [work.personal / subject for subject in work.by_subject()]
    return float(np.mean([read_personal(folder).info.get("seconds", 0) for folder in folders]))


def arithmetic_identifier(work: Work) -> None:
    """Replace the class word's embedding by its mean with the identifier's trained embedding."""
    base = {
        name: weight.detach().float().cpu()
        for name, weight in text_projections(work.backbone.unet).items()
    }
    table = work.backbone.text_encoder.get_input_embeddings().weight
    for subject, triplets in work.by_subject().items():
        personal = read_personal(work.personal / subject)
        (token, row), word = next(iter(personal.embeddings.items())), work.data.class_of(subject)
        own = initial_embedding(work.backbone.tokenizer, table, word).cpu()
        mixed = Personal({token: (own + row) / 2}, base, personal.info)
        texts = [personal_description(t.description, word, token) for t in triplets]
        texts = [text.replace(f"{token} {word}", token, 1) for text in texts]
        with personalised(work.backbone, mixed, str(work.personal / subject)) as changed:
            work.predict("arithmetic", changed, list(zip(triplets, texts, strict=True)))


@torch.no_grad()
def arithmetic_clip(work: Work, path: str) -> None:
    """Replace the class word's hidden states by the mean of CLIP's embeddings of photos and word.

    CLIP's joint space has the width of the text encoder's hidden states (768 for Stable Diffusion
    1.x), but not their scale: the mean is rescaled to the norm of the state that it replaces.
    """
    from transformers import CLIPModel

    try:
        clip = CLIPModel.from_pretrained(path).eval().to(work.backbone.device)
    except Exception as error:  # transformers, torch and safetensors raise many types
        raise descriptors.absent(path, "CLIP", error) from None
    width = work.backbone.text_encoder.config.hidden_size
    if clip.config.projection_dim != width:
        raise UserError(
            f"--clip {path}: embeddings of {clip.config.projection_dim} numbers, the model's text "
            f"encoder has {width}: give the CLIP whose text encoder the model uses"
        )
    for subject, triplets in work.by_subject().items():
        word = work.data.class_of(subject)
        photos = [read_image(path) for path in work.data.photos(subject)]
        mixed = clip_mean(clip, work.backbone.tokenizer, photos, word)

        def edit(
            hidden: torch.Tensor, query: Query, mixed: torch.Tensor = mixed, word: str = word
        ) -> torch.Tensor:
            hidden, positions = hidden.clone(), word_positions(work.backbone, query.text, word)
            length = hidden[positions].norm(dim=-1, keepdim=True)
            hidden[positions] = mixed.to(hidden) * length
            return hidden

        texts = [(triplet, triplet.description) for triplet in triplets]
        work.predict("arithmetic", work.backbone, texts, edit)


def clip_mean(
    clip: "CLIPModel", tokenizer: "CLIPTokenizer", photos: list[np.ndarray], word: str
) -> torch.Tensor:
    """Mean of CLIP's embeddings of photos and of a word, all of unit length: [D], unit length."""
    size = clip.config.vision_config.image_size
    mean = torch.tensor((0.48145466, 0.4578275, 0.40821073)).view(3, 1, 1)
    std = torch.tensor((0.26862954, 0.26130258, 0.27577711)).view(3, 1, 1)
    pixels = torch.stack([((central_square(photo, size) + 1) / 2 - mean) / std for photo in photos])
    device = next(clip.parameters()).device
    images = clip.visual_projection(clip.vision_model(pixels.to(device)).pooler_output)
    ids = tokenizer([word], return_tensors="pt").input_ids.to(device)
    text = clip.text_projection(clip.text_model(ids).pooler_output)[0]
    unit = F.normalize
    image = unit(unit(images, dim=-1).mean(0), dim=0)
    return unit(image + unit(text, dim=0), dim=0)


def compared(work: Work, method: str, features: descriptors.Features) -> None:
    """Compare features of the subject's photos with those in each instance's ground-truth box."""
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
    """A subject's features in each photo, [D, n]: inside its ground-truth box, or all without one."""
    cells = []
    for photo in data.photos(subject):
        image, path = read_image(photo), data.subject_mask_path(photo)
        mask = np.ones(image.shape[:2], bool)
        if path.is_file():
            mask = descriptors.box_of(read_mask(path, image.shape[:2]) > 0)
        cells.append(descriptors.inside(features(image), mask))
    return cells


def matched(work: Work, path: str) -> None:
    """Match each cell of a scene with the subject's salient cells; average the best per segment."""
    features = descriptors.load_dino(path, work.backbone.device)
    known = {}
    for subject in work.by_subject():
        cells = []
        for photo in work.data.photos(subject):
            described = features(read_image(photo))
            saliency = cast(torch.Tensor, features.saliency)
            cells.append(described[:, saliency >= saliency.mean()])
        known[subject] = torch.cat(cells, 1)
    rows = work.rows.setdefault("dino_vit", {})
    shown: tuple[str, str] | None = None
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
    return F.adaptive_avg_pool2d(torch.from_numpy(masks).float(), (like.shape[0], like.shape[1]))
