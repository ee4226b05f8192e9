"""The layouts that have photos, masks and image labels, by name.

Each is a module with CLASSES, PALETTE, IGNORED, read_split, image_path, mask_path, read_image,
read_mask, write_mask and labels.
"""

from attnseg.datasets import coco, voc

LAYOUTS = {"voc": voc, "coco": coco}
# where image-level labels come from unless the command says otherwise
LABELS = {"voc": "xml", "coco": "instances"}
