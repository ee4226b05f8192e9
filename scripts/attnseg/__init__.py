"""attnseg: segmentation from the attention of text-to-image diffusion models."""
