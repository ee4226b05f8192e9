"""attnseg: segmentation from the attention of text-to-image diffusion models."""

import os

# else each program begins with notes about image processors that it does not use
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
