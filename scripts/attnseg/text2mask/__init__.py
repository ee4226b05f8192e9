"""Text2Mask: pseudo masks of real photos from image-level labels."""
