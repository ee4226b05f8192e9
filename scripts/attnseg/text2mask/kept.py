"""A photo's attention, kept after the network has seen it: other settings need no further pass."""

from dataclasses import dataclass

import torch

from attnseg.backbones.interface import Backbone
from attnseg.core.geometry import Fit, in_photo
from attnseg.core.maps import min_max
from attnseg.io.batches import Batches
from attnseg.text2mask.attention import Record
from attnseg.text2mask.extract import Sample, queries_of, query_maps, views_of
from attnseg.text2mask.options import Options, blocks_of


@dataclass
class Kept:
    """The attention of a photo and its K classes.

    `sentences`: of each query the indices of its classes, and what each noise recorded. `cross_blocks`:
    the blocks of its crosses.
    """

    sample: Sample
    fit: Fit
    cross_blocks: list[int]
    sentences: list[tuple[list[int], list[Record]]]

    @property
    def passes(self) -> int:
        """Noises of sentences that went through the network."""
        return sum(len(records) for _, records in self.sentences)

    @property
    def bytes(self) -> int:
        tensors = [
            tensor
            for _, records in self.sentences
            for r in records
            for tensor in (r.crosses, *(part for block in r.selves for part in block[:3]))
            if tensor is not None
        ]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def maps(self, iterations: int) -> torch.Tensor:
        """Maps after this many propagations, min-max normalised and averaged over noises as by
        `extract`, in the precision of its shards: [K, h', w'] float32 in [0, 1]."""
        return self._of_classes(
            [
                sum(self._normalised(record.selfcross(iterations)) for record in records)
                / len(records)
                for _, records in self.sentences
            ]
        )

    def blocks(self) -> torch.Tensor:
        """Each block's Cross, normalised and averaged alike: [blocks, K, h', w'] float32."""
        return torch.stack(
            [
                self._of_classes(
                    [
                        sum(self._normalised(record.crosses[b].cpu()) for record in records)
                        / len(records)
                        for _, records in self.sentences
                    ]
                )
                for b in range(len(self.cross_blocks))
            ]
        )

    def attended(self, y: int, x: int) -> torch.Tensor:
        """What the cell around a pixel of the photo attends to, averaged over noises and sentences:
        [h', w'] float32, whose sum is 1."""
        records = [record for _, records in self.sentences for record in records]
        grid, size = records[0].crosses.shape[2:], self.sample.image.shape[:2]
        row, column = (
            min(int((at + 0.5) / pixels * content / padded * cells), cells - 1)
            for at, pixels, content, padded, cells in zip(
                (y, x), size, self.fit.content, self.fit.padded, grid, strict=True
            )
        )
        return torch.stack([record.attended(row * grid[1] + column) for record in records]).mean(0)

    def _normalised(self, maps: torch.Tensor) -> torch.Tensor:
        return min_max(maps, in_photo(tuple(maps.shape[1:]), self.fit))

    def _of_classes(self, parts: list) -> torch.Tensor:
        """The maps of each sentence in the order of the classes."""
        whole = torch.zeros(len(self.sample.classes), *parts[0].shape[1:])
        for (columns, _), part in zip(self.sentences, parts, strict=True):
            whole[columns] = part.half().float()
        return whole


def look(backbone: Backbone, sample: Sample, options: Options, batch_size: int = 8) -> Kept:
    """Pass a photo, of the paper's profile, through the network, as `extract` does, and keep all.

    Raises:
        UserError: as `extract`.
    """
    (view,) = views_of(backbone, [sample], options)
    asked = queries_of(backbone, sample.classes, options)
    found = query_maps(
        backbone,
        [(view, query) for _, query in asked],
        options,
        Batches(batch_size, "U-Net pass"),
        with_records=True,
    )
    sentences = [(columns, maps.records) for (columns, _), maps in zip(asked, found, strict=True)]
    crosses, _ = blocks_of(backbone, options)
    return Kept(sample, view.fit, [block.number for block in crosses], sentences)
