"""Families with joint attention: their maps, texts, noise and latents against plain formulas."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from attnseg.attn2mask.generate import ddpm_scheduler
from attnseg.attn2mask.invert import ddim_schedulers
from attnseg.backbones import load_backbone
from attnseg.backbones.interface import Backbone, Text
from attnseg.backbones.stable_diffusion import stable_diffusion
from attnseg.backbones.text import Query, TooLong
from attnseg.errors import UserError
from attnseg.text2mask.attention import attention_maps

NAMES = (
    "sd3", "sd3-without-t5", "sd3.5", "flux-dev", "flux-schnell", "qwen-image", "flux2-klein", "z-image",
)  # fmt: skip
GRID = (6, 8)
TEXTS = ["a photo including dog, and dining table.", "a dog", "a table and dog", "photo"]
POSITIONS = [[[2], [4, 5, 6]], [[1]], [[1, 3], [2], [4]], [[3], [1]]]  # any, of each text


@pytest.fixture(scope="module", params=NAMES)
def backbone(request, tiny_family) -> Backbone:
    return load_backbone(tiny_family(request.param), device="cpu")


def drawn(backbone: Backbone, count: int, grid: tuple[int, int] = GRID) -> torch.Tensor:
    """Normal latents whose tokens are on `grid`."""
    (halvings,) = {place.halvings for place in backbone.blocks.values()}
    sides = (side * 2**halvings for side in grid)
    shape = (count, backbone.latent_shape((64, 64))[0], *sides)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def inputs(backbone):
    latents = drawn(backbone, 4)
    with torch.no_grad():
        return latents, torch.tensor([515, 20, 999, 300]), backbone.encode_text(TEXTS)


def rms(x: torch.Tensor, norm: torch.nn.Module | None) -> torch.Tensor:
    if norm is None:
        return x
    return x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight


def rotated(
    x: torch.Tensor, places: torch.Tensor, widths: tuple[int, ...], base: float = 10000.0
) -> torch.Tensor:
    """Rotary embedding of x [B, heads, N, d] at places [N, axes]: pairs turn by place / base^(2 i / d)."""
    angles = torch.cat(
        [
            places[:, axis, None].double() * base ** -(torch.arange(0, width, 2).double() / width)
            for axis, width in enumerate(widths)
        ],
        -1,
    )
    turned = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)))
    turned = turned * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).flatten(-2).float()


def places(name: str, length: int, grid: tuple[int, int]) -> torch.Tensor:
    """Places of the text's tokens, then the image's: [L + N, 3]."""
    if name == "Flux":  # the text at the origin, the image's rows and columns from 0
        image = [(0, row, column) for row in range(grid[0]) for column in range(grid[1])]
        return torch.tensor([(0, 0, 0)] * length + image)
    if name == "Flux2Klein":  # words have an axis of their own
        image = [(0, row, column, 0) for row in range(grid[0]) for column in range(grid[1])]
        return torch.tensor([(0, 0, 0, word) for word in range(length)] + image)
    tops = [side - side // 2 for side in grid]  # the image around the origin, the text behind it
    image = [(0, r - tops[0], c - tops[1]) for r in range(grid[0]) for c in range(grid[1])]
    text = [(max(side // 2 for side in grid) + i,) * 3 for i in range(length)]
    return torch.tensor(text + image)


def full_matrix(backbone: Backbone, number: int, inputs: tuple, grid: tuple) -> torch.Tensor:
    """Attention of all of text and image to all of them, mean over heads: [B, L + N, L + N].

    Of the block's projections, with norms, rotary embedding and softmax written out; text first.
    """
    latents, _, text = inputs
    module, kept, name = backbone.blocks[number, "joint"].module, {}, type(backbone).__name__
    projections = ["to_q", "to_k", "add_q_proj", "add_k_proj", "to_qkv_mlp_proj"]
    handles = [
        getattr(module, projection).register_forward_hook(
            lambda *a, p=projection: kept.update({p: a[2]})
        )
        for projection in projections
        if getattr(module, projection, None) is not None
    ]
    with torch.no_grad():
        backbone.denoise(*inputs)
    for handle in handles:
        handle.remove()
    if "to_qkv_mlp_proj" in kept:  # queries, keys, values, and more
        width = module.heads * module.head_dim
        kept = dict(zip(("to_q", "to_k"), kept["to_qkv_mlp_proj"].split(width, -1), strict=False))
    length = text.hidden.shape[1]
    if name == "ZImage":
        return z_matrix(module, kept, text.more["mask"].sum(1).tolist(), length, grid)
    both = []
    for own, added, norm in (("to_q", "add_q_proj", "q"), ("to_k", "add_k_proj", "k")):
        split = {p: kept[p].unflatten(-1, (module.heads, -1)).transpose(1, 2) for p in kept}
        image = rms(split[own], getattr(module, f"norm_{norm}"))
        if added in split:
            words = rms(split[added], getattr(module, f"norm_added_{norm}"))
            image = torch.cat([words, image], 2)
        if name != "StableDiffusion3":
            config = backbone.transformer.config
            base = config.get("rope_theta", 10000.0)
            image = rotated(image, places(name, length, grid), config.axes_dims_rope, base)
        both.append(image)
    scores = both[0] @ both[1].transpose(-1, -2) / math.sqrt(both[0].shape[-1])
    if "mask" in text.more:
        hidden = torch.cat(
            [~text.more["mask"], torch.zeros(len(latents), grid[0] * grid[1]).bool()], 1
        )
        scores = scores.masked_fill(hidden[:, None, None], -math.inf)
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return weights.mean(1)


def z_matrix(
    module: torch.nn.Module, kept: dict, words: list[int], length: int, grid: tuple
) -> torch.Tensor:
    """`full_matrix` of Z-Image, whose samples have texts of their own lengths, `words`.

    A sample is the image, fillers to a multiple of 32, the text, and fillers; fillers attend and are
    attended to, and are left out here.
    """
    cells, matrices = (
        grid[0] * grid[1],
        torch.zeros(len(words), length + grid[0] * grid[1], length + grid[0] * grid[1]),
    )
    for i, count in enumerate(words):
        filled, behind = -count % 32, -cells % 32
        after = count + filled  # the image is after the text on the first axis, fillers are at 0
        image = [(after + 1, row, column) for row in range(grid[0]) for column in range(grid[1])]
        every = image + [(0, 0, 0)] * behind + [(1 + word, 0, 0) for word in range(after)]
        query, key = (
            rotated(
                rms(
                    kept[f"to_{letter}"][i : i + 1, : len(every)]
                    .unflatten(-1, (module.heads, -1))
                    .transpose(1, 2),
                    getattr(module, f"norm_{letter}"),
                ),
                torch.tensor(every),
                (4, 4, 8),
                256.0,
            )
            for letter in "qk"
        )
        weights = (query @ key.transpose(-1, -2) / math.sqrt(key.shape[-1])).exp()
        whole = (weights / weights.sum(-1, keepdim=True)).mean(1)[0]
        start = cells + behind
        order = [*range(start, start + after), *range(cells)]
        into = [*range(after), *range(length, length + cells)]
        matrices[i][torch.tensor(into)[:, None], torch.tensor(into)] = whole[order][:, order]
    return matrices


@torch.no_grad()
@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [2]])
def test_maps_are_those_of_the_full_matrices(backbone, inputs, rows):
    """Seg4Diff's image-to-text columns; propagated by the rows of the image's part, divided by sums."""
    latents, timesteps, text = inputs
    part = latents[rows], timesteps[rows], text[rows]
    grid, length, last = GRID, text.hidden.shape[1], max(backbone.blocks).number
    blocks = [0, last]
    found = attention_maps(
        backbone, *part, [POSITIONS[i] for i in rows], cross_blocks=blocks, self_block=1,
        iterations=2, with_affinity=True,
    )  # fmt: skip
    matrices = {number: full_matrix(backbone, number, part, grid) for number in (*blocks, 1)}
    for i, (row, maps) in enumerate(zip(rows, found, strict=True)):
        cross = torch.stack(
            [
                sum(matrices[number][i, length:, p] for p in tokens for number in blocks)
                / (len(blocks) * len(tokens))
                for tokens in POSITIONS[row]
            ]
        )
        image = matrices[1][i, length:, length:]
        affinity = image / image.sum(1, keepdim=True)
        spread = (affinity @ affinity @ cross.T).T
        near = {"rtol": 1e-4, "atol": 1e-6}
        torch.testing.assert_close(maps.cross, cross.unflatten(1, grid), **near)
        torch.testing.assert_close(maps.selfcross, spread.unflatten(1, grid), **near)
        torch.testing.assert_close(maps.affinity, affinity, **near)
        assert cross.std() > 0.02 * cross.mean()  # not flat, where any formula would do


@torch.no_grad()
def test_the_denoiser_s_output_is_the_plain_one_to_the_bit(backbone, inputs):
    plain = backbone.denoise(*inputs)
    with backbone.record(backbone.blocks, stop=False, values=True) as seen:
        recorded = backbone.denoise(*inputs)
    assert torch.equal(recorded, plain) and list(seen) == list(backbone.blocks)
    assert plain.shape == inputs[0].shape


@torch.no_grad()
def test_dual_attention_is_the_image_s_alone(tiny_family):
    model = load_backbone(tiny_family("sd3.5"), device="cpu")
    text = model.encode_text(["a dog"])
    with model.record([(0, "self"), (0, "joint")]) as seen:
        model.denoise(torch.randn(1, 4, 8, 8), 1, text)
    assert seen[0, "self"].key.shape[2] == 16
    assert seen[0, "joint"].key.shape[2] == 16 + text.hidden.shape[1]
    assert model.select(None, 0)[1] == [(0, "joint")]  # propagated by it, as in the other models


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that is made."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for one in result if isinstance(result, tuple) else (result,):
            if isinstance(one, torch.Tensor):
                self.count = max(self.count, one.numel())
        return result


@torch.no_grad()
@pytest.mark.parametrize("name", ["sd3", "flux-dev", "qwen-image", "flux2-klein", "z-image"])
def test_no_matrix_between_cells_is_formed(tiny_family, name):
    model = load_backbone(tiny_family(name), device="cpu")
    latents, text = drawn(model, 1, (32, 32)), model.encode_text(TEXTS[:1])
    with Largest() as largest:
        attention_maps(model, latents, 150, text, POSITIONS[:1], cross_blocks=[0, 1], self_block=1)
    assert 1000 < largest.count < 1024**2 / 2


def run_of_pipeline(backbone: Backbone, prompts: list[str], noise: torch.Tensor) -> torch.Tensor:
    """Latents after one step of diffusers' pipeline, from s = 1 to 0."""
    pipeline = backbone.pipeline()
    pipeline.set_progress_bar_config(disable=True)
    name, more = type(backbone).__name__, {}
    if name in ("StableDiffusion3", "Flux2Klein"):
        more["guidance_scale"] = 1.0
    elif name == "ZImage":
        more["guidance_scale"] = 0.0
    else:
        noise = pipeline._pack_latents(noise, len(noise), *noise.shape[1:])
        more["true_cfg_scale"] = 1.0
    if name == "Flux":
        more["max_sequence_length"] = backbone.window
    if name == "QwenImage":  # 34 of the published tokenizer
        pipeline.prompt_template_encode_start_idx = backbone.dropped
    size = {"height": 64, "width": 96} if name != "QwenImage" else {"height": 128, "width": 192}
    done = pipeline(
        prompt=list(prompts), num_inference_steps=1, latents=noise, output_type="latent", **size, **more
    ).images  # fmt: skip
    if name in ("StableDiffusion3", "ZImage"):
        return done
    if name == "Flux2Klein":
        norm = backbone.vae.bn  # which the pipeline has undone
        done = torch.nn.functional.pixel_unshuffle(done, 2)
        return torch.nn.functional.batch_norm(done, norm.running_mean, norm.running_var, eps=1e-4)
    scale = {"Flux": 4, "QwenImage": 8}[name]
    shape = done.shape[0], 4, size["height"] // scale, size["width"] // scale
    return pipeline._unpack_latents(done, *size.values(), scale).reshape(shape)


