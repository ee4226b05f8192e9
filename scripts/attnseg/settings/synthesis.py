"""Settings of generated images, inverted photos, and the masks of both (attn2mask)."""

from typing import ClassVar, Literal

from attnseg.settings.attention import Bilateral, Crf, Gaussian
from attnseg.settings.base import (
    Blocks,
    Count,
    Natural,
    NotNegative,
    Positive,
    Settings,
    Timestep,
    key,
    part,
)


class Generation(Settings):
    """The generation of training images (attn2mask)."""

    steps: Count = key(100, "Steps of the DDPM sampler.", papers="attn2mask: 100")
    attention_step: Count = key(
        50, "The step at which attention is recorded, counted from 1.", papers="attn2mask: 50"
    )
    guidance: float = key(
        7.5, "Scale of the classifier-free guidance.", papers="diffusers' default: 7.5"
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = key(
        "auto",
        "Number format of the networks; auto is half precision on a GPU, and on a CPU bfloat16 if it "
        "supports it, else float32. It is recorded, but changing it generates no images again.",
        speed=True,
    )
    cross_blocks: Blocks | None = key(
        None,
        "Transformer blocks whose cross-attention is averaged; null for all.",
        papers="attn2mask: all",
    )
    size: Count | None = key(
        None, "Side of the images in pixels; null for the model's own.", papers="attn2mask: 512"
    )
    image_format: Literal["jpg", "png"] = key("jpg", "File format of images; jpg has quality 95.")
    shard_size: Count = key(500, "Images per job. If changed, all shards are made again.")
    batch_size: Count = key(8, "Images per batch.", speed=True)


class Synthesis(Settings):
    """A set of generated images."""

    dataset: str = key(..., "An entry of datasets; the prompts name its classes.")
    source: str = key(
        ...,
        "Source of the prompts: `coco` (its captions that name a class), another entry of datasets "
        "(its template, with its classes), or `mini_world` (captions of its scenes).",
    )
    person_words: Literal["literal", "all"] = key(
        "literal",
        "Words in COCO's captions that name a person: only person and people (`literal`), or man, "
        "woman, child, ... as well (`all`).",
        papers="attn2mask: literal, by its count of 168,679 captions: 40.7 % of them, against 61 %",
    )
    count: Count = key(
        ...,
        "Number of prompts. A larger set starts with the smaller one.",
        papers="attn2mask: 168,679 (VOC), 100,000 (ImageNet-S), 12,000 (Cityscapes)",
    )
    lora: str | None = key(None, "An entry of loras that adapts the model; null for none.")


class LoraTraining(Settings):
    """The training of an adapter; the defaults are those of peft's guide, which attn2mask cites."""

    version: ClassVar[int] = 2

    prompt: str = key(
        "a photo of sks cityscape", "The prompt of all photos, with the domain token `sks`."
    )
    class_prompt: str = key(
        "a photo of cityscape", "The prompt of the images of the class, without `sks`."
    )
    class_images: Natural = key(
        200,
        "Number of images of the class that the model itself draws beforehand, for prior "
        "preservation; 0 for none.",
        papers="peft's guide: 200",
    )
    prior_weight: NotNegative = key(
        1.0, "Weight of the loss on images of the class.", papers="peft's guide: 1"
    )
    rank: Count = key(16, "Rank of the adapters.", papers="peft's guide: 16, in both networks")
    alpha: Count = key(
        27, "Strength of the U-Net's adapter, multiplied by 1 / rank.", papers="peft's guide: 27"
    )
    text_encoder: bool = key(True, "Also adapt the text encoder.", papers="peft's guide: true")
    text_alpha: Count = key(
        17, "The same as `alpha`, of the text encoder's adapter.", papers="peft's guide: 17"
    )
    steps: Count = key(800, "Training steps.", papers="peft's guide: 800")
    batch_size: Count = key(
        1, "Photos per step, and as many images of the class.", papers="peft's guide: 1"
    )
    learning_rate: Positive = key(0.0001, "Learning rate.", papers="peft's guide: 1e-4")
    size: Count | None = key(
        None,
        "Side of the training crops in pixels; null for the model's own.",
        papers="peft's guide: 512",
    )


class Lora(LoraTraining):
    """An adapter, trained on unlabelled photos."""

    dataset: str = key(..., "An entry of datasets.")
    split: str = key(..., "One of its splits.")
    images: Count | None = key(None, "Number of photos, evenly spaced; null for all.")


class LoraJob(LoraTraining):
    """Settings of a job that trains an adapter."""

    seed: Natural = key(0, "Seed of the run.")
    guidance: float = key(7.5, "Scale of the classifier-free guidance of the images of the class.")
    checkpoint_interval: Count = key(100, "Steps between checkpoints.", speed=True)


class InversionJob(Settings):
    """Settings of a job that inverts photos."""

    steps: Count = key(50, "Steps of DDIM.")
    inner_iterations: Natural = key(10, "Updates of the empty text's embedding per step.")
    guidance: float = key(7.5, "Scale of the classifier-free guidance.")
    learning_rate: Positive = key(
        0.01, "Learning rate of the updates of the empty text's embedding."
    )
    timestep: Timestep = key(
        501,
        "Attention is recorded at the nearest step; 501 is the generation's 50th of 100.",
    )
    cross_blocks: Blocks | None = key(
        None, "Transformer blocks whose cross-attention is averaged; null for all."
    )
    shard_size: Count = key(50, "Photos per job. If changed, all shards are made again.")
    batch_size: Count = key(4, "Photos per batch.", speed=True)


class Inversion(InversionJob):
    """The inversion of photos."""

    images: dict[str, Count] = key(
        {}, "Number of photos per split, from the first on; all photos of splits not listed."
    )


class SimpleGaussian(Gaussian):
    """The smoothness kernel of SimpleCRF."""

    sxy: Positive = key(3.0, "Standard deviation in pixels.", papers="SimpleCRF: 3")


class SimpleBilateral(Bilateral):
    """The appearance kernel of SimpleCRF."""

    sxy: Positive = key(80.0, "Standard deviation in pixels.", papers="SimpleCRF: 80")
    srgb: Positive = key(15.0, "Standard deviation in grey levels.", papers="SimpleCRF: 15")
    compat: float = key(10.0, "Weight of the kernel.", papers="SimpleCRF: 10")


class SimpleCrf(Crf):
    """The dense CRF of labellings; SimpleCRF's defaults, according to its docstring."""

    iterations: Count = key(5, "Mean-field iterations.", papers="attn2mask: SimpleCRF's default, 5")
    gaussian: SimpleGaussian = part(SimpleGaussian)
    bilateral: SimpleBilateral = part(SimpleBilateral)
    clip: float = key(
        0.01,
        "Scores are clipped to [clip, 1 - clip]; they are not normalised.",
        papers="SimpleCRF: 0.01",
        ge=0.00001,
        lt=0.5,
    )


class Labelling(Settings):
    """Post-processing of attention to masks and reliability maps."""

    post: Literal["crf", "threshold", "otsu", "none"] = key(
        "crf",
        "crf (the dense CRF in `labelling_crf`), threshold (at theta), otsu (one threshold per "
        "image), or none (the largest score).",
        papers="attn2mask: crf",
    )
    normalise: Literal["minmax", "max", "none"] = key(
        "minmax",
        "The scaling of each class's map: to [0, 1] (minmax), by its maximum (max), or none.",
        papers='attn2mask: not stated, but "ranging in [0, 255]"; prompt-to-prompt: 255 x / max',
    )
    beta: float = key(
        0.2,
        "The background's score is 1 - the largest class score - beta.",
        papers="attn2mask: 0.2; 0 in Table 5",
    )
    theta: float = key(
        128.0,
        "The threshold, of 255, with post threshold.",
        papers="attn2mask: 64 and 128 in Table 5",
    )
    reliable: float = key(
        0.5,
        "Pixels whose largest score is at least this are reliable (r).",
        papers="attn2mask: 0.5",
    )


class LabellingJob(Labelling):
    """Settings of a labelling job."""

    version: ClassVar[int] = 3  # a constant map is an empty mask, and the CRF leaves out labels
    crf: SimpleCrf = part(SimpleCrf)

    def identity(self) -> dict:
        """The identity, without settings that `post` does not use."""
        unread = {"theta": self.post != "threshold", "crf": self.post != "crf"}
        return {k: v for k, v in super().identity().items() if not unread.get(k)}
