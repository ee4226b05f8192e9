"""The segmentor's network, and the files that its backbone starts from."""

import numpy as np
import pytest
import torch
from tiny_segmentor import TINY

from attnseg.errors import UserError
from attnseg.segmentation import architecture
from attnseg.segmentation.model import build_model, load_pretrained
from attnseg.settings import read_segmentor

pytestmark = pytest.mark.usefixtures("one_thread")


def test_deeplabv2_head_is_the_sum_of_four_dilated_classifiers():
    torch.manual_seed(0)
    rates = (6, 12, 18, 24)
    loss = {"type": "CrossEntropyLoss", "avg_non_ignore": True}
    head = architecture.DeepLabV2Head(
        dilations=rates, in_channels=5, num_classes=3, in_index=0, loss_decode=loss
    ).double()
    assert sorted(name.split(".")[0] for name, _ in head.named_parameters()) == ["classifiers"] * 8
    features = torch.randn(1, 5, 41, 37, dtype=torch.double)
    with torch.no_grad():
        logits = head([features])[0].numpy()
    # by the definition, a pixel at a time: taps outside the features count as zero
    for y, x in [(0, 0), (20, 18), (40, 36), (7, 30)]:
        expected = np.zeros(3)
        for rate, classifier in zip(rates, head.classifiers, strict=True):
            expected += classifier.bias.detach().numpy()
            for i in range(3):
                for j in range(3):
                    v, u = y + (i - 1) * rate, x + (j - 1) * rate
                    if 0 <= v < 41 and 0 <= u < 37:
                        tap = classifier.weight[:, :, i, j].detach().numpy()
                        expected += tap @ features[0, :, v, u].numpy()
        np.testing.assert_allclose(logits[:, y, x], expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("stem", "stride", "architecture"),
    [
        ("imagenet", 8, "deeplabv2"),
        ("imagenet", 16, "deeplabv3plus"),
        ("small", 4, "deeplabv2"),
        ("small", 8, "deeplabv3plus"),
    ],
)
def test_features_have_the_output_stride(stem, stride, architecture):
    settings = read_segmentor(
        {**TINY, "stem": stem, "output_stride": stride, "architecture": architecture}
    )
    model = build_model(settings, 21).eval()
    with torch.no_grad():
        features = model.extract_feat(torch.zeros(1, 3, 64, 96))
        logits = model.logits(torch.zeros(1, 3, 64, 96))
    assert features[-1].shape[2:] == (64 // stride, 96 // stride)
    assert logits.shape[:2] == (1, 21)


def test_backbone_weights_are_taken_by_torchvisions_names(tmp_path):
    settings = read_segmentor({**TINY, "stem": "imagenet"})
    torch.manual_seed(1)
    source = build_model(settings, 21).backbone.state_dict()
    torch.save({**source, "fc.weight": torch.zeros(3)}, tmp_path / "resnet.pth")
    model = build_model(settings, 21)
    load_pretrained(model, str(tmp_path / "resnet.pth"))
    assert all(
        torch.equal(value, source[key]) for key, value in model.backbone.state_dict().items()
    )
    source.pop("layer3.1.conv2.weight")
    torch.save(source, tmp_path / "partial.pth")
    with pytest.raises(UserError, match="layer3.1.conv2.weight and 0 more of the backbone"):
        load_pretrained(model, str(tmp_path / "partial.pth"))


def caffe_names(state: dict) -> dict:
    """A backbone's weights under the names of kazuto1011's conversions, for BGR."""
    found = {}
    for name, values in state.items():
        *place, module, rest = name.split(".")
        if not place:  # the stem
            kind = module.rstrip("1")
            found[f"layer1.conv1.{kind}.{rest}"] = (
                values[:, [2, 1, 0]] if kind == "conv" else values
            )
            continue
        block = f"layer{int(place[0][-1]) + 1}.block{int(place[1]) + 1}"
        if place[-1] == "downsample":
            branch, kind = "proj", ("conv", "bn")[int(module)]
        else:
            branch = ("reduce", "conv3x3", "increase")[int(module[-1]) - 1]
            kind = module[:-1]
        found[f"{block}.{branch}.{kind}.{rest}"] = values
    return found


def test_caffe_s_weights_fill_a_backbone_with_its_strides(tmp_path):
    settings = read_segmentor(
        {**TINY, "backbone": "resnet50", "stem": "imagenet", "style": "caffe"}
    )
    torch.manual_seed(1)
    source = build_model(settings, 21)
    first = source.backbone.layer2[0]
    assert (first.conv1.stride, first.conv2.stride) == ((2, 2), (1, 1))
    # 36 pixels, 18 after the stem; of 3x3 windows, 9 without and 10 with the last that is partly outside
    assert source.backbone.maxpool(torch.zeros(1, 1, 18, 18)).shape[2:] == (10, 10)
    weights = caffe_names(source.backbone.state_dict())
    torch.save({**weights, "aspp.c0.weight": torch.zeros(3)}, tmp_path / "caffe.pth")
    model = build_model(settings, 21)
    load_pretrained(model, str(tmp_path / "caffe.pth"))
    for key, value in source.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[key], value), key
    # photos are RGB with the means subtracted, and nothing else
    preprocessor = model.data_preprocessor
    assert preprocessor.mean.flatten().tolist() == pytest.approx([122.675, 116.669, 104.008])
    assert preprocessor.std.flatten().tolist() == [1, 1, 1]

    weights.pop("layer3.block2.increase.conv.weight")
    torch.save(weights, tmp_path / "partial.pth")
    with pytest.raises(
        UserError, match="layer2.1.conv3.weight and 0 more of the backbone are absent"
    ):
        load_pretrained(model, str(tmp_path / "partial.pth"))
    plain = build_model(settings.but(style="pytorch"), 21)
    for wrong, file in ((plain, "caffe.pth"), (model, "torchvision.pth")):
        torch.save(source.backbone.state_dict(), tmp_path / "torchvision.pth")
        with pytest.raises(UserError, match="more of the backbone are absent .* and style"):
            load_pretrained(wrong, str(tmp_path / file))


def test_a_deep_stem_and_contracted_dilation_take_openmmlab_s_checkpoint(tmp_path):
    """Three 3x3 and a dilated stage's first block at the former dilation, as in its ResNetV1c."""
    values = {**TINY, "stem": "deep", "contract_dilation": True, "output_stride": 8}
    model = build_model(read_segmentor(values), 21)
    layer4 = model.backbone.layer4
    assert [block.conv1.dilation[0] for block in layer4] == [2, 4]
    source = {k: torch.full_like(v, 2) for k, v in model.backbone.state_dict().items()}
    assert "stem.6.weight" in source
    torch.save({"state_dict": source, "meta": {}}, tmp_path / "v1c.pth")
    load_pretrained(model, str(tmp_path / "v1c.pth"))
    assert all((v == 2).all() for v in model.backbone.state_dict().values())
