"""DreamBooth with LoRA: adapt a model to the look of a target domain.

See attn2mask (Domain adaptive image-mask generation), Ruiz et al. 2023 and Hu et al. 2022. The
training images need no labels: one instance prompt with the domain token `sks` serves for all. For
prior preservation, images that the unadapted model draws for the class prompt are trained on as well.

The adapted projections and the defaults are those of the guide that the paper cites: peft's DreamBooth
fine-tuning with LoRA, and its examples/lora_dreambooth.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from transformers import CLIPTextModel

from attnseg.backbones import finetuning
from attnseg.backbones.interface import Text
from attnseg.backbones.stable_diffusion import StableDiffusion
from attnseg.core.seeds import generator_of
from attnseg.datasets.images import read_image
from attnseg.errors import UserError
from attnseg.io.costs import job_log
from attnseg.io.files import IMAGE_SUFFIXES, images_in, parameters_hash, set_aside, write_atomically
from attnseg.io.tensors import digest_of, save_tensors
from attnseg.settings import LoraJob

UNET_MODULES = ["to_q", "to_v"]
TEXT_MODULES = ["q_proj", "v_proj"]
BASE_KEY = "attnseg_base_model"
DIGEST_KEY = "attnseg_digest"


def target_images(paths: Sequence[Path]) -> list[Path]:
    """List images, given as files or as folders of any depth, sorted.

    Raises:
        UserError: if a path is missing or there is no image.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            found += images_in(path, below=True)
        elif path.is_file():
            found.append(path)
        else:
            raise UserError(f"{path}: no such file or folder of target images")
    if not found:
        raise UserError(f"{', '.join(map(str, paths))}: no {', '.join(IMAGE_SUFFIXES)} images")
    return sorted(found)


def read_targets(paths: Sequence[Path], side: int) -> list[np.ndarray]:
    """Read images and resize their shorter side to `side`: [H, W, 3] uint8 each."""
    images = []
    for path in paths:
        image = Image.fromarray(read_image(path))
        scale = side / min(image.size)
        size = [max(side, round(s * scale)) for s in image.size]
        images.append(np.asarray(image.resize(size, Image.Resampling.BILINEAR)))
    return images


def random_crop(image: np.ndarray, side: int, generator: torch.Generator) -> torch.Tensor:
    """Random square of an image: [3, side, side] float32 in [-1, 1]."""
    top = int(torch.randint(image.shape[0] - side + 1, (1,), generator=generator))
    left = int(torch.randint(image.shape[1] - side + 1, (1,), generator=generator))
    crop = torch.from_numpy(image[top : top + side, left : left + side].copy())
    return crop.permute(2, 0, 1).float() / 127.5 - 1


def base_signature(unet: UNet2DConditionModel) -> list[float]:
    """Some of a U-Net's weights, by which it is known again; adapters leave them as they are."""
    return [round(w, 6) for w in unet.conv_in.weight.detach().flatten()[:64].float().tolist()]


def same_base(signature: Sequence[float], unet: UNet2DConditionModel) -> bool:
    """Whether a signature is this U-Net's, be it in float32, float16 or bfloat16."""
    here, there = np.array(base_signature(unet)), np.array(signature)
    return here.shape == there.shape and np.abs(here - there).max() <= 0.01 * np.abs(there).max()


def add_adapters(backbone: StableDiffusion, options: LoraJob) -> dict[str, torch.nn.Module]:
    """Add new adapters to the U-Net, and the text encoder if configured; return these networks."""
    places = {"unet": (backbone.unet, UNET_MODULES, options.alpha)}
    if options.text_encoder:
        places["text_encoder"] = (backbone.text_encoder, TEXT_MODULES, options.text_alpha)
    networks = {name: network for name, (network, *_) in places.items()}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        for network, modules, alpha in places.values():
            network.requires_grad_(False)
            network.add_adapter(
                LoraConfig(r=options.rank, lora_alpha=alpha, target_modules=modules)
            )
    for network in networks.values():
        for weight in network.parameters():
            if weight.requires_grad:
                weight.data = weight.data.float()  # adapters train in full precision
    return networks


