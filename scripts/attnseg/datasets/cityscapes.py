"""Cityscapes, with the 19 classes of its benchmark.

    <root>/leftImg8bit/<split>/<city>/<id>_leftImg8bit.png
    <root>/gtFine/<split>/<city>/<id>_gtFine_labelIds.png     official label ids, 0 to 33

An image id begins with its city: aachen_000000_000019. Mini Cityscapes has the same layout.
"""

from attnseg.datasets.dataset import Dataset

CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
    "motorcycle", "bicycle",
)  # fmt: skip
# official label id of each class, in the order of the train ids
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
# attn2mask, Dataset generation
SYNONYMS = {"vegetation": "plant", "terrain": "sand"}
PALETTE = (
    (128, 64, 128), (244, 35, 232), (70, 70, 70), (102, 102, 156), (190, 153, 153), (153, 153, 153),
    (250, 170, 30), (220, 220, 0), (107, 142, 35), (152, 251, 152), (70, 130, 180), (220, 20, 60),
    (255, 0, 0), (0, 0, 142), (0, 0, 70), (0, 60, 100), (0, 80, 100), (0, 0, 230), (119, 11, 32),
)  # fmt: skip

DATASET = Dataset(
    name="cityscapes",
    layout="cityscapes",
    classes=CLASSES,
    background=False,
    palette=PALETTE,
    photos="leftImg8bit/{split}/*/{id}_leftImg8bit.png",
    masks="gtFine/{split}/*/{id}_gtFine_labelIds.png",
    mask_values=LABEL_IDS,
    label_sources=("mask", "csv"),
    synonyms=SYNONYMS,
    prompt="a photo of {} in cityscape by a dashboard camera",
    adapted_prompt="a photo of {} in sks cityscape by a dashboard camera",
    prompt_classes=8,  # the paper prints no distribution
)
