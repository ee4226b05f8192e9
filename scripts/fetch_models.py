#!/usr/bin/env python3
"""Download a text-to-image model from the Hugging Face hub: one revision, safetensors only.

    python scripts/fetch_models.py --id CompVis/stable-diffusion-v1-4 \\
        --revision 133a221b8aa7292a167afc5127cb63fb5005638b \\
        --output resources/models/CompVis--stable-diffusion-v1-4

Interrupted downloads are resumed. Pickled weights are never downloaded. The model's components are
checked.
"""

import sys

from attnseg.app import flags
from attnseg.backbones import model_files
from attnseg.errors import run


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, output="folder of the model")
    parser.add_argument("--id", required=True, help="the model's id on the hub")
    flags.add(parser, "--revision", required=True)
    args = parser.parse_args(argv)
    print(f"https://huggingface.co/{args.id}: see there for the model's licence", file=sys.stderr)
    model_files.fetch(args.id, args.revision, args.output)
    model_files.check_model(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
