"""Resizing to exact sizes, padding, and the inverse of both."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attnseg.core.geometry import (
    PADDING,
    Fit,
    model_input,
    native_fit,
    official_fit,
    own_fit,
    to_photo,
)


@pytest.mark.parametrize(
    "size, content, padded",
    [
        ((375, 500), (576, 768), (576, 768)),
        ((500, 375), (768, 576), (768, 576)),
        ((333, 500), (554, 832), (576, 832)),
        ((500, 500), (704, 704), (704, 704)),
        ((281, 500), (504, 896), (512, 896)),
        ((250, 500), (480, 960), (512, 960)),
        ((200, 500), (410, 1024), (448, 1024)),
    ],
    ids=str,
)
def test_official_sizes(size, content, padded):
    assert official_fit(*size) == Fit(content, padded)


def test_padding_is_right_and_bottom_in_the_mean_colour():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    pixels = model_input(image, own_fit(20, 30, 16))
    assert pixels.shape == (3, 32, 32)
    back = ((pixels + 1) * 127.5).permute(1, 2, 0).numpy()
    np.testing.assert_allclose(back[:20, :30], image, atol=1e-3)
    np.testing.assert_allclose(back[20:], np.broadcast_to(PADDING, (12, 32, 3)), atol=1e-3)
    np.testing.assert_allclose(back[:, 30:], np.broadcast_to(PADDING, (32, 2, 3)), atol=1e-3)


def test_the_way_back_leaves_the_padding_out():
    """A ramp over the padded input is the same ramp over the photo, cut where the photo ends."""
    fit = Fit((48, 64), (64, 64))
    ramp = ((torch.arange(16) + 0.5) / 16 * 64).view(1, 16, 1).expand(1, 16, 16).contiguous()
    photo = to_photo(ramp, fit, (96, 128))  # twice the content
    expected = (torch.arange(96) + 0.5) / 2
    inner = slice(4, -4)  # away from the clamped border
    torch.testing.assert_close(photo[0, inner, 5], expected[inner])


def test_without_padding_the_way_back_is_bilinear():
    maps = torch.rand(3, 12, 16)
    fit = official_fit(375, 500)
    expected = F.interpolate(maps[None], (375, 500), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(to_photo(maps, fit, (375, 500)), expected)


def test_padding_code_and_plain_code_agree_where_both_apply():
    maps = torch.rand(2, 8, 8)
    plain = to_photo(maps, Fit((64, 64), (64, 64)), (100, 100))
    almost = to_photo(maps, Fit((64, 64), (64, 65)), (100, 100))
    assert (plain - almost).abs().max() < 0.15
    assert plain.shape == almost.shape


def test_native_size_has_the_models_long_side():
    assert native_fit(400, 300, 64, 16) == Fit((64, 48), (64, 48))
    assert native_fit(64, 64, 64, 16) == Fit((64, 64), (64, 64))
