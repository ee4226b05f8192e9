"""The second tab: a picture from words, the attention of each word, and its mask (attn2mask)."""

import re
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from attnseg.app.options import words_of
from attnseg.app.page.answers import (
    MOST,
    Answer,
    bytes_of,
    in_base64,
    picture_of,
    shown_size,
    text_in,
    told_classes,
    whole,
)
from attnseg.app.page.network import Network
from attnseg.app.page.sessions import Session
from attnseg.attn2mask.labelling import synthetic_mask
from attnseg.attn2mask.prompt_sets import Prompt
from attnseg.core.maps import min_max
from attnseg.core.scores import upsample
from attnseg.errors import UserError
from attnseg.settings import LabellingJob, read_settings

# words of a prompt that name nothing to look for
LITTLE = frozenset(
    "a an and are as at background beside by for from front including in into is it its near next of on or "
    "over photo picture the their there to under with".split()
)


def draw(
    network: Network, session: Session, request: Mapping, begun: Callable[[int], object]
) -> Answer:
    """Generate a picture, and record the attention of each word of its prompt; `begun` is told each step.

    Raises:
        UserError: if the prompt has no word to look for, or one past the text encoder's window.
    """
    text = " ".join(text_in(request, "prompt").split())
    spans = spans_of(text, words_of(str(request.get("words") or "")))
    seed = whole(request, "seed", 0, 0, 2**32)
    steps = whole(request, "steps", 100, 2, MOST["steps"])
    guidance = request.get("guidance", 7.5)
    if not isinstance(guidance, int | float) or not 0 <= guidance <= 50:
        raise UserError("guidance: must be a number from 0 to 50")
    prompt = Prompt("generated", text, list(spans), list(spans.values()), seed)
    session.drawn, seconds = network.draw(prompt, steps, float(guidance), begun)
    image, cross = session.drawn.image, session.drawn.cross
    assert image is not None and cross is not None
    size = shown_size(image.shape)
    return {
        "prompt": text,
        "seed": seed,
        "picture": picture_of(image),
        "words": [
            {"word": word, **bytes_of(min_max(upsample(cross[k : k + 1], size))[0])}
            for k, word in enumerate(spans)
        ],
        "seconds": seconds,
        "steps": steps,
        "passes": network.passes,
        "device": network.backbone.device.type,
    }


def spans_of(text: str, words: Sequence[str] = ()) -> dict[str, list[list[int]]]:
    """Where each word is in a prompt, every mention; by default of those that may name a thing.

    Raises:
        UserError: if there is none, or one is not in the prompt.
    """
    found: dict[str, list[list[int]]] = {}
    if words:
        for word in words:
            hits = re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", text, re.IGNORECASE)
            found[word] = [[hit.start(), hit.end()] for hit in hits]
            if not found[word]:
                raise UserError(f"{word} is not in the prompt; the words to find must be")
    else:
        for hit in re.finditer(r"\w[\w'-]*", text):
            if hit[0].lower() not in LITTLE:
                found.setdefault(hit[0].lower(), []).append([hit.start(), hit.end()])
    if not found:
        raise UserError("write what the picture is to show, as in: a photo of a dog on the grass")
    if len(found) > MOST["classes"]:
        raise UserError(f"{len(found)} words to find; name at most {MOST['classes']}")
    return found


def drawn_mask(network: Network, session: Session, request: Mapping) -> Answer:
    """The mask of chosen words of the last picture, by attn2mask's rule, without a pass."""
    start, drawn = time.perf_counter(), session.drawn
    if drawn is None or drawn.image is None or drawn.cross is None:
        raise UserError("generate a picture first")
    words = request.get("words")
    chosen = [i for i, word in enumerate(drawn.prompt.classes) if word in (words or [])]
    beta = request.get("beta", 0.2)
    if isinstance(beta, bool) or not isinstance(beta, int | float) or not -1 <= beta <= 1:
        raise UserError("beta: must be a number from -1 to 1")
    image, names = drawn.image, dict(enumerate(drawn.prompt.classes, 1))
    labels: np.ndarray = np.zeros(image.shape[:2], np.uint8)
    if chosen:
        scale = max(image.shape[:2]) / 512  # the widths of SimpleCRF are for 512 pixels
        crf = {"gaussian": {"sxy": 3.0 * scale}, "bilateral": {"sxy": 80.0 * scale}}
        post = "crf" if network.crf and request.get("crf", True) else "none"
        options = read_settings(LabellingJob, {"post": post, "beta": float(beta), "crf": crf})
        labels, _ = synthetic_mask(image, drawn.cross[chosen], options)
        labels = np.array([0, *(1 + i for i in chosen)], np.uint8)[labels]
    return {
        "labels": in_base64(labels),
        "height": labels.shape[0],
        "width": labels.shape[1],
        "classes": told_classes(labels, names),
        "seconds": time.perf_counter() - start,
        "passes": network.passes,
    }
