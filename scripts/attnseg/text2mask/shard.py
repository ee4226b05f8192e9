"""A shard of the attention of photos, with the time that each batch took."""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from tqdm import tqdm

from attnseg.backbones.interface import Backbone
from attnseg.datasets import Dataset
from attnseg.datasets.labels import known_labels
from attnseg.io.files import fingerprint
from attnseg.io.shards import is_complete, write_shard
from attnseg.text2mask.extract import Sample, extract
from attnseg.text2mask.options import Options, blocks_of
from attnseg.text2mask.presence import scores_of


def extract_shard(
    output: Path,
    backbone: Backbone,
    dataset: Dataset,
    root: Path,
    split: str,
    source: str,
    ids: Sequence[str],
    options: Options,
) -> None:
    """Read the photos of `ids`, extract, and write the shard, unless it is there already.

    `source`: of the labels.
    """
    blocks_of(backbone, options)
    parameters = {
        **options.record(),
        "model": backbone.hashes(),
        "labels": source,
        "dataset": dataset.name,
        "split": split,
        "ids": ids,
    }
    if is_complete(output, parameters):
        print(f"{output} is complete")
        return
    samples = [
        Sample(
            image_id,
            dataset.read_photo(root, image_id, split),
            dataset.labels(root, image_id, source, split),
        )
        for image_id in ids
    ]
    timing: dict[str, list] = {"labels": [], "seconds": []}

    def timed(batches: Iterable) -> Iterator:
        bar = tqdm(
            batches, desc="attention", unit="batch", mininterval=2, disable=not sys.stderr.isatty()
        )
        for batch in bar:
            begun = time.perf_counter()
            yield batch
            timing["labels"].append(sum(len(samples[i].classes) for i in batch))
            timing["seconds"].append(round(time.perf_counter() - begun, 4))

    started = time.monotonic()
    tensors, items = extract(backbone, samples, options, options.batch_size, timed)
    if source == "known":
        found = scores_of_all(backbone, dataset, root, split, samples, options)
        items = [item | found.get(item["id"], {}) for item in items]
    precision = str(backbone.dtype).removeprefix("torch.")
    for item in items:
        item["photo"] = fingerprint(dataset.image_path(root, item["id"], split))
    write_shard(output, tensors, items, parameters, timing=timing, precision=precision)
    seconds = time.monotonic() - started
    skipped = sum(bool(item["skipped"]) for item in items)
    crowded = sum(item["sentences"] > 1 for item in items) if options.query.composed else 0
    print(
        f"{len(items)} photos in {seconds:.1f} s ({len(items) / seconds:.1f} a second), "
        f"{skipped} with a constant map, {crowded} with more classes than fit one sentence -> {output}"
    )


def scores_of_all(
    backbone: Backbone,
    dataset: Dataset,
    root: Path,
    split: str,
    samples: Sequence[Sample],
    options: Options,
) -> dict[str, dict]:
    """{"scores": the presence of every class} of the photos that have labels, from a pass that asks for all.

    On these the score is chosen from which a class is present in photos without labels.
    """
    if all(
        known_labels(dataset, root, i, split) is not None for i in dataset.read_split(root, split)
    ):
        return {}
    named = [
        Sample(sample.id, sample.image, list(dataset.classes))
        for sample in samples
        if known_labels(dataset, root, sample.id, split) is not None
    ]
    tensors, items = extract(backbone, named, options, options.batch_size)
    return {
        item["id"]: {
            "scores": scores_of(item, {"cross": tensors[f"{item['id']}/cross"].numpy()}).tolist()
        }
        for item in items
    }
