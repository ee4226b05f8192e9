"""Fixtures shared by the tests."""

import functools
import os
from pathlib import Path

import pytest

CAPTIONS = [
    "a photo of a dog and a cat on the grass",
    "a photo including bird avian, dining table, potted plant, and person with clothes.",
    "a picture of an aeroplane in front of the sky",
    "a photo of road, traffic light, plant, sand, building in sks cityscape by a dashboard camera",
    "there is a sheep, a horse, and a tv monitor near the sea",
    "a photo of bottle with a background",
]


@pytest.fixture(scope="session")
def tiny_sd(tmp_path_factory) -> Path:
    """A folder with a random Stable Diffusion for 64x64 images, with SD 1.x's 16 blocks.

    Latents are 4x16x16, the text window has 64 tokens, and no network has a million weights. Read
    only: copy it before changing anything.
    """
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    from attnseg.mini import model

    folder = tmp_path_factory.mktemp("tiny_sd")
    tokenizer = model.train_tokenizer(CAPTIONS, tmp_path_factory.mktemp("tokenizer"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=32,
                intermediate_size=37,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=tokenizer.model_max_length,
                projection_dim=32,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 16),
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=64,
            scaling_factor=4.0,  # latents of about unit variance, as a trained one's
        )
        unet = UNet2DConditionModel(
            sample_size=16,
            in_channels=4,
            out_channels=4,
            layers_per_block=2,
            block_out_channels=(32, 32, 64, 64),
            down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
            up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
            cross_attention_dim=32,
            attention_head_dim=4,  # diffusers: the number of heads
            norm_num_groups=8,
        )
    model.assembled(vae, text_encoder, tokenizer, unet).pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_family(tmp_path_factory):
    """Folders with a tiny random model of a family in `tiny_families`, by its name. Read only."""
    import tiny_families

    @functools.cache
    def folder(family: str) -> Path:
        return tiny_families.build(family, tmp_path_factory.mktemp(family))

    return folder


@pytest.fixture(scope="module")
def one_thread():
    """One thread in torch: the order of additions, and so the last bits, depends on their number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tiny_backbone(tiny_sd):
    """`tiny_sd` on the CPU. Shared: leave it as it is."""
    from attnseg.backbones import load_backbone

    return load_backbone(tiny_sd, device="cpu")


@pytest.fixture(scope="module")
def sharp_backbone(tiny_sd):
    """`tiny_sd` with sharper attention: min-max of a nearly uniform one is rounding noise."""
    from attnseg.backbones import load_backbone

    backbone = load_backbone(tiny_sd, device="cpu")
    for attention, *_ in backbone.blocks.values():
        attention.to_q.weight.mul_(8)
    return backbone


@pytest.fixture(scope="session")
def tiny_voc(tmp_path_factory) -> Path:
    """A VOC2012 of six photos (`tiny_segmentor.write_voc`). Read only."""
    import tiny_segmentor

    root = tmp_path_factory.mktemp("VOC2012")
    tiny_segmentor.write_voc(root)
    return root


@pytest.fixture(scope="session")
def tiny_pairs(tiny_voc):
    """The photos of `tiny_voc` with their masks."""
    from attnseg.datasets.voc import DATASET
    from attnseg.segmentation.data import split_pairs

    return split_pairs(DATASET, tiny_voc, "train")[1]


@pytest.fixture(scope="module")
def tiny_weights(tiny_pairs, one_thread, tmp_path_factory) -> Path:
    """Weights after the eight iterations of `tiny_segmentor.TINY`, never interrupted. Read only."""
    from tiny_segmentor import CLASSES, TINY

    from attnseg.segmentation.train import train
    from attnseg.settings import read_segmentor

    path = tmp_path_factory.mktemp("tiny_weights") / "weights.safetensors"
    train(read_segmentor(TINY), tiny_pairs, CLASSES, path, about={"dataset": "voc"})
    return path


@pytest.fixture(scope="session")
def tiny_mug19(tmp_path_factory) -> Path:
    """A few scenes of mini Mug19. Read only."""
    from attnseg.mini.world import mugs19

    root = tmp_path_factory.mktemp("mug19")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mugs19, "SCENES", {"semantic": 1, "visual": 1})
        patch.setattr(mugs19, "VIEWS", 1)
        patch.setattr(mugs19, "PHOTOS", (2, 2))
        mugs19.write_mug19(root, 0)
    return root


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real samples: $ATTNSEG_SAMPLES, or shared/data beside the repository.

    It holds VOCdevkit, coco, cityscapes, ... in their official layouts. Without it the test is
    skipped.
    """
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("ATTNSEG_SAMPLES", beside))
    if not folder.is_dir():
        pytest.skip(f"no real samples at {folder}; set ATTNSEG_SAMPLES to their folder")
    return folder


@pytest.fixture(scope="session")
def real_voc(real_data) -> Path:
    """VOC's development kit among the real samples."""
    return real_data / "VOCdevkit" / "VOC2012"
