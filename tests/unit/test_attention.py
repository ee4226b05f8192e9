"""attention_maps against a naive computation: full matrices, explicit products, the whole U-Net."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from attnseg.backbones.stable_diffusion import UNet
from attnseg.core.attention import SelfInputs, propagate, with_less_entropy
from attnseg.core.boxes import box_mask
from attnseg.core.maps import min_max
from attnseg.errors import UserError
from attnseg.text2mask.attention import attention_maps

WINDOW, WIDTH = 20, 24


@pytest.fixture(scope="module")
def unet() -> UNet2DConditionModel:
    """Stable Diffusion 1.x's topology, 16 transformer blocks, at a small width."""
    torch.manual_seed(0)
    model = UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        layers_per_block=2,
        block_out_channels=(8, 16, 24, 24),
        cross_attention_dim=WIDTH,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    with torch.no_grad():  # sharper attention than the initial, nearly uniform one
        for attention, *_ in UNet(model).blocks.values():
            attention.to_q.weight.mul_(4)
    return model.eval()


def naive_bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """align_corners False, clamped at the border, as two matrices of weights; [h, w] -> size."""

    def weights(source: int, target: int) -> np.ndarray:
        matrix = np.zeros((target, source))
        for i in range(target):
            place = min(max((i + 0.5) * source / target - 0.5, 0), source - 1)
            low = int(place)
            matrix[i, low] += 1 - (place - low)
            matrix[i, min(low + 1, source - 1)] += place - low
        return matrix

    return weights(image.shape[0], size[0]) @ image @ weights(image.shape[1], size[1]).T


def naive_box_mask(image: np.ndarray, threshold: float) -> np.ndarray:
    """Flood fill of the strong pixels; boxes whose last row and column are left out at the edge."""
    h, w = image.shape
    levels = np.floor(image * 255)
    strong = levels > int(threshold * levels.max())
    mask, seen = np.zeros((h, w)), np.zeros((h, w), bool)
    for sy in range(h):
        for sx in range(w):
            if not strong[sy, sx] or seen[sy, sx]:
                continue
            todo, cells = [(sy, sx)], []
            seen[sy, sx] = True
            while todo:
                y, x = todo.pop()
                cells.append((y, x))
                for ny in range(max(y - 1, 0), min(y + 2, h)):
                    for nx in range(max(x - 1, 0), min(x + 2, w)):
                        if strong[ny, nx] and not seen[ny, nx]:
                            seen[ny, nx] = True
                            todo.append((ny, nx))
            ys, xs = zip(*cells, strict=True)
            mask[min(ys) : min(max(ys) + 1, h - 1), min(xs) : min(max(xs) + 1, w - 1)] = 1
    return mask if mask.any() else np.ones((h, w))


