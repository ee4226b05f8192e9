"""A trained segmentor as an ONNX file that needs nothing of this package."""

import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

from attnseg.segmentation.model import MEAN, STD, load_segmentor  # isort: skip

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attnseg.errors import UserError
from attnseg.io.files import write_atomically
from attnseg.segmentation import architecture

OPSET = 17
INPUT, OUTPUT = "photos", "logits"


class WithPreprocessing(nn.Module):
    """From photos as they are read to logits of their size: one scale, not mirrored, no CRF."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: architecture.Segmentor):
        super().__init__()
        self.model = model
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1))

    def forward(self, photos: Tensor) -> Tensor:
        """RGB [B, H, W, 3] uint8 -> logits [B, C, H, W] float32."""
        pixels = (photos.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return F.interpolate(self.model.logits(pixels), pixels.shape[2:], mode="bilinear")


def loaded_with_preprocessing(path: Path) -> tuple[WithPreprocessing, dict]:
    """(network in float32, metadata) of a file of `save_segmentor`."""
    model, about = load_segmentor(path)
    for part in getattr(model, "networks", [model]):
        part.precision = "float32"
    return WithPreprocessing(model).eval(), about


def write_onnx(weights: Path, output: Path, palette: Sequence[str]) -> dict:
    """Write the segmentor of `weights` as ONNX; return its metadata.

    palette: colours of the class numbers, such as #d55e00.

    Raises:
        UserError: where the package onnx is missing, or the weights are no segmentor's.
    """
    try:
        import onnx
    except ImportError:
        raise UserError(
            "--format onnx needs the package onnx: pip install -c envs/requirements.lock '.[onnx]'"
        ) from None
    network, about = loaded_with_preprocessing(weights)
    classes = about["classes"]
    metadata = {
        "classes": classes,
        "palette": list(palette[: len(classes)]),
        "input": f"{INPUT}: RGB uint8 [batch, height, width, 3], upright",
        "output": f"{OUTPUT}: float32 [batch, class, height, width]",
        **{name: about[name] for name in ("dataset", "settings") if name in about},
    }
    sides = {1: "height", 2: "width"}
    with write_atomically(output) as partial:
        with warnings.catch_warnings():
            # The exporter through torch.export fixes the sides' ranges (maximum pooling, strides);
            # this one traces the shapes themselves, and needs onnx alone.
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            torch.onnx.export(
                network,
                (torch.zeros(1, 67, 91, 3, dtype=torch.uint8),),
                str(partial),
                dynamo=False,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_axes={
                    INPUT: {0: "batch", **sides},
                    OUTPUT: {0: "batch", 2: "height", 3: "width"},
                },
            )
        model = onnx.load(str(partial))
        onnx.helper.set_model_props(
            model, {name: json.dumps(value) for name, value in metadata.items()}
        )
        onnx.save(model, str(partial))
    return metadata
