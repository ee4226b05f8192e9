"""Text2Mask: pseudo masks of real photos from their image labels."""
