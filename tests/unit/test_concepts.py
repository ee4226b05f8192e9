"""Maps in the space of attention's outputs (ConceptAttention), against streams of concepts written out."""

import math

import numpy as np
import pytest
import torch
from test_joint_attention import drawn, places, rms, rotated

from attnseg.backbones import load_backbone
from attnseg.backbones.concepts import concepts_of
from attnseg.backbones.interface import Backbone
from attnseg.backbones.text import Query
from attnseg.errors import UserError
from attnseg.text2mask.attention import attention_maps
from attnseg.text2mask.options import options_for
from attnseg.text2mask.segment import segment


def eager_heat(backbone: Backbone, inputs: tuple, grid: tuple, rows: list, blocks: list) -> list:
    """ConceptAttention's maps of each sample, [concepts, N], the mean over `blocks`.

    `rows`: the tokens of each concept, [n, D] each, per sample. All streams of a block are computed
    from what enters it; only that of the concepts is carried on.
    """
    network, entered = backbone.transformer, {}
    handles = [
        block.register_forward_pre_hook(
            lambda m, a, given, n=number: entered.update({n: given}), with_kwargs=True
        )
        for number, block in enumerate(network.transformer_blocks)
    ]
    times = []
    handles.append(network.time_text_embed.register_forward_pre_hook(lambda m, a: times.append(a)))
    backbone.denoise(*inputs)
    for handle in handles:
        handle.remove()
    without = network.time_text_embed(*times[0][:-1], torch.zeros_like(times[0][-1]))
    results = []
    for i, concepts in enumerate(rows):
        stream = network.context_embedder(torch.cat(concepts))[None]
        own, heats = without[i : i + 1], []
        for number in range(max(blocks) + 1):
            block, attn = (
                network.transformer_blocks[number],
                network.transformer_blocks[number].attn,
            )
            image, words = (
                entered[number][name][i : i + 1]
                for name in ("hidden_states", "encoder_hidden_states")
            )
            emb = entered[number]["temb"][i : i + 1]
            final = getattr(block, "context_pre_only", False)
            condition = (
                [block.norm1_context(stream, own)]
                if final
                else block.norm1_context(stream, emb=own)
            )
            text = (
                block.norm1_context(words, emb) if final else block.norm1_context(words, emb=emb)[0]
            )
            normed = {
                "image": block.norm1(image, emb=emb)[0],
                "text": text,
                "concept": condition[0],
            }
            heads = {}
            for name, x in normed.items():
                for letter in "qkv":
                    part = f"to_{letter}" if name == "image" else f"add_{letter}_proj"
                    y = getattr(attn, part)(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
                    norm = f"norm_{letter}" if name == "image" else f"norm_added_{letter}"
                    y = rms(y, getattr(attn, norm)) if letter != "v" else y
                    if letter != "v" and name == "image" and type(backbone).__name__ == "Flux":
                        y = rotated(y, places("Flux", 0, grid), network.config.axes_dims_rope)
                    heads[name, letter] = y

            def attention(reader, *read, heads=heads):
                key, value = (torch.cat([heads[name, x] for name in read], 2) for x in "kv")
                scores = heads[reader, "q"] @ key.transpose(-1, -2) / math.sqrt(key.shape[-1])
                return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)

            cells, mine = (
                attention("image", "text", "image"),
                attention("concept", "concept", "image"),
            )
            dots = (cells @ mine.transpose(1, 2))[0].split([len(c) for c in concepts], -1)
            heats.append(torch.stack([dot.mean(-1) for dot in dots]).softmax(0))
            if not final:
                _, gate, shift, scale, second = condition
                stream = stream + gate * attn.to_add_out(mine)
                stream = stream + second * block.ff_context(
                    block.norm2_context(stream) * (1 + scale) + shift
                )
        results.append(torch.stack([heats[number] for number in blocks]).mean(0))
    return results