@torch.no_grad()
def test_a_pass_is_that_of_diffusers_pipeline(backbone):
    """Texts, packing, grids, masks, guidance and time: of two texts of unequal length."""
    noise = drawn(backbone, 2, (8, 12))
    velocity = backbone.denoise(noise, 1000, backbone.encode_text(TEXTS[:2]))
    expected = run_of_pipeline(backbone, TEXTS[:2], noise.clone())
    torch.testing.assert_close(noise - velocity, expected, rtol=1e-4, atol=1e-5)


def test_what_a_family_cannot_carry_is_one_line(backbone):
    """Adapters and subjects, images drawn by DDPM, inversion."""
    for ask, said in (
        (
            lambda: stable_diffusion(backbone),
            f"family {type(backbone).__name__}; LoRA and Custom Diff",
        ),
        (lambda: ddpm_scheduler(backbone.scheduler, 10), "flow matching"),
        (lambda: ddim_schedulers(backbone.scheduler, 10), "flow matching"),
    ):
        with pytest.raises(UserError, match=said) as error:
            ask()
        assert "\n" not in str(error.value)


def test_noise_is_a_straight_way_to_the_image(backbone):
    latents, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    t = torch.tensor([150, 515])  # as the network is told, whatever a sampler's shift
    noisy = backbone.add_noise(latents, noise, t)
    for i, s in enumerate((0.15, 0.515)):
        torch.testing.assert_close(noisy[i], (1 - s) * latents[i] + s * noise[i])
    torch.testing.assert_close(
        noisy - t.view(2, 1, 1, 1) / 1000 * backbone.target(latents, noise, t), latents
    )


