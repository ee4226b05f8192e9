"""Baselines that compare pictures."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import ViTConfig, ViTModel

from attnseg.errors import UserError
from attnseg.personalised.descriptors import (
    DinoFeatures,
    box_of,
    dense_similarity,
    inside,
    load_dino,
    pooled_similarity,
)


def cells(seed: int, count: int = 6) -> torch.Tensor:
    values = torch.randn(8, count, generator=torch.Generator().manual_seed(seed))
    return F.normalize(values, dim=0)


def test_similarities_are_those_of_plain_loops():
    subject, region = [cells(0), cells(1, 3)], cells(2, 5)
    best = [max(float(k @ r) for k in torch.cat(subject, 1).T) for r in region.T]
    assert dense_similarity(subject, region) == pytest.approx(np.mean(best), abs=1e-6)
    means = [F.cosine_similarity(s.mean(1), region.mean(1), dim=0) for s in subject]
    assert pooled_similarity(subject, region) == pytest.approx(float(np.mean(means)), abs=1e-6)


def test_a_region_is_most_like_itself():
    region, other = cells(0), cells(5)
    for similarity in (dense_similarity, pooled_similarity):
        assert similarity([region], region) == pytest.approx(1, abs=1e-5)
        assert similarity([region], other) < 0.9


def test_cells_inside_a_mask_are_taken_and_a_small_mask_has_one():
    features = torch.arange(16.0).view(1, 4, 4)
    mask = np.zeros((16, 16), bool)
    mask[4:12, 8:16] = True
    assert inside(features, mask)[0].tolist() == [6, 7, 10, 11]
    mask[:] = False
    mask[5, 5] = True
    assert inside(features, mask)[0].tolist() == [5]


def test_a_box_encloses_its_mask():
    mask = np.zeros((10, 12), bool)
    mask[2, 3] = mask[6, 8] = True
    box = box_of(mask)
    assert box[2:7, 3:9].all() and box.sum() == 30
    assert not box_of(np.zeros((4, 4), bool)).any()


def test_dino_features_are_the_keys_of_a_layer_and_saliency_the_attention_of_the_class_token():
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16, image_size=32,
        patch_size=8, attn_implementation="eager",
    )  # fmt: skip
    model = ViTModel(config, add_pooling_layer=False).eval()
    image = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)
    features = DinoFeatures(model, layer=1, side=32)
    found = features(image)
    assert found.shape == (16, 4, 6) and features.saliency.shape == (4, 6)
    torch.testing.assert_close(found.norm(dim=0), torch.ones(4, 6))
    pixels = torch.from_numpy(image / 255.0).permute(2, 0, 1)[None].float()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    pixels = (pixels - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)
    with torch.no_grad():
        out = model(
            pixels, interpolate_pos_encoding=True, output_attentions=True, output_hidden_states=True
        )
        block = model.layers[1]
        keys = block.attention.k_proj(block.layernorm_before(out.hidden_states[1]))[0, 1:]
    torch.testing.assert_close(found.flatten(1).T, F.normalize(keys, dim=1), atol=1e-4, rtol=1e-4)
    expected = out.attentions[-1][0].mean(0)[0, 1:]
    torch.testing.assert_close(features.saliency.flatten(), expected, atol=1e-5, rtol=1e-4)
    with pytest.raises(UserError, match="layers 0 to 2, not 9"):
        DinoFeatures(model)


def test_a_folder_without_a_vit_is_named(tmp_path):
    with pytest.raises(UserError, match="no ViT can be loaded"):
        load_dino(str(tmp_path))
