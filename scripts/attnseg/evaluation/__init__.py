"""Measuring segmentations: IoU from counts an image, and masks against the truth."""
