"""Concepts that read an image and are not read, compared with it where attention ends (ConceptAttention).

Of FLUX.1's double blocks and of Stable Diffusion 3, whose blocks diffusers builds of the same parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from attnseg.backbones.capture import Seen
from attnseg.backbones.diffusion_transformer import TransformerNetwork
from attnseg.backbones.interface import Backbone, Denoiser
from attnseg.backbones.text import Query
from attnseg.core.attention import token_weights


@dataclass
class Concepts:
    """Tokens of the classes of B queries and of the other words in them, each encoded alone.

    `tokens`: [B, C, D], as the text encoder has them; `real`: [B, C], False for padding; `weights`:
    [B, C, K], that average over the tokens of a concept, the classes first; `present`: [B, K].
    """

    tokens: torch.Tensor
    real: torch.Tensor
    weights: torch.Tensor
    present: torch.Tensor

    def __getitem__(self, rows: Sequence[int]) -> "Concepts":
        return Concepts(self.tokens[rows], self.real[rows], self.weights[rows], self.present[rows])


def concepts_of(backbone: Backbone, queries: Sequence[Query], first: bool = False) -> Concepts:
    """The concepts of each query; `first`: of the first token of each alone."""
    words: dict[str, torch.Tensor] = {}
    positions, rows = [], []
    for query in queries:
        phrases = [query.text[start:end] for start, end in query.spans]
        others = [query.text[start:end] for start, end in query.others]
        phrases += [phrase for phrase in others if phrase not in phrases]
        for phrase in phrases:
            if phrase not in words:
                (places,) = backbone.token_positions(Query(phrase, ((0, len(phrase)),)))
                places = places[:1] if first else places
                words[phrase] = backbone.encode_text([phrase]).hidden[0, places]
        ends = torch.tensor([len(words[phrase]) for phrase in phrases]).cumsum(0).tolist()
        starts = [0, *ends[:-1]]
        positions.append([list(range(a, b)) for a, b in zip(starts, ends, strict=True)])
        rows.append(torch.cat([words[phrase] for phrase in phrases]))
    tokens = pad_sequence(rows, batch_first=True)
    real = pad_sequence([torch.ones(len(row)) for row in rows], batch_first=True).bool()
    weights = token_weights(positions, tokens.shape[1])
    place = tokens.device
    return Concepts(tokens, real.to(place), weights.to(place), weights.any(1).to(place))


class Stream:
    """The concepts on their way through the blocks of a network, from the first on."""

    def __init__(
        self, model: Denoiser, concepts: Concepts, timestep: torch.Tensor | int, count: int
    ):
        """`count`: of the blocks, from the first on, that the concepts pass."""
        model.check_output(count - 1)
        assert isinstance(model, TransformerNetwork)  # where there are such blocks
        network = model.transformer
        self.concepts, self.blocks = concepts, network.transformer_blocks[:count]
        self.hidden = network.context_embedder(concepts.tokens.to(model.device, model.dtype))
        self.time = model.without_text(timestep, len(self.hidden))

    def heat(self, number: int, seen: Seen, around: tuple[int, int]) -> torch.Tensor:
        """The concepts' shares of each cell in a block, [B, N, K], after which they are in the next.

        The dot products of the attention's outputs, heads joined and not yet projected, averaged over
        the tokens of a concept, in a softmax over the concepts.
        """
        block, hidden = self.blocks[number], self.hidden
        attention = block.attn
        last = getattr(block, "context_pre_only", False)  # of Stable Diffusion 3; nothing follows
        if last:
            normed = block.norm1_context(hidden, self.time)
        else:
            normed, gate, shift, scale, second = block.norm1_context(hidden, emb=self.time)
        query, key, value = (
            part(normed).unflatten(-1, (attention.heads, -1)).transpose(1, 2)
            for part in (attention.add_q_proj, attention.add_k_proj, attention.add_v_proj)
        )
        if attention.norm_added_q is not None:
            query, key = attention.norm_added_q(query), attention.norm_added_k(key)
        image = slice(around[0], seen.key.shape[2] - around[1])
        assert seen.value is not None and seen.output is not None
        mask = F.pad(self.concepts.real, (0, image.stop - image.start), value=True)
        mixed = F.scaled_dot_product_attention(
            query,
            torch.cat([key, seen.key[:, :, image]], 2),
            torch.cat([value, seen.value[:, :, image]], 2),
            attn_mask=mask[:, None, None],
        )
        mine, cells = (
            each.transpose(1, 2).flatten(2) for each in (mixed, seen.output[:, :, image])
        )
        scores = cells.float() @ (mine.float().transpose(1, 2) @ self.concepts.weights)
        if not last:
            hidden = hidden + gate[:, None] * attention.to_add_out(mine)
            inner = block.norm2_context(hidden) * (1 + scale[:, None]) + shift[:, None]
            self.hidden = hidden + second[:, None] * block.ff_context(inner)
        return scores.masked_fill(~self.concepts.present[:, None], -torch.inf).softmax(-1)
