"""Classes and backgrounds of the mini world, and the words for them.

The classes are those of VOC 2012 and Cityscapes (``attnseg.datasets``) and some of COCO's. ``WORDS``
lists their names in captions, the most frequent first. They include the queries' synonyms, so that
the miniature model is trained on every word of a query.
"""

COCO_EXTRA_CLASSES = (
    "truck", "traffic light", "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella",
    "sports ball", "kite", "banana", "apple", "hot dog", "pizza", "donut", "cake", "laptop",
    "book", "clock", "teddy bear",
)  # fmt: skip

WORDS = {
    "aeroplane": ("aeroplane", "airplane", "plane"),
    "bicycle": ("bicycle", "bike"),
    "bird": ("bird", "bird avian"),
    "boat": ("boat", "ship"),
    "bottle": ("bottle",),
    "bus": ("bus",),
    "car": ("car",),
    "cat": ("cat", "kitten"),
    "chair": ("chair", "chair seat"),
    "cow": ("cow",),
    "diningtable": ("dining table", "table", "diningtable"),
    "dog": ("dog", "puppy"),
    "horse": ("horse",),
    "motorbike": ("motorbike", "motorcycle"),
    "person": ("person", "man", "woman"),
    "pottedplant": ("potted plant", "plant", "pottedplant"),
    "sheep": ("sheep",),
    "sofa": ("sofa", "couch"),
    "train": ("train",),
    "tvmonitor": ("tv monitor", "tv monitor screen", "television", "tvmonitor"),
}
CLOTHED_PERSON = "person with clothes"

# kind of background -> words a caption may use for it
BACKGROUNDS = {
    "grass": ("grass", "field"),
    "sea": ("sea", "water"),
    "lake": ("lake", "water"),
    "river": ("river", "water"),
    "sky": ("sky", "clouds"),
    "road": ("road", "street"),
    "sand": ("sand", "beach"),
    "rail": ("railway", "track", "railroad"),
    "room": ("room", "wall", "floor"),
}
# objects in the background that are drawn and named, but are not classes
PROPS = {
    "tree": ("tree",),
    "rock": ("stone", "rocks"),
    "mountain": ("mountain",),
    "building": ("building",),
    "keyboard": ("keyboard",),
}

# class -> (its typical kinds of background, fraction of its scenes that have one of them)
TYPICAL = {
    "aeroplane": (("sky",), 0.9),
    "boat": (("sea", "lake", "river"), 0.9),
    "train": (("rail",), 0.9),
    "cow": (("grass",), 0.9),
    "sheep": (("grass",), 0.7),
    "horse": (("grass", "sand"), 0.6),
    "bird": (("sky", "lake"), 0.4),
    "car": (("road",), 0.6),
    "bus": (("road",), 0.6),
    "motorbike": (("road",), 0.5),
    "bicycle": (("road", "grass"), 0.5),
    "chair": (("room",), 0.6),
    "diningtable": (("room",), 0.6),
    "sofa": (("room",), 0.7),
    "tvmonitor": (("room",), 0.7),
    "pottedplant": (("room",), 0.5),
    "cat": (("room",), 0.4),
}

MUG_COLOURS = {
    "red": (205, 45, 45),
    "orange": (235, 135, 40),
    "yellow": (235, 205, 60),
    "green": (60, 150, 70),
    "blue": (50, 90, 200),
    "purple": (130, 70, 165),
    "white": (240, 240, 235),
    "black": (45, 45, 50),
}
MUG_PATTERNS = ("plain", "striped", "dotted", "banded", "checked", "starred")
MUG_CONTENTS = {
    "cola": (70, 30, 15),
    "milk": (252, 250, 240),
    "tea": (205, 120, 30),
    "water": (150, 205, 240),
    "grass juice": (120, 190, 60),
}
MUG_HANDLES = ("round", "square")

# The mugs of mini Mug19, as (pattern, colour, handle), in series of one pattern and handle. These
# pairs of pattern and colour do not occur in training.
HELD_OUT_MUGS = (
    ("plain", "red", "round"), ("plain", "blue", "round"), ("plain", "white", "round"),
    ("plain", "green", "round"),
    ("striped", "blue", "square"), ("striped", "yellow", "square"), ("striped", "red", "square"),
    ("dotted", "green", "round"), ("dotted", "orange", "round"), ("dotted", "purple", "round"),
    ("banded", "white", "square"), ("banded", "black", "square"), ("banded", "red", "square"),
    ("checked", "yellow", "round"), ("checked", "blue", "round"), ("checked", "purple", "round"),
    ("starred", "black", "square"), ("starred", "orange", "square"), ("starred", "green", "square"),
)  # fmt: skip
