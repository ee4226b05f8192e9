"""The miniature Stable Diffusion that ships with attnseg, and its world of drawn scenes."""
