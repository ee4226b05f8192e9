"""The recorder of attention: its records are exact, and the forward pass and the model stay unchanged."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import FluxTransformer2DModel, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor

from attnseg.backbones import load_backbone
from attnseg.backbones.capture import record
from attnseg.backbones.interface import Text
from attnseg.backbones.stable_diffusion import UNet

MINI = Path(__file__).resolve().parents[2] / "assets" / "mini_sd"
BLOCKS = [(5, "cross"), (6, "cross"), (7, "self")]


@pytest.fixture(scope="module", params=["mini", "random SD 1.x"])
def model(request, tiny_sd):
    return load_backbone(MINI if request.param == "mini" else tiny_sd, device="cpu")


@pytest.fixture
def inputs(model):
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(2, *model.latent_shape(model.size), generator=generator)
    with torch.no_grad():
        return latents, 150, model.encode_text(["a dog on the grass", "two cats"])


def hooks_of(model) -> int:
    modules = model.unet.modules()
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in modules)


@torch.no_grad()
def test_a_recorded_pass_is_the_plain_one_to_the_bit(model, inputs):
    plain, everything = model.denoise(*inputs), list(model.blocks)
    for values in (False, True):
        with model.record(everything, stop=False, values=values) as seen:
            recorded = model.denoise(*inputs)
        assert torch.equal(recorded, plain) and list(seen) == everything
    assert torch.equal(model.denoise(*inputs), plain)


@torch.no_grad()
def test_what_is_seen_enters_and_leaves_the_softmax(model, inputs):
    """Against the projections' outputs, head by head, and the plain formula."""
    kept = {}
    handles = [
        getattr(model.blocks[block].module, name).register_forward_hook(
            lambda *a, key=(block, name): kept.update({key: a[2]})
        )
        for block in BLOCKS
        for name in ("to_q", "to_k", "to_v")
    ]
    with model.record(BLOCKS, stop=False, values=True) as seen:
        model.denoise(*inputs)
    for handle in handles:
        handle.remove()
    for block in BLOCKS:
        one, heads = seen[block], model.blocks[block].module.heads
        for mine, name in ((one.query, "to_q"), (one.key, "to_k"), (one.value, "to_v")):
            width = kept[block, name].shape[-1] // heads
            for head in range(heads):
                part = kept[block, name][..., head * width : (head + 1) * width]
                assert torch.equal(mine[:, head], part)
        weights = (one.query @ one.key.transpose(-1, -2) / width**0.5).softmax(-1)
        torch.testing.assert_close(one.output, weights @ one.value, rtol=1e-4, atol=1e-5)
        assert one.mask is None


@torch.no_grad()
def test_a_stopped_pass_sees_the_same_and_ends_after_the_last_block(model, inputs):
    with model.record(BLOCKS, stop=False) as expected:
        model.denoise(*inputs)
    late = []
    handle = model.blocks[7, "cross"].module.register_forward_hook(lambda *_: late.append(1))
    with model.record(BLOCKS) as seen:
        model.denoise(*inputs)
        late.append("the block goes on")
    handle.remove()
    assert not late
    for block in BLOCKS:
        assert torch.equal(seen[block].query, expected[block].query)
        assert torch.equal(seen[block].key, expected[block].key) and seen[block].output is None


@pytest.mark.parametrize("stop", [True, False])
def test_nothing_is_left_whatever_happens(model, inputs, stop):
    before, processors = hooks_of(model), model.unet.attn_processors

    def fail(*_):
        raise KeyboardInterrupt

    handle = model.blocks[6, "self"].module.to_q.register_forward_hook(fail)
    with pytest.raises(KeyboardInterrupt), model.record(BLOCKS, stop=stop) as seen:
        model.denoise(*inputs)
    handle.remove()
    assert list(seen) == BLOCKS[:1]
    assert hooks_of(model) == before and model.unet.attn_processors == processors
    assert torch._C._len_torch_function_stack() == 0
    with torch.no_grad():
        model.denoise(*inputs)
    assert list(seen) == BLOCKS[:1]


@torch.no_grad()
def test_attention_that_is_computed_by_hand_is_named_and_not_missed(tiny_sd):
    model = load_backbone(tiny_sd, device="cpu")
    model.blocks[6, "cross"].module.set_processor(AttnProcessor())
    with (
        pytest.raises(RuntimeError, match=r"6.*cross.*AttnProcessor .*scaled_dot_product"),
        model.record(BLOCKS),
    ):
        model.denoise(torch.randn(1, 4, 16, 16), 1, model.encode_text(["a dog"]))


@torch.no_grad()
def test_several_transformer_blocks_a_place_are_numbered_in_order():
    """SDXL's topology: none at the latent's own grid, several at the others."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(16, 32), norm_num_groups=8, layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), attention_head_dim=(2, 4),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=16,
        transformer_layers_per_block=(1, 3), use_linear_projection=True,
    )  # fmt: skip
    model = UNet(unet.eval())
    assert model.description == "0-2: 1/2 encoder, 3-5: 1/2 middle, 6-11: 1/2 decoder"
    latents, text = torch.randn(1, 4, 16, 16), Text(torch.randn(1, 5, 16))
    with model.record(model.blocks, stop=False) as seen:
        model.denoise(latents, 1, text)
    assert list(seen) == list(model.blocks)
    assert all(one.query.shape[2] == 64 for one in seen.values())


@torch.no_grad()
def test_joint_attention_of_a_transformer_is_seen():
    """Flux calls through diffusers' dispatch, after norms and rotary embedding."""
    torch.manual_seed(0)
    network = FluxTransformer2DModel(
        patch_size=1, in_channels=4, num_layers=1, num_single_layers=1, attention_head_dim=16,
        num_attention_heads=2, joint_attention_dim=32, pooled_projection_dim=32,
        axes_dims_rope=[4, 4, 8],
    ).eval()  # fmt: skip
    inputs = {
        "hidden_states": torch.randn(1, 64, 4), "encoder_hidden_states": torch.randn(1, 20, 32),
        "pooled_projections": torch.randn(1, 32), "timestep": torch.tensor([0.5]),
        "img_ids": torch.zeros(64, 3), "txt_ids": torch.zeros(20, 3),
    }  # fmt: skip
    plain = network(**inputs).sample
    modules = {
        0: network.transformer_blocks[0].attn,
        1: network.single_transformer_blocks[0].attn,
    }
    with record(modules, stop=False, values=True) as seen:
        assert torch.equal(network(**inputs).sample, plain)
    for one in seen.values():
        assert one.query.shape == one.key.shape == (1, 2, 84, 16)
        expected = F.scaled_dot_product_attention(one.query, one.key, one.value)
        torch.testing.assert_close(one.output, expected)