@torch.no_grad()
def test_images_come_back_as_the_autoencoder_has_them(backbone):
    side = 8 * backbone.multiple
    pixels = torch.rand(1, 3, side, side + backbone.multiple) * 2 - 1
    posterior = backbone.encode_images(pixels)
    assert posterior.mean.shape[1:] == backbone.latent_shape((side, side + backbone.multiple))
    sample = posterior.mean + posterior.std
    if type(backbone).__name__ == "QwenImage":
        mean, std = (
            torch.tensor(x).view(1, 4, 1, 1) for x in ([0.1, -0.2, 0.3, 0.0], [0.5, 1.0, 2.0, 1.5])
        )
        expected = (sample - mean) / std
        plain = backbone.vae.decode(posterior.mean[:, :, None]).sample[:, :, 0]
    elif type(backbone).__name__ == "Flux2Klein":  # a token is 2 x 2 cells, and normalised
        norm = backbone.vae.bn
        mean, std = (
            x.view(1, 16, 1, 1) for x in (norm.running_mean, (norm.running_var + 1e-4).sqrt())
        )
        expected = (sample - mean) / std
        found = backbone.vae.encode(pixels).latent_dist
        for mine, cells in ((posterior.mean, found.mean), (posterior.std, found.std)):
            quarters = [cells[:, c, i::2, j::2] for c in range(4) for i in (0, 1) for j in (0, 1)]
            torch.testing.assert_close(mine, torch.stack(quarters, 1))
        plain = backbone.vae.decode(found.mean).sample
    else:
        expected = (sample - 0.1) * 4.0
        plain = backbone.vae.decode(posterior.mean).sample
    torch.testing.assert_close(posterior.latents(torch.ones_like(sample)), expected)
    wanted = (plain.permute(0, 2, 3, 1) / 2 + 0.5).clamp(0, 1).numpy() * 255
    assert abs(backbone.decode(posterior.latents()) - wanted).max() <= 0.51


