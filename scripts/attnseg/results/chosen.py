"""What a picture shows of many samples: not the best, not the worst."""

from collections.abc import Sequence

import numpy as np


def spread(items: Sequence, count: int) -> list:
    """`count` of the items, evenly spread."""
    places = np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    return [items[place] for place in places]


def with_several_classes(samples: Sequence[tuple[dict, object]], count: int) -> list:
    """`count` samples, evenly spread over those with several classes, or over all where none has.

    `samples`: manifest entries, each with its maps.
    """
    return spread([s for s in samples if len(s[0]["classes"]) > 1] or samples, count)
