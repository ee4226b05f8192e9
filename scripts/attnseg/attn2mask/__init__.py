"""attn2mask: training images from text, and their masks from the attention that made them."""