QUERY = Query("a photo including dog, and dining table.", ((18, 21), (27, 39)))


def test_token_positions_of_t5(tiny_family):
    """_a _photo _including _dog , _and _d ining _table ."""
    model = load_backbone(tiny_family("flux-dev"), device="cpu")
    assert model.token_positions(QUERY) == [[3], [6, 7, 8]]
    long = Query("dog " * 511 + "table", ((2040, 2043), (2044, 2049)))
    with pytest.raises(TooLong, match="'table' is past the text encoder's window of 512"):
        model.token_positions(long)
    assert model.token_positions(Query(long.text, long.spans[:1])) == [[510]]
    # _a _ s h e e p: the beginning of a word is its token
    assert model.token_positions(Query("a sheep", ((2, 7),))) == [[1, 2, 3, 4, 5, 6]]


def test_token_positions_of_qwen_are_after_the_template(tiny_family):
    """a | ' photo', 6 bytes | ' ' in c l u d ing | ' dog' | ',' | ' and', 4 | ' d' in ing | ' table', 6 | '.'"""
    model = load_backbone(tiny_family("qwen-image"), device="cpu")
    assert model.token_positions(QUERY) == [[14], list(range(20, 29))]
    text = model.encode_text([QUERY.text, "a"])  # then the end, a line, the start, 9 bytes, a line
    assert text.more["mask"].sum(1).tolist() == [30 + 13, 1 + 13]
    with pytest.raises(TooLong, match="'z' is past"):
        model.token_positions(Query("q" * 1024 + "z", ((1024, 1025),)))


