"""A miniature's model card: text, a plot of its training, and samples for fixed prompts."""

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import matplotlib
import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from attnseg.io.files import write_json
from attnseg.mini.recipes import Recipe

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

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
COLOURS = ("#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00")  # Okabe and Ito's
ENDING = """
    {command}

![loss, and mIoU on mini dev](training.svg)

{protocol}, per cent:

{table}

## Samples

Guidance {guidance:g}, 50 steps, seeds 0 to {count}, not chosen: {prompts}.

![samples](samples.png)
"""


def write_card(folder: Path, recipe: Recipe, history: list[dict], facts: dict) -> None:
    """README.md, training.svg and samples.png in `folder`; `facts` are what the text names."""
    card = recipe.card
    loss_plot(history, card.columns, folder / "training.svg")
    asked = card.asked(list(PROMPTS))
    samples(recipe.backbone.pipeline(), asked, card.guidance).save(folder / "samples.png")
    rows = ["| " + " | ".join(card.columns.values()) + " |", "|" + "---:|" * len(card.columns)]
    for record in history:
        values = [
            f"{record[k]:.0f}"
            if k == "step"
            else f"{record[k]:.3f}"
            if k == "loss"
            else f"{record[k]:.1f}"
            for k in card.columns
        ]
        rows.append("| " + " | ".join(values) + " |")
    pipeline = recipe.backbone.pipeline()
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    text = (card.text + ENDING).format(
        **facts,
        parameters=millions(parts),
        trained=millions(recipe.trained),
        protocol=card.protocol,
        guidance=card.guidance,
        table="\n".join(rows),
        count=len(PROMPTS) - 1,
        prompts="; ".join(f'"{p}"' for p in PROMPTS),
    )
    (folder / "README.md").write_text(text)


def millions(networks: Iterable[torch.nn.Module]) -> float:
    """Their parameters."""
    return sum(p.numel() for network in networks for p in network.parameters()) / 1e6


def loss_plot(history: list[dict], columns: Mapping[str, str], path: Path) -> None:
    """`columns`: keys of the history and their names; readings are all but the first two."""
    steps = [record["step"] for record in history]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2))
    left.plot(steps, [record["loss"] for record in history], color=COLOURS[1])
    left.set(xlabel="step", ylabel="loss", yscale="log")
    for (key, name), colour in zip([*columns.items()][2:], COLOURS, strict=False):
        right.plot(steps, [record[key] for record in history], color=colour, label=name)
    right.set(xlabel="step", ylabel="mIoU on mini dev, %")
    right.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path)
    plt.close(figure)


@torch.no_grad()
def samples(pipeline: DiffusionPipeline, asked: dict, guidance: float) -> Image.Image:
    """One image a prompt, twice as large, four a row."""
    pipeline.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(i) for i in range(len(PROMPTS))]
    images = pipeline(
        **asked, generator=generators, num_inference_steps=50, guidance_scale=guidance
    ).images
    tiles = np.stack(
        [np.asarray(image.resize((128, 128), Image.Resampling.BICUBIC)) for image in images]
    )
    grid = tiles.reshape(-1, 4, 128, 128, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 512, 3)
    return Image.fromarray(grid)


def save_with_card(recipe: Recipe, history: list[dict], facts: dict, output: Path) -> None:
    """The model in float16 with its card and history, moved into place when complete."""
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write_json(partial / "training.json", history)
    write_card(partial, recipe, history, facts)
    recipe.backbone.pipeline().to(torch.float16).save_pretrained(partial, safe_serialization=True)
    shutil.rmtree(output, ignore_errors=True)
    partial.rename(output)
