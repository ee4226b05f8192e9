"""Personalised segmentation (Text2Mask, Section 5.3): find a subject among others of its class."""
