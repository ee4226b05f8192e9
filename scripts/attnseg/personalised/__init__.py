"""Text2Mask, Section 5.3: a subject learnt from a few photos, found among others of its class."""