def naive_maps(unet, latents, t, text, positions, cross_blocks, self_block, iterations, box=None):
    """Both maps of each sample from hooks on the projections of an ordinary forward pass."""
    blocks = UNet(unet).blocks
    seen = {}

    def keep(name):
        return lambda module, inputs, output: seen.__setitem__(name, output.double().numpy())

    hooks = [
        getattr(attention, projection).register_forward_hook(keep((*block, projection)))
        for block, (attention, *_) in blocks.items()
        for projection in ("to_q", "to_k")
    ]
    with torch.no_grad():
        unet(latents, t, encoder_hidden_states=text)
    for hook in hooks:
        hook.remove()

    def matrix(i: int, role: str, sample: int) -> np.ndarray:
        heads = blocks[i, role].module.heads
        query, key = (seen[i, role, p][sample] for p in ("to_q", "to_k"))
        width = query.shape[1] // heads
        total = 0
        for head in range(heads):
            part = slice(head * width, (head + 1) * width)
            scores = query[:, part] @ key[:, part].T / np.sqrt(width)
            weights = np.exp(scores - scores.max(1, keepdims=True))
            total = total + weights / weights.sum(1, keepdims=True)
        return total / heads

    def grid(cells: int) -> tuple[int, int]:
        h, w = latents.shape[-2:]
        return next(
            (-(-h // 2**i), -(-w // 2**i))
            for i in range(4)
            if -(-h // 2**i) * -(-w // 2**i) == cells
        )

    results = []
    for sample, classes in enumerate(positions):
        affinity = matrix(self_block, "self", sample)
        h, w = grid(len(affinity))
        crosses, spreads = [], []
        for tokens in classes:
            layers = []
            for i in cross_blocks:
                tokens_map = matrix(i, "cross", sample)
                chosen = sum(tokens_map[:, token] for token in tokens) / len(tokens)
                layers.append(naive_bilinear(chosen.reshape(grid(len(chosen))), (h, w)))
            cross = sum(layers) / len(layers)
            seed = cross
            if box is not None:
                seed = (cross - cross.min()) / (cross.max() - cross.min())
                seed = seed * naive_box_mask(seed.astype(np.float32), box)
            power = np.linalg.matrix_power(affinity, iterations)
            crosses.append(cross)
            spreads.append((power @ seed.ravel()).reshape(h, w))
        results.append((np.stack(crosses), np.stack(spreads)))
    return results


@pytest.mark.parametrize("size", [(16, 16), (24, 16), (10, 14)], ids=str)
@pytest.mark.parametrize("noises", [1, 3])
@pytest.mark.parametrize("box", [None, 0.2], ids=["paper", "box"])
def test_maps_equal_a_naive_computation(unet, size, noises, box):
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(noises, 4, *size, generator=generator)
    text = torch.randn(1, WINDOW, WIDTH, generator=generator).expand(noises, -1, -1)
    positions = [[[4], [6, 7, 8]]] * noises
    ours = attention_maps(unet, latents, 150, text, positions, box_threshold=box)
    naive = naive_maps(unet, latents, 150, text, positions, (4, 5, 6, 7, 8), 11, 2, box)
    for maps, (cross, selfcross) in zip(ours, naive, strict=True):
        assert maps.cross.shape == maps.selfcross.shape == cross.shape
        for mine, theirs in ((maps.cross, cross), (maps.selfcross, selfcross)):
            scale = np.abs(theirs).max()
            np.testing.assert_allclose(mine.numpy() / scale, theirs / scale, atol=1e-4)
    mean_mine = torch.stack([min_max(maps.selfcross) for maps in ours]).mean(0)
    mean_naive = sum(
        (s - s.min((1, 2), keepdims=True)) / np.ptp(s, axis=(1, 2), keepdims=True) for _, s in naive
    ) / len(naive)
    np.testing.assert_allclose(mean_mine.numpy(), mean_naive, atol=1e-4)


def test_cross_blocks_after_the_self_block_and_other_iterations(unet):
    latents, text = torch.randn(1, 4, 16, 16), torch.randn(1, WINDOW, WIDTH)
    options = {"cross_blocks": (2, 15), "self_block": 4}
    for iterations in (0, 1, 3):
        (ours,) = attention_maps(
            unet, latents, 500, text, [[[3, 5]]], iterations=iterations, **options
        )
        ((_, naive),) = naive_maps(unet, latents, 500, text, [[[3, 5]]], (2, 15), 4, iterations)
        np.testing.assert_allclose(ours.selfcross, naive, atol=1e-4 * naive.max())


def test_samples_with_different_numbers_of_classes_do_not_mix(unet):
    generator = torch.Generator().manual_seed(2)
    latents = torch.randn(2, 4, 16, 16, generator=generator)
    text = torch.randn(2, WINDOW, WIDTH, generator=generator)
    together = attention_maps(unet, latents, 150, text, [[[2]], [[3], [4], [5]]])
    alone = attention_maps(unet, latents[1:], 150, text[1:], [[[3], [4], [5]]])[0]
    assert together[0].cross.shape[0] == 1 and together[1].cross.shape[0] == 3
    torch.testing.assert_close(together[1].selfcross, alone.selfcross, atol=1e-6, rtol=1e-4)


def test_the_pass_stops_after_the_last_watched_block_and_leaves_no_trace(unet):
    before = unet.attn_processors
    late = []
    hook = UNet(unet).blocks[12, "self"].module.register_forward_hook(lambda *_: late.append(1))
    attention_maps(unet, torch.randn(1, 4, 16, 16), 150, torch.randn(1, WINDOW, WIDTH), [[[1]]])
    hook.remove()
    assert not late
    assert unet.attn_processors == before


def test_affinity_rows_sum_to_one_and_propagate_like_the_matrix(unet):
    (maps,) = attention_maps(
        unet, torch.randn(1, 4, 16, 16), 150, torch.randn(1, WINDOW, WIDTH), [[[1], [2]]],
        with_affinity=True,
    )  # fmt: skip
    torch.testing.assert_close(maps.affinity.sum(1), torch.ones(64))
    expected = (maps.affinity @ maps.affinity @ maps.cross.flatten(1).T).T
    torch.testing.assert_close(maps.selfcross.flatten(1), expected, atol=1e-6, rtol=1e-4)


def test_more_classes_than_the_width_of_a_head_propagate():
    query, key = torch.randn(1, 2, 9, 4), torch.randn(1, 2, 9, 4)
    maps = torch.rand(1, 9, 11)
    affinity = (query @ key.transpose(-1, -2) / 2).softmax(-1).mean(1)
    torch.testing.assert_close(
        propagate([SelfInputs(query, key)], maps, 2), affinity @ affinity @ maps
    )


def test_flat_maps_propagate_in_half_precision_as_well():
    """A map between 0.50 and 0.51, of which bfloat16 keeps two or three values."""
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 4, 64, 8)
    maps = 0.5 + 0.01 * torch.rand(1, 64, 3)
    exact = (query.double() @ key.double().transpose(-1, -2) / 8**0.5).softmax(-1).mean(1)
    expected = (exact @ exact @ maps.double())[0].T
    half = SelfInputs(query.bfloat16(), key.bfloat16())
    ours = propagate([half], maps, 2)[0].T.double()
    spread = expected.amax(1) - expected.amin(1)
    assert ((ours - expected).abs().amax(1) < 0.1 * spread).all()


def test_min_max_may_leave_out_cells():
    maps = torch.tensor([[[2.0, 4.0, 9.0], [3.0, 6.0, -5.0]]])
    inside = torch.tensor([[True, True, False], [True, True, False]])
    assert min_max(maps, inside).tolist() == [[[0.0, 0.5, 1.0], [0.25, 1.0, 0.0]]]


def test_min_max_of_a_constant_map_is_zero_not_nan():
    maps = torch.stack([torch.full((3, 3), 0.7), torch.arange(9.0).view(3, 3)])
    scaled = min_max(maps)
    assert not scaled[0].any() and scaled[1].min() == 0 and scaled[1].max() == 1


def test_a_block_the_unet_lacks_is_refused_with_the_list(unet):
    assert UNet(unet).description == (
        "0-1: 1/1 encoder, 2-3: 1/2 encoder, 4-5: 1/4 encoder, 6: 1/8 middle, 7-9: 1/4 decoder, "
        "10-12: 1/2 decoder, 13-15: 1/1 decoder"
    )
    assert UNet(unet).default_blocks == ((4, 5, 6, 7, 8), 11)
    with pytest.raises(UserError, match=r"\[16\].*0 to 15.*10-12: 1/2"):
        attention_maps(
            unet,
            torch.randn(1, 4, 16, 16),
            1,
            torch.randn(1, WINDOW, WIDTH),
            [[[1]]],
            self_block=16,
        )


def test_a_class_only_in_the_last_row_keeps_its_map_and_is_reported():
    maps = torch.zeros(2, 6, 6)
    maps[0, 5, 2] = 1  # its box is clamped to nothing
    maps[1, 2, 2] = 1
    boxes, empty = box_mask(maps, 0.2)
    assert empty == [0] and boxes[0].all()
    assert boxes[1].sum() == 1 and boxes[1, 2, 2] == 1


def test_blocks_are_found_by_where_they_are(unet):
    model = UNet(unet)

    def numbers(*names):
        return [[block.number for block in blocks] for blocks in model.select(*names)]

    assert numbers(["1/4", "1/8"], "1/2 decoder") == [[4, 5, 7, 8, 9, 6], [10, 11, 12]]
    assert numbers(["middle", 4, "1/4 encoder"], ["1/1", 13]) == [[6, 4, 5], [0, 1, 13, 14, 15]]
    assert numbers(["decoder"], None) == [[*range(7, 16)], []]
    assert [block.role for block in model.select([4], "1/2")[1]] == ["self"] * 5
    with pytest.raises(
        UserError, match=r"\['1/8 decoder', '1/16'\]: this model has .*6: 1/8 middle"
    ):
        model.select(["1/4", "1/8 decoder"], "1/16")
    with pytest.raises(UserError, match="several grids .9: 1/4 decoder, 10: 1/2 decoder"):
        model.select([4], [9, 10])


def test_several_self_blocks_propagate_by_the_mean_of_their_matrices(unet):
    latents, t, text = (
        torch.randn(2, 4, 16, 12),
        torch.tensor([20, 150]),
        torch.randn(2, WINDOW, WIDTH),
    )
    positions = [[[1, 2], [5]], [[3]]]
    given, blocks = (unet, latents, t, text, positions), (10, 11, 12)
    alone = [naive_maps(*given, (4, 6), block, 1) for block in blocks]  # the same seeds in each
    found = attention_maps(*given, cross_blocks=(4, 6), self_block="1/2 decoder", iterations=1)
    for i, maps in enumerate(found):
        mean = np.mean([results[i][1] for results in alone], 0)
        assert np.allclose(maps.cross, alone[0][i][0], atol=1e-5)
        assert np.allclose(maps.selfcross, mean, atol=1e-5)
    twice = attention_maps(
        *given, cross_blocks=(4, 6), self_block=list(blocks), iterations=2, with_affinity=True,
        with_record=True,
    )  # fmt: skip
    for once, maps in zip(found, twice, strict=True):
        seed = maps.cross.flatten(1).T
        assert torch.allclose((maps.affinity @ seed).T, once.selfcross.flatten(1), atol=1e-6)
        expected = (maps.affinity @ maps.affinity @ seed).T
        assert torch.allclose(expected, maps.selfcross.flatten(1), atol=1e-6)
        assert torch.equal(maps.record.selfcross(2), maps.selfcross)
        row = maps.record.attended(17).flatten()
        assert torch.allclose(row, maps.affinity[17], atol=1e-6)


def test_the_entropy_of_self_attention_is_reduced_as_iseg_does(unet):
    torch.manual_seed(0)
    given = unet, torch.randn(1, 4, 16, 16), 100, torch.randn(1, WINDOW, WIDTH), [[[1], [2, 3]]]
    (plain,) = attention_maps(*given, iterations=3, with_affinity=True)
    (maps,) = attention_maps(*given, iterations=3, entropy_step=0.3, with_record=True)
    matrix = plain.affinity.double().numpy().copy()
    count = len(matrix)
    for key in range(count):
        top = max(matrix[query][key] for query in range(count))
        for query in range(count):
            share = matrix[query][key] / top
            matrix[query][key] = max(0, share + 0.3 * np.log10(np.e * share))
    assert (matrix == 0).mean() > 0.05  # something vanishes
    matrix /= matrix.sum(1, keepdims=True)
    expected = plain.cross.flatten(1).double().numpy() @ np.linalg.matrix_power(matrix, 3).T
    assert np.allclose(maps.selfcross.flatten(1), expected, atol=1e-6)
    assert torch.equal(maps.record.selfcross(3), maps.selfcross)


def test_a_response_of_zero_stays_zero_when_entropy_is_reduced():
    affinity = torch.tensor([[[1.0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5]]])
    reduced = with_less_entropy(affinity, 0.015)
    assert reduced.isfinite().all() and (reduced[affinity == 0] == 0).all()
    assert torch.allclose(reduced.sum(-1), torch.ones(1, 3))