@torch.no_grad()
@pytest.mark.parametrize(("family", "ending"), [("flux2-klein", 17), ("z-image", 0)])
def test_token_positions_of_qwen3_are_in_its_chat(tiny_family, family, ending):
    """<start> 'user', 4 bytes, a line | then as Qwen-Image's: 14, and 20 to 28 | <end> and a line, <start>,
    'assistant', 9 bytes, a line; without a thought '<think>', 6 as 'in' is one, and '</think>', 7, each
    with two lines."""
    model = load_backbone(tiny_family(family), device="cpu")
    assert model.token_positions(QUERY) == [[6 + 14], list(range(6 + 20, 6 + 29))]
    ids = model.tokenizer(model.asked(QUERY.text)).input_ids
    assert len(ids) == 6 + 30 + 13 + ending
    with pytest.raises(TooLong, match="'z' is past the text encoder's window of 512"):
        model.token_positions(Query("q" * 506 + "z", ((506, 507),)))
    assert model.token_positions(Query("q" * 505 + "z", ((505, 506),))) == [[511]]


@torch.no_grad()
def test_a_pass_of_z_image_is_the_same_beside_a_longer_text(tiny_family):
    """The text of 'a dog' is filled up to 32 tokens, beside others' to 64."""
    model = load_backbone(tiny_family("z-image"), device="cpu")
    both, latents = model.encode_text(TEXTS[:2]), drawn(model, 1, (5, 7))
    alone = model.encode_text(TEXTS[1:2])
    assert (both.hidden.shape[1], alone.hidden.shape[1]) == (64, 32)
    blocks = {"cross_blocks": [0, 2], "self_block": 1}
    one, other = (
        attention_maps(model, latents, 150, text, [[[8], [9, 10]]], **blocks)[0]
        for text in (alone, both[[1]])
    )
    torch.testing.assert_close(one.cross, other.cross)
    torch.testing.assert_close(one.selfcross, other.selfcross)
    assert one.cross.shape == (2, 5, 7)


def test_token_positions_of_stable_diffusion_3_are_clip_s(tiny_family):
    model = load_backbone(tiny_family("sd3"), device="cpu")
    clip = model.tokenizers[0]
    tokens = clip.convert_ids_to_tokens(clip(QUERY.text).input_ids)
    dog, dining = model.token_positions(QUERY)
    assert [tokens[p] for p in dog] == ["dog</w>"]
    assert "".join(tokens[p] for p in dining) == "dining</w>table</w>"
    assert dining[-1] < clip.model_max_length < model.encode_text(["a"]).hidden.shape[1]


@torch.no_grad()
def test_without_t5_its_tokens_are_zeros(tiny_family):
    with_t5, without = (load_backbone(tiny_family(n), device="cpu") for n in NAMES[:2])
    window = with_t5.tokenizers[0].model_max_length
    hidden = without.encode_text(["a dog"]).hidden
    assert hidden.shape == (1, window + 256, 40) and not hidden[:, window:].any()
    assert not hidden[:, :window, 32:].any() and hidden[:, :window, :32].all()
    assert with_t5.encode_text(["a dog"]).hidden[:, window:].any()


def test_texts_are_selected_with_what_belongs_to_them(backbone, inputs):
    part = inputs[2][[2, 0]]
    assert isinstance(part, Text)
    for whole, some in ((inputs[2].hidden, part.hidden), *zip(inputs[2].more.values(), part.more.values(), strict=True)):  # fmt: skip
        assert torch.equal(some, whole[[2, 0]])
