"""Subjects, learnt from photos and found among their like (Mug19)."""

from typing import Annotated, Literal

from pydantic import Field

from attnseg.settings.attention import BLOCKS
from attnseg.settings.base import (
    Blocks,
    Count,
    Natural,
    NotNegative,
    Positive,
    Settings,
    Share,
    Timestep,
    key,
    part,
)

Token = Annotated[str, Field(pattern=r"^<[^<>\s]+>$")]


class ClassImages(Settings):
    """The images that preserve what the word of a subject's class means."""

    prompt: str = key("photo of a {}", "What a photo is called, with {} for the subject.")
    size: Count | None = key(None, "Side of the square photos in pixels; null for the model's own.")
    regularisation_images: Natural = key(
        200, "Images of the class, generated to preserve what it means; 0 for none."
    )


class ClassImagesJob(ClassImages):
    """The generation of images of the class, as a job is told it."""

    seed: Natural = key(0, "Seed of the run.")


class SubjectTraining(ClassImages):
    """Custom Diffusion, each subject on its own."""

    steps: Count = key(250, "Training steps.")
    batch_size: Count = key(
        4,
        "Photos a step, and as many images of the class.",
        papers="Custom Diffusion: 4 on two GPUs, as Text2Mask had",
    )
    learning_rate: Positive = key(
        2e-5,
        "Learning rate, multiplied by batch_size.",
        papers="Custom Diffusion: 1e-5 an image of photos and class, twice batch_size of them",
    )
    embedding_factor: Positive = key(
        1.0,
        "How many times faster the new word's embedding learns, where embeddings are of another "
        "scale than Stable Diffusion's.",
    )
    prior_weight: NotNegative = key(1.0, "Weight of the loss on images of the class.")
    initial_word: str = key("ktn", "The word whose embedding the new one starts from.")
    augment: bool = key(
        True, "Whether most photos are shrunk or enlarged, which the prompt then says."
    )
    checkpoint_interval: Count = key(
        50, "Steps between the checkpoints that an interrupted training goes on from.", speed=True
    )


class SubjectTrainingJob(SubjectTraining):
    """The training of subjects, as a job is told it."""

    flip: bool = key(True, "Whether half the photos are mirrored.")
    seed: Natural = key(0, "Seed of the run.")


class SubjectSegmentation(Settings):
    """Foreground, segments and the correlation of a query with them."""

    timestep: Timestep = key(150, "The diffusion step t of the noise that is added, of 1000.")
    cross_blocks: Blocks | None = key(
        None, "Transformer blocks whose cross-attention is averaged; null for the model's."
    )
    self_block: Natural | None = key(
        None,
        "The block whose self-attention propagates it and is clustered; null for the model's.",
    )
    iterations: Natural = key(2, "How often self-attention is applied to the cross-attention map.")
    noises: Count = key(1, "Maps of this many noises are averaged.")
    resize: Literal["official", "none"] = key(
        "official", "The authors' choice of the working size, or none to keep the size."
    )
    template: str = key("{}", "What surrounds a query's description, with {} for it.")
    foreground_threshold: Share | None = key(
        None,
        "Threshold of the class's map, in [0, 1]; null for where x > (1 - x)^2, as for classes.",
    )
    locality: Positive | None = key(
        None,
        "How near the cells of a segment are: the standard deviation, in cells, of a Gaussian by "
        "which the affinity is multiplied. null for the affinity alone, as in the paper.",
    )
    batch_size: Count = key(16, "Queries that pass the network together.", speed=True)


class SubjectSegmentationJob(SubjectSegmentation):
    """The segmentation of subjects, as a job is told it."""

    cross_blocks: Blocks = key(
        BLOCKS, "Transformer blocks whose cross-attention is averaged, in forward order."
    )
    self_block: Natural = key(11, "The block whose self-attention propagates it and is clustered.")
    seed: Natural = key(0, "Seed of the run.")


class Personalised(Settings):
    """How subjects are learnt from photos and found among their like (Mug19)."""

    jobs: Count = key(19, "Jobs that the learning of all subjects is spread over.")
    pictures: Count = key(
        6, "How many questions Figure 5 shows, about; evenly spread over the special splits."
    )
    token: Token = key("<new1>", "The new word for a subject, in angle brackets.")
    training: SubjectTraining = part(SubjectTraining)
    segmentation: SubjectSegmentation = part(SubjectSegmentation)
    clip: str | None = key(
        "openai/clip-vit-large-patch14",
        "Of the baseline Arithmetic: folder or hub id of the CLIP whose text encoder the model has; "
        "null where the learnt embedding stands in for an image's.",
    )
    dino: str | None = key(
        "facebook/dino-vits8", "Of the baseline DINO-ViT, folder or hub id; null for none."
    )
    features: str | None = key(
        None,
        "An entry of segmentors whose backbone stands in for DINO (where `dino` is null) and for "
        "Mask R-CNN, with the true boxes of the instances; null for none.",
    )
