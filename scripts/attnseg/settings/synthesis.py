"""Images from text, inverted photos, and the masks of both (attn2mask)."""

from typing import Literal

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
    """How training images are generated (attn2mask)."""

    steps: Count = key(100, "Steps of the DDPM sampler.", papers="attn2mask: 100")
    attention_step: Count = key(
        50, "Attention is read at this step, counted from 1.", papers="attn2mask: 50"
    )
    guidance: float = key(
        7.5,
        "Scale of the classifier-free guidance; the paper names none.",
        papers="attn2mask: not stated",
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = key(
        "auto",
        "Number format of the networks; auto is half precision on a GPU, and on a CPU bfloat16 where "
        "it computes in it, else float32. It is recorded, and no reason to generate again.",
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
    image_format: Literal["jpg", "png"] = key("jpg", "How images are stored, jpg at quality 95.")
    shard_size: Count = key(500, "Images a job. Changing it makes every shard again.")
    batch_size: Count = key(8, "Images that pass the network together.", speed=True)


class Synthesis(Settings):
    """A set of generated images."""

    dataset: str = key(..., "An entry of datasets, whose classes the prompts name.")
    source: str = key(
        ...,
        "Where prompts come from: an entry of datasets, `coco` (its captions that name a class) or "
        "another (its template around its classes), or `mini_world` (captions of its scenes).",
    )
    person_words: Literal["literal", "all"] = key(
        "literal",
        "Of COCO's captions, which name a person: those with person or people alone (`literal`), or "
        "those with man, woman, child, ... as well (`all`).",
        papers="attn2mask: literal, by its count of 168,679 captions: 40.7 % of them, against 61 %",
    )
    count: Count = key(
        ...,
        "Prompts. A larger set begins with the smaller one.",
        papers="attn2mask: 168,679 (VOC), 100,000 (ImageNet-S), 12,000 (Cityscapes)",
    )
    lora: str | None = key(None, "An entry of loras, by which the model is adapted; null for none.")


class LoraTraining(Settings):
    """How an adapter is trained."""

    prompt: str = key(
        "a photo of sks cityscape", "What every photo is called, the domain token `sks` in it."
    )
    rank: Count = key(16, "Rank of the adapter.", papers="attn2mask: not stated")
    steps: Count = key(800, "Training steps.", papers="attn2mask: not stated")
    batch_size: Count = key(1, "Photos a step.")
    learning_rate: Positive = key(0.0001, "Learning rate.")
    text_encoder: bool = key(False, "Whether the text encoder is adapted, too.")
    size: Count | None = key(None, "Side of the training crops; null for the model's own.")


class Lora(LoraTraining):
    """An adapter, trained on unlabelled photos; the paper names neither its rank nor its schedule."""

    dataset: str = key(..., "An entry of datasets.")
    split: str = key(..., "One of its splits.")
    images: Count | None = key(
        None, "Photos used, evenly spread; null for all.", papers="attn2mask: not stated"
    )


class LoraJob(LoraTraining):
    """An adapter's training, as a job is told it."""

    seed: Natural = key(0, "Seed of the run.")
    class_prompt: str | None = key(
        None, "What images of the class are called, with which the prior is preserved."
    )
    prior_weight: NotNegative = key(1.0, "Weight of the loss on images of the class.")
    checkpoint_interval: Count = key(
        100, "Steps between the checkpoints that an interrupted training goes on from.", speed=True
    )


class InversionJob(Settings):
    """How photos are inverted, as a job is told it."""

    steps: Count = key(50, "Steps of DDIM.")
    inner_iterations: Natural = key(10, "Updates of the empty text's embedding a step.")
    guidance: float = key(7.5, "Scale of the classifier-free guidance.")
    learning_rate: Positive = key(
        0.01, "Learning rate of the updates of the empty text's embedding."
    )
    timestep: Timestep = key(
        501,
        "Attention is read at the step nearest to it; 501 is the generation's 50th of 100.",
    )
    cross_blocks: Blocks | None = key(
        None, "Transformer blocks whose cross-attention is averaged; null for all."
    )
    shard_size: Count = key(50, "Photos a job. Changing it makes every shard again.")
    batch_size: Count = key(4, "Photos that pass the network together.", speed=True)


class Inversion(InversionJob):
    """How photos are inverted."""

    images: dict[str, Count] = key(
        {}, "How many photos of a split, from the first on; all of a split that is absent here."
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
    """The dense CRF of labellings; SimpleCRF's defaults, as its docstring has them."""

    iterations: Count = key(5, "Mean-field iterations.", papers="attn2mask: SimpleCRF's default, 5")
    gaussian: SimpleGaussian = part(SimpleGaussian)
    bilateral: SimpleBilateral = part(SimpleBilateral)


class Labelling(Settings):
    """From attention to masks and reliability maps."""

    post: Literal["crf", "threshold", "otsu", "none"] = key(
        "crf",
        "crf (the dense CRF under `labelling_crf`), threshold (at theta), otsu (one threshold an "
        "image), or none (the largest score).",
        papers="attn2mask: crf",
    )
    normalise: Literal["minmax", "max", "none"] = key(
        "minmax",
        "How each class's map is scaled first; the paper does not say.",
        papers="attn2mask: not stated",
    )
    beta: float = key(
        0.2,
        "The background's score is 1 - the largest class score - beta.",
        papers="attn2mask: 0.2; 0 in Table 5",
    )
    theta: float = key(
        128.0, "With post threshold, of 255.", papers="attn2mask: 64 and 128 in Table 5"
    )
    reliable: float = key(
        0.5,
        "Pixels whose largest score is at least this are reliable (r).",
        papers="attn2mask: 0.5",
    )


class LabellingJob(Labelling):
    """A labelling, as a job is told it."""

    crf: SimpleCrf = part(SimpleCrf)

    def identity(self) -> dict:
        """Without the settings that this kind of labelling does not read."""
        unread = {"theta": self.post != "threshold", "crf": self.post != "crf"}
        return {k: v for k, v in super().identity().items() if not unread.get(k)}
