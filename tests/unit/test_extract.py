"""Extraction: results that do not depend on batches, shards or order; skips; noises."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel

from attnseg.backbones import load_backbone
from attnseg.datasets import load
from attnseg.errors import UserError
from attnseg.io.shards import members, problem_with, read_shards, write_shard
from attnseg.settings import ExtractionJob
from attnseg.text2mask.extract import (
    Sample,
    extract,
    queries_of,
    query_maps,
    sample_noise,
    views_of,
)
from attnseg.text2mask.options import Options, options_of
from attnseg.text2mask.stages import stages_of

OPTIONS = Options(noises=2, resize="none")


def photos(count: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    labels = [["dog"], ["dog", "cat"], [], ["bird", "sheep", "horse"]]
    sizes = [(64, 64), (64, 64), (64, 64), (48, 80)]
    return [
        Sample(f"p{i}", rng.integers(0, 256, (*sizes[i % 4], 3), np.uint8), labels[i % 4])
        for i in range(count)
    ]


def test_batch_size_and_order_do_not_change_the_maps(sharp_backbone):
    samples = photos(8)
    one, _ = extract(sharp_backbone, samples, OPTIONS, batch_size=1)
    many, _ = extract(sharp_backbone, samples[::-1], OPTIONS, batch_size=5)
    assert one.keys() == many.keys()
    for name, maps in one.items():
        torch.testing.assert_close(maps.float(), many[name].float(), atol=2e-3, rtol=0)


def test_several_noises_are_the_mean_of_single_ones(sharp_backbone, monkeypatch):
    (sample,) = photos(1)
    two, _ = extract(sharp_backbone, [sample], OPTIONS)
    singles = []
    for shift in range(2):
        monkeypatch.setattr(
            "attnseg.text2mask.extract.sample_noise",
            lambda shape, seed, i, n, shift=shift: sample_noise(
                shape, seed, i, n if n == "latent" else n + shift
            ),
        )
        singles.append(extract(sharp_backbone, [sample], Options(noises=1, resize="none"))[0])
    for name, maps in two.items():
        mean = sum(single[name].float() for single in singles) / 2
        torch.testing.assert_close(maps.float(), mean, atol=2e-3, rtol=0)


def test_noise_depends_on_every_name_and_on_nothing_else():
    draw = sample_noise((4, 8, 8), 0, "2007_000032", 3)
    torch.testing.assert_close(draw, sample_noise((4, 8, 8), 0, "2007_000032", 3))
    for other in ((1, "2007_000032", 3), (0, "2007_000033", 3), (0, "2007_000032", 4)):
        assert not torch.equal(draw, sample_noise((4, 8, 8), *other))


def test_a_photo_without_labels_has_no_maps_and_is_no_error(sharp_backbone):
    tensors, items = extract(sharp_backbone, photos(3), OPTIONS)
    assert [item["id"] for item in items] == ["p0", "p1", "p2"]
    assert items[2]["classes"] == [] and not any(name.startswith("p2/") for name in tensors)


def test_version_2_s_layout_is_extracted(tiny_sd, tmp_path):
    """Linear projections, wider levels with more heads, prediction of the velocity."""
    folder = shutil.copytree(tiny_sd, tmp_path / "v2")
    config = json.loads((folder / "unet" / "config.json").read_text())
    config |= {"use_linear_projection": True, "attention_head_dim": [2, 4, 8, 8]}
    shutil.rmtree(folder / "unet")
    torch.manual_seed(0)
    UNet2DConditionModel.from_config(config).save_pretrained(folder / "unet")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    values = json.loads(scheduler.read_text()) | {"prediction_type": "v_prediction"}
    scheduler.write_text(json.dumps(values))
    backbone = load_backbone(folder, device="cpu")
    tensors, _ = extract(backbone, photos(2), OPTIONS)
    assert tensors["p1/selfcross"].shape == (2, 8, 8) and tensors["p1/selfcross"].isfinite().all()
    blocks = "6: 1/8 middle, 7-9: 1/4 decoder, 10-12: 1/2 decoder, 13-15: 1/1 decoder"
    for chosen in (([4, 16], 11), ([16],)):
        with pytest.raises(UserError, match=r"\[16\]: this model has blocks 0 to 15") as refused:
            backbone.select(*chosen)
        assert blocks in str(refused.value)


def test_emphasis_multiplies_the_encoded_tokens_of_classes(sharp_backbone):
    (sample,) = photos(4)[1:2]
    (view,) = views_of(sharp_backbone, [sample], OPTIONS)
    ((_, query),) = queries_of(sharp_backbone, sample.classes, OPTIONS)
    positions = sharp_backbone.token_positions(query)

    def edit(hidden, _):
        factors = torch.ones(len(hidden), 1)
        factors[sum(positions, [])] = 1.6
        return hidden * factors

    (expected,) = query_maps(sharp_backbone, [(view, query)], OPTIONS, edit=edit)
    emphasised = OPTIONS.but(query={"emphasis": 1.6})
    (found,) = query_maps(sharp_backbone, [(view, query)], emphasised)
    (plain,) = query_maps(sharp_backbone, [(view, query)], OPTIONS)
    assert torch.equal(found.kinds["cross"], expected.kinds["cross"])
    assert not torch.allclose(found.kinds["cross"], plain.kinds["cross"], atol=1e-3)


def test_separate_queries_give_each_class_its_own_pass(sharp_backbone):
    sample = photos(2)[1]
    separate, _ = extract(
        sharp_backbone, [sample], Options(noises=1, resize="none", query={"composed": False})
    )
    alone, _ = extract(
        sharp_backbone, [Sample(sample.id, sample.image, ["cat"])], Options(noises=1, resize="none")
    )
    torch.testing.assert_close(
        separate["p1/selfcross"][1].float(), alone["p1/selfcross"][0].float(), atol=2e-3, rtol=0
    )


def test_padding_counts_in_the_official_profile_alone(sharp_backbone, monkeypatch):
    from attnseg.text2mask import extract as module

    real = module.attention_maps

    def strong_padding(*args, **options):
        results = real(*args, **options)
        for maps in results:
            maps.selfcross[:] = torch.arange(8.0)[:, None] * torch.ones(8)
        return results

    monkeypatch.setattr(module, "attention_maps", strong_padding)
    photo = np.zeros((40, 64, 3), np.uint8)  # 5 of the 8 rows of cells; 24 rows of padding
    for profile, strongest in (("paper", 1.0), ("official", 4 / 7)):
        options = Options(noises=1, resize="none", profile=profile)
        tensors, _ = extract(sharp_backbone, [Sample("p", photo, ["dog"])], options)
        assert float(tensors["p/selfcross"][:, :5].max()) == pytest.approx(strongest, abs=1e-3)


def test_a_constant_map_counts_as_zero_and_is_listed(sharp_backbone, monkeypatch):
    from attnseg.text2mask import extract as module

    real = module.attention_maps

    def flat(*args, **options):
        results = real(*args, **options)
        for maps in results:
            maps.selfcross[0] = 0.25
        return results

    monkeypatch.setattr(module, "attention_maps", flat)
    tensors, items = extract(sharp_backbone, photos(2), OPTIONS)
    assert items[1]["skipped"] == ["dog"]
    assert not tensors["p1/selfcross"][0].any() and tensors["p1/selfcross"][1].max() > 0.5


def test_attention_that_is_not_finite_is_one_line_with_the_photo(sharp_backbone):
    """Rather than a mask of nothing but background, on which a segmentor would be trained."""
    weight = sharp_backbone.unet.conv_in.weight
    kept = weight.detach().clone()
    (photo,) = photos(1)
    try:
        weight.data[0, 0, 0, 0] = torch.nan
        with pytest.raises(
            UserError, match=rf"image {photo.id}: the attention is not finite; .*float32"
        ):
            extract(sharp_backbone, [photo], Options(resize="none", noises=1))
    finally:
        weight.data.copy_(kept)


def test_a_photo_of_thirty_classes_is_asked_for_in_sentences_that_fit(sharp_backbone):
    coco = load("coco")
    options = Options(noises=1, resize="none", vocabulary=coco)
    crowd = Sample("crowd", photos(1)[0].image, list(coco.classes[:30]))
    tensors, (item,) = extract(sharp_backbone, [crowd], options)
    asked = queries_of(sharp_backbone, crowd.classes, options)
    assert [c for columns, _ in asked for c in columns] == list(range(30))
    assert item["sentences"] == len(asked) > 1 and tensors["crowd/selfcross"].shape[0] == 30
    for columns, _ in asked:  # as if the photo had these classes alone
        some = Sample("crowd", crowd.image, [crowd.classes[c] for c in columns])
        alone, (one,) = extract(sharp_backbone, [some], options)
        assert one["sentences"] == 1
        for kind in ("cross", "selfcross"):
            both = tensors[f"crowd/{kind}"][columns].float(), alone[f"crowd/{kind}"].float()
            torch.testing.assert_close(*both, atol=2e-3, rtol=0)


def test_a_single_class_past_the_window_names_the_photo(sharp_backbone):
    long = Sample("crowd", np.zeros((64, 64, 3), np.uint8), ["dog", "xylophone " * 30])
    with pytest.raises(UserError, match="image crowd: .* past the text encoder's window"):
        extract(sharp_backbone, [long], OPTIONS)


def test_cbp_scores_are_stored_where_asked_for(sharp_backbone):
    tensors, _ = extract(sharp_backbone, photos(1), Options(noises=1, resize="none", cbp=True))
    assert tensors["p0/cbp"].shape == tensors["p0/cross"].shape
    assert len(tensors["p0/cbp"].unique()) <= 5


def test_shards_partition_the_list():
    ids = list(range(23))
    assert sum((members(ids, shard, 5) for shard in range(5)), []) == ids
    with pytest.raises(UserError, match="23 items"):
        members(ids, 5, 5)


def test_a_shard_is_complete_only_with_its_manifest_parameters_and_bytes(tmp_path, sharp_backbone):
    path = tmp_path / "shard-00000.safetensors"
    tensors, items = extract(sharp_backbone, photos(2), OPTIONS)
    write_shard(path, tensors, items, OPTIONS.identity())
    assert problem_with(path, OPTIONS.identity()) is None
    assert problem_with(path, Options(noises=3).identity()) == "made with other parameters"
    read = {item["id"]: kinds for item, kinds in read_shards(tmp_path)}
    torch.testing.assert_close(read["p1"]["cross"], tensors["p1/cross"])
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    assert problem_with(path) == "the tensors are damaged"
    (tmp_path / "shard-00000.json").write_text(json.dumps({}))
    assert problem_with(path) == "the manifest is damaged"
    (tmp_path / "shard-00000.json").unlink()
    assert problem_with(path) == "the manifest is missing"


def test_figure_2_shows_classes_of_several_sentences(sharp_backbone):
    options = Options(noises=1, resize="none", cbp=True, query={"composed": False})
    stages = stages_of(sharp_backbone, photos(2)[1], options)
    assert {name: maps.shape for name, maps in stages.maps.items()} == dict.fromkeys(
        ("Cross", "CBP", "SelfCross"), (2, 64, 64)
    )


def test_what_a_job_is_not_told_is_the_paper_s_or_suits_another_family(sharp_backbone, tiny_family):
    """And nothing of the identity is new for Stable Diffusion."""
    own = {"cross_blocks": [0, 1], "timestep": 3}
    assert options_of(sharp_backbone, ExtractionJob()).identity() == Options().identity()
    assert options_of(sharp_backbone, ExtractionJob(**own)).identity() == Options(**own).identity()
    other = load_backbone(tiny_family("sd3"), device="cpu")
    usual = {"cross_blocks": [1], "self_block": 1, "timestep": 515, "resize": "native"}
    assert options_of(other, ExtractionJob()).identity() == Options(**usual).identity()
    told = {"cross_blocks": [0, 2], "self_block": None, "timestep": 150, "resize": "official"}
    assert options_of(other, ExtractionJob(**told)).identity() == Options(**told).identity()
    with pytest.raises(UserError, match="this model has blocks 0 to 2"):
        options_of(other, ExtractionJob(cross_blocks=[4]))
