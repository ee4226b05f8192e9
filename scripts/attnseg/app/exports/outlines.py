"""Outlines of a mask as one polygon, in the two ways that readers fill polygons.

Along the pixels' edges (pycocotools, Label Studio): the pixel x covers x to x + 1. Through their
centres (OpenCV, Pillow, and so YOLO and labelme): points are pixels, and those on the line belong to
the polygon. A hole is reached and left by a bridge of no width.
"""

import cv2
import numpy as np
from scipy.spatial import cKDTree

# Added to a pixel's number: OpenCV's readers cut off the fraction, or round it.
INSIDE = 0.4


def along_edges(inside: np.ndarray) -> np.ndarray:
    """The polygon [N, 2] of x, y that covers the pixels `inside` [h, w], which are connected."""
    doubled = inside.astype(np.uint8).repeat(2, 0).repeat(2, 1)
    # the two pixels on either side of an edge have the numbers 2 x - 1 and 2 x there
    return simplified(joined([(ring + 1) // 2 for ring in rings(doubled)]))


def through_centres(inside: np.ndarray) -> np.ndarray:
    """The polygon [N, 2] of x, y through the outermost pixels of `inside`; N is 3 or more."""
    polygon = simplified(joined(rings(inside.astype(np.uint8))))
    return polygon[np.arange(max(3, len(polygon))) % len(polygon)] + INSIDE


def rings(mask: np.ndarray) -> list[np.ndarray]:
    """The pixels along the outer edge, and along that of each hole: [N, 2] of x, y each."""
    found, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    return [ring[:, 0].astype(int) for ring in found]


def joined(rings: list[np.ndarray]) -> np.ndarray:
    """One ring of all: the one nearest to what is joined comes next, by the shortest bridge.

    A shorter one would lead to any hole on the way, so bridges run over the mask alone.
    """
    whole = rings[0]
    points = np.concatenate(rings[1:]) if len(rings) > 1 else whole[:0]  # of rings not yet joined
    owner = np.repeat(np.arange(1, len(rings)), [len(ring) for ring in rings[1:]])
    distance, goal = np.full(len(points), np.inf), points.copy()  # the nearest joined point
    ring = whole
    while len(points):
        found, nearest = cKDTree(ring).query(points)
        closer = found < distance
        distance[closer], goal[closer] = found[closer], ring[nearest[closer]]
        best = int(distance.argmin())
        ring, new = rings[owner[best]], owner == owner[best]
        hole = np.roll(ring, -int(np.flatnonzero((ring == points[best]).all(1))[0]), 0)
        at = int(np.flatnonzero((whole == goal[best]).all(1))[0])
        whole = np.concatenate([whole[: at + 1], hole, hole[:1], whole[at:]])
        points, owner, distance, goal = (values[~new] for values in (points, owner, distance, goal))
    return whole


def simplified(ring: np.ndarray) -> np.ndarray:
    """Without repeated points, and points on the way straight on."""
    if len(ring) < 3:
        return ring
    ring = ring[np.any(ring != np.roll(ring, 1, 0), 1)]
    before, after = ring - np.roll(ring, 1, 0), np.roll(ring, -1, 0) - ring
    turns = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    returns = (before * after).sum(1) < 0
    return ring[(turns != 0) | returns]
