#!/usr/bin/env python3
"""Download a text-to-image model from the Hugging Face hub: one revision, safetensors only.

    python scripts/fetch_models.py --id CompVis/stable-diffusion-v1-4 \\
        --revision 133a221b8aa7292a167afc5127cb63fb5005638b \\
        --output resources/models/CompVis--stable-diffusion-v1-4

Goes on where an interrupted download stopped. Pickled weights are never fetched.
"""

import argparse
import sys
from pathlib import Path

from attnseg.errors import UserError, run

COMPONENTS = ("scheduler", "text_encoder", "tokenizer", "unet", "vae")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--id", required=True, help="the model's id on the hub")
    p.add_argument("--revision", required=True, help="a commit of it")
    p.add_argument("--output", required=True, type=Path, help="folder of the model")
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    from huggingface_hub import snapshot_download

    patterns = [f"{name}/*{end}" for name in COMPONENTS for end in (".json", ".txt", ".safetensors")]
    try:
        snapshot_download(
            args.id,
            revision=args.revision,
            local_dir=args.output,
            allow_patterns=["model_index.json", *patterns],
            # the half-precision copies beside the full weights
            ignore_patterns=["*.fp16.safetensors", "*non_ema*"],
        )
    except Exception as error:  # the hub's client raises some ten kinds, all of them the network's
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(
            f"{args.id} at {args.revision} could not be downloaded ({reason}): run again, or set "
            "model.path to a local folder and model.revision to null"
        ) from None
    if not (args.output / "model_index.json").is_file():
        raise UserError(f"{args.id} at {args.revision} has no model_index.json: no diffusers model")
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
