"""The miniature Stable Diffusion that ships."""
