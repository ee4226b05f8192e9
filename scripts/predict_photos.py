#!/usr/bin/env python3
"""Predict further photos with a trained segmentor: a folder of masks, and a picture of some.

    python scripts/predict_photos.py --weights work/pets/segmentors/pets/weights.safetensors \\
        --photos /data/more --output results/pets/further.png

writes results/pets/further/: <photo>.png each, overlays/<photo>.jpg, index.html to look through them and
manifest.json, as `attnseg segment` does, and last the picture. The settings are those of the segmentor's
evaluation: scales, flip, CRF. Masks of photos of more than 2 million pixels are made at that size and
enlarged. An interrupted run is resumed. Damaged photos are named in the log and under the picture.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from attnseg.app import flags, sheet
from attnseg.app.folders import make_masks, pictures, read, write_entry
from attnseg.core.crf import crf_probabilities
from attnseg.core.finite import check_finite
from attnseg.core.sizes import enlarged_labels, reduced
from attnseg.errors import UserError, run, some
from attnseg.io.files import sha256
from attnseg.io.gpu import claim_device
from attnseg.results.chosen import spread
from attnseg.settings import PROFILES, Prediction, TestJob
from attnseg.settings.cli import given_settings


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, "--device", output="the picture, ....png", settings=TestJob)
    parser.add_argument("--weights", type=Path, required=True, help="of train_segmentor.py")
    parser.add_argument("--photos", required=True, help="their folder, with those below")
    parser.add_argument("--ignore-exif", action="store_true", help="do not turn photos upright")
    parser.add_argument(
        "--count", type=int, default=Prediction.model_fields["count"].default, help="in the picture"
    )
    args = parser.parse_args(argv)
    test, folder = given_settings(args, TestJob), args.output.with_suffix("")
    # not at the top: importing it takes seconds, also for --help and wrong arguments
    from attnseg.segmentation.model import load_segmentor, read_about
    from attnseg.segmentation.predict import probabilities

    names = read_about(args.weights)["classes"]
    first = 0 if names[0] == "background" else 1  # the number in masks of the first score
    numbers = {n: name for n, name in enumerate(names, first) if n}
    found, problems = pictures([args.photos], folder)
    exif = "ignore" if args.ignore_exif else "turn"
    classes = list(numbers.values())
    made_with = {
        "segmentor": sha256(args.weights), "test": test.record(), "exif": exif, "classes": classes,
    }  # fmt: skip

    def make(todo: dict[str, Path]) -> Iterator[tuple[str, dict]]:
        model, _ = load_segmentor(args.weights, claim_device(args.device))
        for image_id, image in read(todo, exif == "turn"):
            if isinstance(image, str):
                yield image_id, {"problem": image}
                continue
            small = reduced(image)
            scores = probabilities(model, small[None], test)[0]
            check_finite(
                "the scores are", [image_id], torch.float32, torch.from_numpy(scores)[None]
            )
            if test.crf is not None:
                wrapped = PROFILES[test.profile].wrapped_crf_image
                scores = crf_probabilities(small, scores, test.crf, wrapped)
            labels = first + enlarged_labels(scores, image.shape[:2])
            shown = first + scores.argmax(0).astype("uint8")
            yield image_id, write_entry(folder, image_id, small, shown, labels, numbers)

    make_masks(folder, made_with, found, dict.fromkeys(found, classes), problems, True, make)
    there = [image_id for image_id in sorted(found) if (folder / f"{image_id}.png").is_file()]
    if not there:
        raise UserError(f"{args.photos}: no photo could be read: {problems[0]}")
    about = (
        f"{len(there)} further photos, predicted by the segmentor {args.weights.parent.name}; look "
        f"through all in {folder / 'index.html'}."
    )
    if problems:
        about += f" {len(problems)} could not be read: {some(problems)}"
    sheet.draw(args.output, folder, spread(there, args.count), numbers, about)
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
