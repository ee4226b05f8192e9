"""Out of memory: batches are halved, all samples are still done, and the results are the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from attnseg.attn2mask import dreambooth_lora as dl
from attnseg.backbones import load_backbone
from attnseg.errors import UserError
from attnseg.io.batches import Batches
from attnseg.io.shard_parts import build_shard
from attnseg.personalised import custom_diffusion as cd
from attnseg.segmentation import predict
from attnseg.segmentation.model import build_model
from attnseg.settings import LoraJob, SubjectTrainingJob, TestJob, read_segmentor
from attnseg.text2mask.extract import Sample, extract, query_maps, views_of
from attnseg.text2mask.options import Options
from attnseg.text2mask.queries import text_query


def small_memory(module: torch.nn.Module, limit: int) -> list[int]:
    """From now on more than `limit` samples at a time do not fit; the sizes that were tried."""
    tried = []

    def check(module, inputs):
        tried.append(len(inputs[0]))
        if tried[-1] > limit:
            raise torch.OutOfMemoryError("injected")

    module.register_forward_pre_hook(check)
    return tried


@pytest.fixture
def backbone(tiny_sd):
    return load_backbone(tiny_sd, device="cpu")


def test_all_samples_are_done_in_order_in_halved_batches(capsys):
    tried = []

    def work(part):
        tried.append(len(part))
        if len(part) > 3:
            raise torch.OutOfMemoryError("injected")
        return sum(part)

    batches = Batches(8, "photo")
    found = list(batches.over(list(range(11)), work))
    assert [n for part, _ in found for n in part] == list(range(11))
    assert all(result == sum(part) for part, result in found)
    assert tried == [8, 4, 2, 2, 2, 2, 2, 1]
    assert capsys.readouterr().err.splitlines() == [
        "out of memory with 8 photos at a time: continuing with 4",
        "out of memory with 4 photos at a time: continuing with 2",
    ]
    assert list(batches.over([1, 2, 3], work)) == [([1, 2], 3), ([3], 3)]  # it stays small


def test_one_sample_that_does_not_fit_is_one_line():
    def work(part):
        raise torch.OutOfMemoryError("injected")

    with pytest.raises(UserError, match="does not hold one photo at a time: use") as error:
        list(Batches(2, "photo").over([1, 2], work))
    assert "\n" not in str(error.value)


def test_a_training_s_batches_are_never_of_one_image():
    """Whose branch of DeepLabv3+ has one value per channel, which batch norm refuses."""

    def work(part):
        raise torch.OutOfMemoryError("injected")

    with pytest.raises(UserError, match="does not hold 3 images at a time"):
        list(Batches(6, "image", least=2).over([1, 2, 3, 4, 5, 6], work))


def test_parts_that_add_up_begin_again_from_nothing():
    total = []

    def add(part):
        total.extend(part[:1])  # some of the work is done before memory runs out
        if len(part) > 2:
            raise torch.OutOfMemoryError("injected")
        total.extend(part[1:])

    Batches(4).together([1, 2, 3, 4, 5], add, total.clear)
    assert total == [1, 2, 3, 4, 5]


def test_extraction_gives_the_same_maps(backbone, capsys):
    rng = np.random.default_rng(0)
    samples = [
        Sample(f"p{i}", rng.integers(0, 256, (64, 64, 3), np.uint8), ["dog", "cat"])
        for i in range(3)
    ]
    options = Options(noises=2, resize="none")
    expected, _ = extract(backbone, samples, options, batch_size=4)
    encoded, passed = small_memory(backbone.vae.encoder, 1), small_memory(backbone.unet, 2)
    found, _ = extract(backbone, samples, options, batch_size=4)
    assert max(encoded) > 1 and max(passed) > 2  # they were tried
    assert found.keys() == expected.keys()
    for name, maps in expected.items():
        # of a random model's nearly constant attention, min-max leaves rounding
        assert (found[name].float() - maps.float()).abs().mean() < 0.02
    assert "continuing with 2" in capsys.readouterr().err


def test_queries_of_scenes_give_the_same_maps(backbone):
    rng = np.random.default_rng(0)
    options = Options(noises=1, resize="none")
    photo = rng.integers(0, 256, (64, 64, 3), np.uint8)
    (scene,) = views_of(backbone, [Sample("scene", photo, [])], options)
    asks = [(scene, text_query([name], background=False)) for name in ("dog", "cat", "bird")]
    expected = query_maps(backbone, asks, options, Batches(3))
    tried = small_memory(backbone.unet, 1)
    found = query_maps(backbone, asks, options, Batches(3))
    assert tried == [3, 1, 1, 1]
    for one, other in zip(expected, found, strict=True):
        assert (one.kinds["selfcross"] - other.kinds["selfcross"]).abs().mean() < 0.02


def test_a_shard_keeps_what_was_finished_in_halved_batches(tmp_path):
    made = []

    def work(part):
        if len(part) > 2:
            raise torch.OutOfMemoryError("injected")
        if made and part[0] == 4:
            raise KeyboardInterrupt
        made.extend(part)
        return {f"{n}/cross": torch.full((1,), float(n)) for n in part}, [
            {"id": str(n)} for n in part
        ]

    with pytest.raises(KeyboardInterrupt):
        build_shard(tmp_path / "s.safetensors", range(6), work, {"a": 1}, 4)
    assert made == [0, 1, 2, 3]
    made.clear()
    items, fresh = build_shard(tmp_path / "s.safetensors", range(6), work, {"a": 1}, 4)
    assert made == [4, 5] and fresh == 2
    assert [item["id"] for item in items] == [str(n) for n in range(6)]
    assert len(load_file(tmp_path / "s.safetensors")) == 6


def test_a_lora_learns_the_same(tiny_sd, tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (64, 80, 3)).astype(np.uint8) for _ in range(3)]
    options = LoraJob(rank=2, steps=3, batch_size=2, learning_rate=1e-2, size=64)

    def losses(name, limit):
        backbone, seen = load_backbone(tiny_sd, device="cpu"), []
        tried = small_memory(backbone.unet, limit)
        dl.train(
            backbone, images, images[:2], options, tmp_path / name, 9,
            lambda _, loss: seen.append(loss),
        )  # fmt: skip
        return seen, max(tried)

    (whole, _), (halved, most) = losses("a.pt", 4), losses("b.pt", 1)
    assert most == 4
    np.testing.assert_allclose(halved, whole, rtol=1e-4)


def test_custom_diffusion_learns_the_same(backbone, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(tmp_path / f"{i}.png")
    (concept,) = cd.concepts_from([tmp_path], ["cat"], ["<new1>"])
    concept = replace(concept, regularisation=concept.photos)
    settings = SubjectTrainingJob(
        steps=3, batch_size=2, learning_rate=1e-2, size=64, initial_word="dog", prior_weight=0.5
    )
    whole = cd.train(backbone, [concept], settings, tmp_path / "a.pt").info["losses"]
    tried = small_memory(backbone.unet, 3)
    halved = cd.train(backbone, [concept], settings, tmp_path / "b.pt").info["losses"]
    assert max(tried) == 4 and min(tried) == 2
    np.testing.assert_allclose(halved, whole, rtol=1e-3)


TINY = {
    "backbone": "resnet18", "width": 8, "stem": "small", "output_stride": 8, "rates": [1, 2],
    "crop": 32, "batch": 4, "loss_scales": [1.0],
}  # fmt: skip


def training_batch(count: int) -> dict:
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (count, 1, 32, 32), generator=generator)
    return {
        "inputs": list(torch.randint(0, 256, (count, 3, 32, 32), generator=generator).byte()),
        "data_samples": [SegDataSample(gt_sem_seg=PixelData(data=label)) for label in labels],
    }


def test_a_segmentor_s_update_is_that_of_the_whole_batch():
    from mmengine.optim import OptimWrapper

    def updated(limit):
        torch.manual_seed(0)
        model = build_model(read_segmentor(TINY), 3)
        torch.nn.init.normal_(model.decode_head.classifiers[0].weight)
        model.eval()  # batch norm of parts is not that of the whole
        tried = small_memory(model.backbone, limit)
        optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), 0.1))
        logged = model.train_step(training_batch(4), optimizer)
        assert tried[0] == 4
        return model.state_dict(), float(logged["loss"])

    (whole, loss), (halved, same) = updated(4), updated(2)
    assert same == pytest.approx(loss, rel=1e-5)
    for name, value in whole.items():
        torch.testing.assert_close(halved[name], value, rtol=1e-4, atol=1e-6)


def test_a_mirrored_photo_is_predicted_by_itself():
    torch.manual_seed(0)
    model = build_model(read_segmentor(TINY), 3).eval()
    photo = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    test = TestJob(scales=[1.0], flip=True)
    expected = predict.probabilities(model, photo[None], test)
    tried = small_memory(model.backbone, 1)
    np.testing.assert_allclose(predict.probabilities(model, photo[None], test), expected, atol=1e-6)
    assert tried == [2, 1, 1]