def batch_latents(
    backbone: StableDiffusion,
    images: list[np.ndarray],
    side: int,
    count: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Latents of random crops of random images, one posterior sample each: [B, C, h, w]."""
    chosen = torch.randint(len(images), (count,), generator=generator).tolist()
    pixels = torch.stack([random_crop(images[i], side, generator) for i in chosen])
    posterior = backbone.encode_images(pixels)
    return posterior.latents(torch.randn(posterior.mean.shape, generator=generator))


def train(
    backbone: StableDiffusion,
    images: list[np.ndarray],
    class_images: list[np.ndarray],
    options: LoraJob,
    checkpoint: Path,
    checkpoint_every: int = 100,
    log: Callable[[int, float], None] = lambda step, loss: None,
) -> dict[str, UNet2DConditionModel | CLIPTextModel]:
    """Train adapters on a model in place; returns the adapted networks.

    Random numbers depend only on the seed and the step, so that a training resumed from `checkpoint`
    ends with the same weights as an uninterrupted one.

    Args:
        images: of the target domain, [H, W, 3] uint8 each, at least as large as the training size.
        class_images: for prior preservation, or empty.
        checkpoint: file to resume from; written every `checkpoint_every` steps.
        log: called with the step and its loss.

    Raises:
        UserError: if the loss is not finite.
    """
    side = options.size or min(backbone.size)
    groups = [(images, options.prompt, 1.0)]
    if class_images:
        groups.append((class_images, options.class_prompt, options.prior_weight))
    pools, prompts, parts = zip(*groups, strict=True)
    which = [group for group in range(len(groups)) for _ in range(options.batch_size)]
    shares = [parts[group] / options.batch_size for group in which]
    adapted = add_adapters(backbone, options)
    weights = [w for network in adapted.values() for w in network.parameters() if w.requires_grad]
    with torch.no_grad():
        fixed = backbone.encode_text(prompts)

    def text(rows: range) -> Text:
        encoded = backbone.encode_text(prompts) if options.text_encoder else fixed
        return encoded[[which[row] for row in rows]]

    def batch_of(step: int) -> finetuning.TrainingBatch:
        generator = generator_of(options.seed, "lora", step)
        latents = [
            batch_latents(backbone, pool, side, options.batch_size, generator) for pool in pools
        ]
        return finetuning.noised(backbone, torch.cat(latents), text, shares, generator)

    finetuning.train_weights(
        backbone,
        weights,
        torch.optim.AdamW(weights, options.learning_rate),
        batch_of,
        options.steps,
        checkpoint,
        parameters_hash(options.record() | {"base": base_signature(backbone.unet)}),
        checkpoint_every,
        log,
        clip=1.0,
    )
    return adapted


def save_lora(
    path: Path,
    backbone: StableDiffusion,
    adapted: dict[str, UNet2DConditionModel | CLIPTextModel],
    options: LoraJob,
) -> None:
    """Write a safetensors file for `pipeline.load_lora_weights`, with the base model's signature."""
    states = {
        f"{name}_lora_layers": convert_state_dict_to_diffusers(get_peft_model_state_dict(network))
        for name, network in adapted.items()
    }
    with write_atomically(path) as partial:
        StableDiffusionPipeline.save_lora_weights(
            partial.parent,
            **states,
            weight_name=partial.name,
            **{
                f"{name}_lora_adapter_metadata": _plain(network.peft_config["default"])
                for name, network in adapted.items()
            },
        )
        with safe_open(partial, "pt") as file:
            metadata = dict(file.metadata() or {})
        metadata[BASE_KEY] = json.dumps(base_signature(backbone.unet))
        metadata["attnseg_options"] = json.dumps(options.dump())
        state = load_file(partial)
        metadata[DIGEST_KEY] = digest_of(state, metadata)
        save_tensors(state, partial, metadata)


def _plain(config: LoraConfig) -> dict:
    """A LoRA configuration as JSON-compatible values."""
    return {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in config.to_dict().items()
    }


def load_lora(backbone: StableDiffusion, path: Path) -> None:
    """Apply a LoRA to the networks of a model, in place.

    Raises:
        UserError: if the file is unreadable, not a LoRA, or for another base model.
    """
    wrong = UserError(
        f"{path}: this LoRA is for another base model than {backbone.name}: "
        "use the model that it was trained on, or train it again"
    )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        # the workflow's own; another file of a user's stays
        advice = set_aside(path) if path.exists() and job_log() else "train the LoRA again"
        raise UserError(f"{path}: not a readable safetensors file ({error}): {advice}") from None
    told = metadata.pop(DIGEST_KEY, None)  # absent from others' files, and earlier releases'
    if told not in (None, digest_of(load_file(path), metadata)):
        raise UserError(f"{path}: damaged; {set_aside(path)}")
    if BASE_KEY in metadata and not same_base(json.loads(metadata[BASE_KEY]), backbone.unet):
        raise wrong
    pipeline, place = backbone.pipeline(), {"weight_name": Path(path).name}
    try:
        state, *_ = pipeline.lora_state_dict(Path(path).parent, **place)
    except ValueError as error:
        raise UserError(f"{path}: not a LoRA of Stable Diffusion ({error})") from None
    if not fits(state, backbone.unet):
        raise wrong
    try:
        pipeline.load_lora_weights(Path(path).parent, **place)
    except (ValueError, RuntimeError, LookupError):
        raise wrong from None
    loaded = 0
    for network in (backbone.unet, backbone.text_encoder):
        network.eval().requires_grad_(False)
        loaded += sum("lora_A" in name for name, _ in network.named_parameters())
    # diffusers skips what it does not find, without an error
    if loaded != sum("lora_A" in key or ".down." in key for key in state):
        raise wrong


def fits(state: dict[str, torch.Tensor], unet: torch.nn.Module) -> bool:
    """True if the U-Net has a layer of the right width for each adapter in `state`."""
    modules = dict(unet.named_modules())
    keys = [key for key in state if key.startswith("unet.")]
    for key in keys:
        name, _, kind = key.removeprefix("unet.").partition(".lora")
        layer = modules.get(name.removesuffix(".processor"))
        weight = getattr(layer, "weight", None)
        if weight is None:
            return False
        if kind.startswith(("_A", ".down")) and state[key].shape[1] != weight.shape[1]:
            return False
        if kind.startswith(("_B", ".up")) and state[key].shape[0] != weight.shape[0]:
            return False
    return bool(keys)
