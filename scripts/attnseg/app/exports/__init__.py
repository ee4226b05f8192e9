"""Masks in the formats of other tools, one file each: `write(masks, output, polygons)`."""
