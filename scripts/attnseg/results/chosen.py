"""Select samples to show in a picture, evenly spaced rather than by score."""

from collections.abc import Sequence

import numpy as np


def spread(items: Sequence, count: int) -> list:
    """Select `count` items, evenly spaced."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def with_several_classes(samples: Sequence[tuple[dict, object]], count: int) -> list:
    """Select `count` samples, evenly spaced among those with several classes, or all if none has.

    `samples`: manifest entries, each with its maps.
    """
    return spread([s for s in samples if len(s[0]["classes"]) > 1] or samples, count)
