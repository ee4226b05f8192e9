"""Settings of the attention of real images, and of masks made from it (Text2Mask)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Self, TypeAlias

from pydantic import model_validator

from attnseg.settings.base import (
    Blocks,
    Count,
    Folder,
    Natural,
    NotNegative,
    Overrides,
    Positive,
    SelfBlocks,
    Settings,
    Share,
    Timestep,
    Usual,
    key,
    overrides_of,
    part,
    same_as,
)


@dataclass(frozen=True)
class Profile:
    """Differences between the paper (the defaults) and the official code."""

    labels_from_masks: bool = False  # image-level labels are those of the ground-truth masks
    box_mask: bool = False  # maps are masked by boxes around their high values before propagation
    labels_at_grid: bool = False  # arg max before upsampling if there is no CRF
    wrapped_crf_image: bool = False  # the CRF sees mean-subtracted BGR, cast to uint8


PROFILES = {"paper": Profile(), "official": Profile(True, True, True, True)}
ProfileName = Literal["paper", "official"]
Resize = Literal["official", "native", "none"]

BLOCKS = [4, 5, 6, 7, 8]


class Model(Settings):
    """The text-to-image model whose attention is used."""

    path: Folder = key(
        "CompVis/stable-diffusion-v1-4",
        "A folder in diffusers' layout or, with a revision, an id on the Hugging Face hub.",
        papers="Stable Diffusion v1.4, both",
    )
    revision: str | None = key(
        "133a221b8aa7292a167afc5127cb63fb5005638b",
        "The commit on the hub; null if path is a local folder.",
    )
    file: str | None = key(
        None,
        "A Python file that exports the model's family, `BACKBONE`; null for one of this package, which "
        "the model's index names.",
    )
    cross_blocks: Blocks | Usual = key(
        "usual",
        "Transformer blocks whose cross-attention is averaged: numbers in forward order, or places, as in "
        "[1/4, 1/8 middle]: shares of the latent's grid, and of a U-Net encoder, middle or decoder. `usual`, "
        "here and below: the paper's of Stable Diffusion 1.x and 2.x, else those that `attnseg describe` prints.",
        papers="Text2Mask: 4 to 8",
    )
    self_block: SelfBlocks | Usual | None = key(
        "usual",
        "The transformer block whose self-attention propagates it, or several of one grid, whose mean "
        "does, as in [64, 65] or 1/2 decoder; null for a model without, such as Sana: nothing does.",
        papers="Text2Mask: 11",
    )

    @model_validator(mode="after")
    def check(self) -> Self:
        """What keys ask of each other. An error is (what is wrong, the key)."""
        if self.file is not None and self.revision is not None:
            raise ValueError("a model of a `file` is read from a folder; write null", "revision")
        return self


class Query(Settings):
    """The text query."""

    composed: bool = key(
        True,
        "One sentence with all classes of the image, or as few as fit the text encoder's window, rather "
        "than one sentence per class.",
        papers="Text2Mask: true",
    )
    synonyms: bool = key(
        True, "Less ambiguous words in place of some class names.", papers="Text2Mask: true"
    )
    background_words: bool = key(
        True, "Append words for typical backgrounds to the sentence.", papers="Text2Mask: true"
    )
    emphasis: Positive = key(
        1.0,
        "Factor of the encoded tokens of classes (the category enhancement of iSeg, arXiv 2409.03209).",
        papers="iSeg's code: 1.6",
    )


class Extraction(Settings):
    """The extraction of attention maps from real images."""

    timestep: Timestep | Usual = key(
        "usual", "The timestep t of 1000 at which noise is added.", papers="Text2Mask: 150"
    )
    iterations: Natural = key(
        2,
        "How often self-attention is applied to the cross-attention map.",
        papers="Text2Mask: 2",
    )
    noises: Count = key(
        10,
        "Number of noises over which maps are averaged.",
        papers="Text2Mask: 10 on VOC, 1 on COCO and in ablations",
    )
    resize: Resize | Usual = key(
        "usual",
        "The size of the model's input: official (the official code's, long side 704 to 1024), native "
        "(the model's training size) or none (the photo's size).",
        papers='Text2Mask: "to meet the model requirements"; its code: official',
    )
    shard_size: Count = key(200, "Images per job. If changed, all shards are made again.")
    batch_size: Count = key(8, "Batch size, counting each noise of an image.", speed=True)
    reading: Literal["attention", "output"] = key(
        "attention",
        "What joint attention says of a class: its columns, or in the space of its outputs "
        "(ConceptAttention, with the background words as further concepts; FLUX.1 and Stable Diffusion 3).",
    )
    tokens: Literal["all", "first"] = key(
        "all",
        "The tokens of a class that are read: all, averaged, or only the first.",
        papers="ConceptAttention: first",
    )
    entropy_step: NotNegative = key(
        0.0,
        "Step by which the entropy of self-attention is reduced before it propagates (iSeg); it takes a "
        "matrix of cells by cells.",
        papers="iSeg's code: 0.015 on VOC, 0.1 on COCO",
    )
    cbp: bool = key(
        False, "Also store the maps of Table 5's CBP, which clusters the self-attention."
    )
    query: Query = part(Query)


class ExtractionJob(Extraction):
    """Settings of an extraction job, in a variant."""

    profile: ProfileName = key(
        "paper",
        "The method as in the paper, or as in the official code.",
    )
    cross_blocks: Blocks | Usual = same_as(Model, "cross_blocks")
    self_block: SelfBlocks | Usual | None = same_as(Model, "self_block")
    seed: Natural = key(
        0, "Seed of the run. Each sample's own seed is a hash of it and the sample's name."
    )


Variant: TypeAlias = Overrides  # to mypy, which does not see what is made
if not TYPE_CHECKING:
    Variant = overrides_of(
        "Variant",
        ExtractionJob,
        {
            "profile": "profile",
            "seed": "seed",
            "cross_blocks": "model.cross_blocks",
            "self_block": "model.self_block",
        },
        "extraction",
        more={
            "backbone": (
                str | None,
                key(
                    None,
                    "The model, of `backbones`; by default `model`. Blocks are by default its own.",
                ),
            )
        },
    )


class Gaussian(Settings):
    """The smoothness kernel of a dense CRF."""

    sxy: Positive = key(
        1.0, "Standard deviation in pixels.", papers="Text2Mask's code: 1; SimpleCRF: 3"
    )
    compat: float = key(3.0, "Weight of the kernel.", papers="both: 3")


class Bilateral(Settings):
    """The appearance kernel of a dense CRF."""

    sxy: Positive = key(
        67.0, "Standard deviation in pixels.", papers="Text2Mask's code: 67; SimpleCRF: 80"
    )
    srgb: Positive = key(
        3.0, "Standard deviation in grey levels.", papers="Text2Mask's code: 3; SimpleCRF: 15"
    )
    compat: float = key(4.0, "Weight of the kernel.", papers="Text2Mask's code: 4; SimpleCRF: 10")


class Crf(Settings):
    """The dense CRF for pseudo masks and for predictions of segmentors."""

    iterations: Count = key(
        10,
        "Mean-field iterations.",
        papers="Text2Mask's code: 10; attn2mask: SimpleCRF's default, 5",
    )
    gaussian: Gaussian = part(Gaussian)
    bilateral: Bilateral = part(Bilateral)


class Background(Settings):
    """The background's score, (threshold - the largest class score) ^ power."""

    threshold: float = key(
        1.0,
        "The value from which the largest class score is subtracted.",
        papers="Text2Mask: 1; its code for COCO: 0.7",
    )
    power: Positive | None = key(
        2.0,
        "The exponent; null to use the threshold itself as the background's score.",
        papers="Text2Mask: 2",
    )


class Refinement(Settings):
    """Refinement of attention maps to masks."""

    source: Literal["selfcross", "cross", "cbp", "cross+selfcross"] = key(
        "selfcross", "The maps to refine; a sum of two is their mean."
    )
    crf: bool = key(True, "Apply the dense CRF configured in `crf`.")
    background: Background = part(Background)
    confidence: Share = key(
        0.95,
        "Pixels with a lower CRF probability are ignored in the training of segmentors.",
        papers="Text2Mask's code: 0.95",
    )
    presence: Share | Literal["chosen"] | None = key(
        None,
        "For photos without labels (`labels: known` or `all`), the score from which a class counts as present: how far "
        "the strongest twentieth of its Cross stands above its median. `chosen` is the best on the photos "
        "that have labels in a file or ground truth, 0.75 if none has. Null: every class is present. Weaker than "
        "labels.",
    )


class RefinementJob(Refinement):
    """Settings of a refinement job."""

    version: ClassVar[int] = 2  # the CRF leaves out labels that are nowhere likely
    crf: Crf | None = key(Crf(), "The dense CRF; null for none.")  # type: ignore[assignment]  # what the switch is for
    profile: ProfileName = same_as(ExtractionJob, "profile")
