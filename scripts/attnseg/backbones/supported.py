"""What a model's configuration files say about whether it is supported, before weights are fetched."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attnseg.io.files import parsed

Read = Callable[[str], Mapping[str, Any]]  # the configuration of a component, {} if there is none

# pipelines whose models look like a supported family's, and why they are not
REFUSED = {
    "Flux2KleinKVPipeline": "it is made to edit images that it is given",
    "Flux2Pipeline": "its text encoder is Mistral's; give a FLUX.2 klein",
    "FluxControlPipeline": "its transformer also takes an image",
    "FluxFillPipeline": "its transformer also takes a mask",
    "FluxKontextPipeline": "it edits an image that it is given",
    "LatentConsistencyModelPipeline": "distilled, with the guidance as an input",
    "QwenImageEditPipeline": "it edits an image that it is given",
    "QwenImageEditPlusPipeline": "it edits images that it is given",
    "QwenImageLayeredPipeline": "it draws several layers at once",
    "SanaSprintPipeline": "distilled, with the guidance as an input",
    "StableDiffusionDepth2ImgPipeline": "its U-Net also takes a depth map",
    "StableDiffusionInpaintPipeline": "its U-Net also takes a mask",
    "StableDiffusionInstructPix2PixPipeline": "its U-Net also takes an image",
    "StableDiffusionUpscalePipeline": "its U-Net also takes an image",
    "StableDiffusionXLImg2ImgPipeline": "a refiner; give its base",
    "StableDiffusionXLInpaintPipeline": "its U-Net also takes a mask",
    "StableDiffusionXLInstructPix2PixPipeline": "its U-Net also takes an image",
    "ZImageOmniPipeline": "it also takes images",
}


def unet(read: Read, added: str | None) -> str | None:
    """`added`: the kind of the conditions besides the text."""
    config, latents = read("unet"), read("vae").get("latent_channels", 4)
    channels = config.get("in_channels", 4)
    if channels != latents:
        return (
            f"its U-Net takes {channels} channels, latents have {latents}: it is to edit or inpaint"
        )
    if config.get("time_cond_proj_dim") is not None:
        return "distilled, with the guidance as an input"
    for key, usual in (
        ("addition_embed_type", added),
        ("class_embed_type", None),
        ("encoder_hid_dim_type", None),
    ):
        if config and config.get(key) != usual:
            return f"its U-Net has the {key} {config.get(key)}"
    return None


def stable_diffusion(read: Read) -> str | None:
    return unet(read, None)


def sdxl(read: Read) -> str | None:
    index = read("")
    if None in index.get("text_encoder", []) or index.get("requires_aesthetics_score"):
        return "a refiner, without a first text encoder; give its base"
    return unet(read, "text_time")


def sana(read: Read) -> str | None:
    distilled = read("transformer").get("guidance_embeds", False)
    return "distilled, with the guidance as an input" if distilled else None


def transformer(read: Read, cells: int) -> str | None:
    """`cells`: of the latents, of which one token of the input is packed."""
    channels = read("transformer").get("in_channels")
    latents = read("vae").get("latent_channels") or read("vae").get("z_dim")
    if channels and latents and channels != cells * latents:
        return (
            f"its transformer takes {channels} channels, latents have {cells * latents}: it is to edit "
            "or inpaint"
        )
    return None


def stable_diffusion_3(read: Read) -> str | None:
    return transformer(read, 1)


def flux(read: Read) -> str | None:
    return transformer(read, 4)


def qwen_image(read: Read) -> str | None:
    for key in ("zero_cond_t", "use_additional_t_cond", "use_layer3d_rope"):
        if read("transformer").get(key):
            return f"its transformer has {key}, which is for editing or layers"
    return transformer(read, 4)


def z_image(read: Read) -> str | None:
    omni = read("transformer").get("siglip_feat_dim") is not None
    return "its transformer also takes images" if omni else transformer(read, 1)


CHECKS = {
    "Flux2KleinPipeline": flux,
    "FluxPipeline": flux,
    "QwenImagePipeline": qwen_image,
    "SanaPipeline": sana,
    "StableDiffusion3Pipeline": stable_diffusion_3,
    "StableDiffusionPipeline": stable_diffusion,
    "StableDiffusionXLPipeline": sdxl,
    "ZImagePipeline": z_image,
}


def refusal(folder: Path, index: Mapping[str, Any]) -> str | None:
    """Why a model is not supported: its index, and those of its components' configurations there are."""

    def read(component: str) -> Mapping[str, Any]:
        file = folder / component / "config.json"
        try:
            content = parsed(file.read_text()) if component else index
            return content if isinstance(content, dict) else {}
        except (OSError, ValueError):
            return {}  # said where the component is loaded

    name = index.get("_class_name", "")
    return CHECKS[name](read) if name in CHECKS else REFUSED.get(name)
