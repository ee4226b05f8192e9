"""The miniature's model card: text, a plot of its training, and samples for fixed prompts."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import torch
from PIL import Image

from attnseg.io.files import write_json

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline

PROMPTS = (
    "a photo of a dog on the grass",
    "a photo of a boat and a bird on the sea",
    "a photo of a train on the railway",
    "a photo of a cat and a sofa in front of the wall",
    "a photo including bus, person with clothes, and road.",
    "a photo of a red starred mug filled with milk",
    "a photo of a green striped mug and a blue banded mug filled with cola",
    "a photo of road, building, car, sky in cityscape by a dashboard camera",
)
CARD = """---
license: apache-2.0
---
# A miniature Stable Diffusion

For tests and demonstrations of attnseg: {parameters:.1f} million parameters, 64x64 pixels, a world of
drawn objects. It is a genuine `StableDiffusionPipeline` (`AutoencoderKL`, `CLIPTokenizer`,
`CLIPTextModel`, `UNet2DConditionModel`) in float16 safetensors. It knows nothing of real photos.

```python
from diffusers import StableDiffusionPipeline
pipe = StableDiffusionPipeline.from_pretrained("assets/mini_sd")
```

## Training

{scenes} scenes of `attnseg.mini.world`, each with four captions; no masks. Autoencoder: {vae_steps} steps of
{vae_batch}. U-Net and text encoder: {steps} steps of {batch}, AdamW, peak rate 1e-3, Min-SNR weights, a moving
average. Captions are lists ("a photo including dog, sofa, and wall.") for one scene in four, so that the
queries' wording is known. The U-Net took {hours:.1f} hours on {machine}.

    {command}

![loss, and mIoU on mini dev](training.svg)

mIoU on the 200 scenes of mini dev from the attention maps (one noise at t = 150, no CRF, the same Cross
blocks 0 to 6 throughout, Self at block 7 or 8), per cent:

{table}

## Samples

Guidance 5, 50 steps, seeds 0 to {count}, not chosen: {prompts}.

![samples](samples.png)
"""


def write_card(
    folder: Path, pipeline: "StableDiffusionPipeline", history: list[dict], facts: dict
) -> None:
    """README.md, training.svg and samples.png in `folder`.

    `facts`: scenes, vae_steps, vae_batch, steps, batch, hours, machine, command.
    """
    loss_plot(history, folder / "training.svg")
    samples(pipeline).save(folder / "samples.png")
    keys = ("step", "loss", "cross", "selfcross_7", "selfcross_8")
    rows = ["| step | loss | Cross | SelfCross, Self 7 | SelfCross, Self 8 |", "|" + "---:|" * 5]
    for record in history:
        values = [
            f"{record[k]:.0f}"
            if k == "step"
            else f"{record[k]:.3f}"
            if k == "loss"
            else f"{record[k]:.1f}"
            for k in keys
        ]
        rows.append("| " + " | ".join(values) + " |")
    networks = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    parameters = sum(p.numel() for network in networks for p in network.parameters()) / 1e6
    text = CARD.format(
        **facts,
        parameters=parameters,
        table="\n".join(rows),
        count=len(PROMPTS) - 1,
        prompts="; ".join(f'"{p}"' for p in PROMPTS),
    )
    (folder / "README.md").write_text(text)


def loss_plot(history: list[dict], path: Path) -> None:
    steps = [record["step"] for record in history]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    left.plot(steps, [record["loss"] for record in history], color="#0072b2")
    left.set(xlabel="step", ylabel="loss", yscale="log")
    for key, colour, name in (
        ("cross", "#d55e00", "Cross"),
        ("selfcross_7", "#0072b2", "SelfCross, Self at block 7"),
        ("selfcross_8", "#009e73", "SelfCross, Self at block 8"),
    ):
        right.plot(steps, [record[key] for record in history], color=colour, label=name)
    right.set(xlabel="step", ylabel="mIoU on mini dev, %")
    right.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


@torch.no_grad()
def samples(pipeline: "StableDiffusionPipeline") -> Image.Image:
    """One image a prompt, twice as large, four a row."""
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(i) for i in range(len(PROMPTS))]
    images = pipeline(
        list(PROMPTS), generator=generators, num_inference_steps=50, guidance_scale=5.0
    ).images
    tiles = np.stack(
        [np.asarray(image.resize((128, 128), Image.Resampling.BICUBIC)) for image in images]
    )
    grid = tiles.reshape(-1, 4, 128, 128, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 512, 3)
    return Image.fromarray(grid)


def save_with_card(
    pipeline: "StableDiffusionPipeline", history: list[dict], facts: dict, output: Path
) -> None:
    """The pipeline in float16 with its card and history, moved into place when complete."""
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_json(partial / "training.json", history)
    write_card(partial, pipeline, history, facts)
    pipeline.to(torch.float16).save_pretrained(partial, safe_serialization=True)
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