@torch.no_grad()
@pytest.mark.parametrize("family", ["sd3", "sd3.5", "flux-dev", "flux-schnell"])
def test_maps_in_the_output_space_are_those_of_concepts_that_are_not_read(tiny_family, family):
    model = load_backbone(tiny_family(family), device="cpu")
    queries = [
        Query("a dog, a table, and dining.", ((2, 5), (9, 14)), ((20, 26),)),
        Query("a dining table.", ((2, 14),), ()),
    ]
    latents, timesteps = torch.randn(2, 4, 12, 16), torch.tensor([500, 150])
    inputs = latents, timesteps, model.encode_text([query.text for query in queries])
    rows = []
    for query in queries:
        rows.append([])
        for start, end in (*query.spans, *query.others):
            phrase = query.text[start:end]
            (tokens,) = model.token_positions(Query(phrase, ((0, len(phrase)),)))
            rows[-1].append(model.encode_text([phrase]).hidden[0, tokens])
    blocks = [0, 1]  # and all, of FLUX.1's double blocks; of Stable Diffusion 3 there is one more
    blocks += [2] if family.startswith("sd3") else []
    expected = eager_heat(model, inputs, (6, 8), rows, blocks)
    plain = model.denoise(*inputs)
    found = attention_maps(
        model, *inputs, [model.token_positions(query) for query in queries], cross_blocks=blocks,
        self_block=0, concepts=concepts_of(model, queries), with_affinity=True,
    )  # fmt: skip
    for maps, heat, query in zip(found, expected, queries, strict=True):
        own = heat[: len(query.spans)]
        torch.testing.assert_close(maps.cross, own.unflatten(1, (6, 8)), rtol=1e-4, atol=1e-5)
        spread = (maps.affinity @ maps.affinity @ own.T).T.unflatten(1, (6, 8))
        torch.testing.assert_close(maps.selfcross, spread, rtol=1e-4, atol=1e-5)
    assert expected[0].std() > 1e-3
    assert torch.equal(model.denoise(*inputs), plain)


@torch.no_grad()
@pytest.mark.parametrize("family", ["sd3", "sd3.5", "flux-dev", "flux-schnell"])
def test_concepts_leave_the_image_as_it_is(tiny_family, family):
    """Blocks after those that the concepts pass see the same queries and keys to the bit."""
    model = load_backbone(tiny_family(family), device="cpu")
    text, latents = model.encode_text(["a dog"]), torch.randn(1, 4, 8, 8)
    last = max(model.blocks).number
    given = model, latents, 500, text, [[[1]]]
    alone = attention_maps(*given, cross_blocks=[0], self_block=last, with_affinity=True)
    concepts = concepts_of(model, [Query("a dog", ((2, 5),))])
    more = {"self_block": last, "with_affinity": True, "concepts": concepts}
    beside = attention_maps(*given, cross_blocks=[1], **more)
    assert torch.equal(alone[0].affinity, beside[0].affinity)


@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "block"), [("flux-dev", 2), ("qwen-image", 0), ("flux2-klein", 0), ("z-image", 0)]
)
def test_blocks_without_an_output_reading_say_so(tiny_family, family, block):
    model = load_backbone(tiny_family(family), device="cpu")
    concepts = concepts_of(model, [Query("a dog", ((2, 5),))])
    with pytest.raises(UserError, match="extraction.reading") as error:
        attention_maps(
            model, drawn(model, 1), 500, model.encode_text(["a dog"]), [[[1]]],
            cross_blocks=[block], self_block=0, concepts=concepts,
        )  # fmt: skip
    assert "\n" not in str(error.value)


def test_the_reading_is_a_setting_of_the_extraction(tiny_family):
    photo = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    scores = {}
    for reading in ("attention", "output"):
        model = load_backbone(tiny_family("sd3"), device="cpu")
        options = options_for(model, cross_blocks=[0, 1], noises=1, reading=reading)
        scores[reading] = segment(model, photo, ["dog"], crf=False, options=options)[1]
    assert np.ptp(scores["output"][1]) > 0.5  # from 0 to 1, as there are words for the background
    assert not np.allclose(scores["output"], scores["attention"], atol=0.05)
