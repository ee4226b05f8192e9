"""attn2mask: training images generated from text, with pseudo masks from their cross-attention."""
