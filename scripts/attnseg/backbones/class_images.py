"""Images that a model draws of a class itself, for prior preservation (DreamBooth)."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from diffusers import DDIMScheduler

from attnseg.backbones.stable_diffusion import StableDiffusion
from attnseg.core.finite import check_finite
from attnseg.core.seeds import generator_of
from attnseg.errors import UserError
from attnseg.io.batches import Batches
from attnseg.io.digests import remove_damaged
from attnseg.io.files import images_in, start_folder, write_atomically


@torch.no_grad()
def class_images(
    backbone: StableDiffusion,
    base: object,
    word: str,
    prompt: str,
    folder: Path,
    count: int,
    *,
    size: int | None,
    guidance: float,
    seed: int,
    steps: int = 50,
    batch_size: int = 4,
    log: Callable[[str], None] = print,
) -> tuple[Path, ...]:
    """Return `count` images of a class; missing ones are drawn in `folder`, by DDIM.

    A folder of the user's own images is used unchanged. Images drawn with other settings are
    replaced. Each image has its own noise, by the seed, `word` and its name, so that resuming yields
    the same images.

    Args:
        base: identifies the model.
        size: side of the images in pixels; None for the model's own.

    Raises:
        UserError: if the folder has one image of the user's only.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = [p for p in images_in(folder) if not re.fullmatch(r"generated-\d{5}\.png", p.name)]
    if given:
        if len(given) < 2:
            raise UserError(f"{folder}: one image of the class {word!r}; give at least 2")
        return tuple(given)
    made_with = {
        "base": base, "prompt": prompt, "steps": steps, "guidance": guidance, "size": size, "seed": seed,
    }  # fmt: skip
    start_folder(folder, made_with, ("generated-*.png",))
    remove_damaged(folder)
    paths = [folder / f"generated-{i:05d}.png" for i in range(count)]
    pipe = backbone.pipeline(DDIMScheduler.from_config(backbone.scheduler.config))
    pipe.set_progress_bar_config(disable=True)

    def draw(part: Sequence[Path]) -> None:
        if all(path.exists() for path in part):
            return
        images = pipe(
            [prompt] * len(part),
            height=size,
            width=size,
            num_inference_steps=steps,
            guidance_scale=guidance,
            generator=[generator_of(seed, "class", word, path.name) for path in part],
            output_type="np",
        ).images
        names = [str(path) for path in part]
        check_finite("the image is", names, backbone.dtype, torch.from_numpy(images))
        for path, image in zip(part, pipe.numpy_to_pil(images), strict=True):
            with write_atomically(path) as partial:
                image.save(partial)
        log(f"images of the class {word}: {int(part[-1].stem[-5:]) + 1}/{count}")

    for _ in Batches(batch_size, "image").over(paths, draw):
        pass
    return tuple(paths)
