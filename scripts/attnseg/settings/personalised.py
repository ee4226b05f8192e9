"""Settings of personalised segmentation (Mug19)."""

from typing import Annotated, Literal

from pydantic import Field

from attnseg.settings.attention import BLOCKS
from attnseg.settings.base import (
    Blocks,
    Count,
    Natural,
    NotNegative,
    Positive,
    SelfBlocks,
    Settings,
    Share,
    Timestep,
    key,
    part,
)

Token = Annotated[str, Field(pattern=r"^<[^<>{}\s]+>$")]


class ClassImages(Settings):
    """Images of a subject's class, for prior preservation."""

    prompt: str = key("photo of a {}", "The prompt of photos, with {} for the subject.")
    size: Count | None = key(None, "Side of the square photos in pixels; null for the model's own.")
    regularisation_images: Natural = key(
        200, "Number of generated images of the class, for prior preservation; 0 for none."
    )


class ClassImagesJob(ClassImages):
    """Settings of a job that generates images of the class."""

    seed: Natural = key(0, "Seed of the run.")


class SubjectTraining(ClassImages):
    """Custom Diffusion, for each subject separately."""

    steps: Count = key(250, "Training steps.")
    batch_size: Count = key(
        4,
        "Photos per step, and as many images of the class.",
        papers="Custom Diffusion: 4 on two GPUs, which Text2Mask used",
    )
    learning_rate: Positive = key(
        2e-5,
        "Learning rate, multiplied by batch_size.",
        papers="Custom Diffusion: 1e-5 per image, of twice batch_size photos and images of the class",
    )
    embedding_factor: Positive = key(
        1.0,
        "Factor of the new word's learning rate, for models whose embeddings have another scale than "
        "Stable Diffusion's.",
    )
    prior_weight: NotNegative = key(1.0, "Weight of the loss on images of the class.")
    initial_word: str = key("ktn", "The word whose embedding initialises the new one.")
    augment: bool = key(True, "Randomly shrink or enlarge photos, and say so in the prompt.")
    checkpoint_interval: Count = key(50, "Steps between checkpoints.", speed=True)


class SubjectTrainingJob(SubjectTraining):
    """Settings of a job that trains subjects."""

    flip: bool = key(True, "Mirror half of the photos.")
    seed: Natural = key(0, "Seed of the run.")


class SubjectSegmentation(Settings):
    """Foreground, segments and the correlation of a query with them."""

    timestep: Timestep = key(150, "The timestep t of 1000 at which noise is added.")
    cross_blocks: Blocks | None = key(
        None, "Transformer blocks whose cross-attention is averaged; null for the model's."
    )
    self_block: SelfBlocks | None = key(
        None,
        "The block whose self-attention propagates it and is clustered; null for the model's.",
    )
    iterations: Natural = key(2, "How often self-attention is applied to the cross-attention map.")
    noises: Count = key(1, "Number of noises over which maps are averaged.")
    resize: Literal["official", "none"] = key(
        "official", "The size of the model's input: the official code's, or none for the photo's."
    )
    template: str = key("{}", "Text around a query's description, with {} for it.")
    foreground_threshold: Share | None = key(
        None,
        "Threshold of the class's map x, in [0, 1]; null for x > (1 - x)^2, as in pseudo masks.",
    )
    locality: Positive | None = key(
        None,
        "Spatial prior: standard deviation, in cells, of a Gaussian by which the affinity is "
        "multiplied; null for none, as in the paper.",
    )
    batch_size: Count = key(16, "Queries per batch.", speed=True)


class SubjectSegmentationJob(SubjectSegmentation):
    """Settings of a job that segments subjects."""

    cross_blocks: Blocks = key(
        BLOCKS, "Transformer blocks whose cross-attention is averaged, in forward order."
    )
    self_block: SelfBlocks = key(
        11, "The block whose self-attention propagates it and is clustered."
    )
    seed: Natural = key(0, "Seed of the run.")


class Personalised(Settings):
    """Training on photos of subjects, and their segmentation in scenes (Mug19)."""

    jobs: Count = key(19, "Number of jobs that train all subjects.")
    pictures: Count = key(
        6, "Approximate number of triplets in Figure 5, evenly spaced in the special splits."
    )
    token: Token = key("<new1>", "The new word for a subject, in angle brackets.")
    training: SubjectTraining = part(SubjectTraining)
    segmentation: SubjectSegmentation = part(SubjectSegmentation)
    clip: str | None = key(
        "openai/clip-vit-large-patch14",
        "For the baseline Arithmetic: folder or hub id of the CLIP whose text encoder the model uses; "
        "null to use the trained embedding in place of CLIP's image embedding.",
    )
    dino: str | None = key(
        "facebook/dino-vits8", "For the baseline DINO-ViT: folder or hub id; null for none."
    )
    features: str | None = key(
        None,
        "An entry of segmentors whose backbone replaces DINO (if `dino` is null) and Mask R-CNN, with "
        "ground-truth boxes of the instances; null for none.",
    )
