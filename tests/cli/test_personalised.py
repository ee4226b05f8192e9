"""From scenes with subjects to scores: the programs as they are run, on tiny random models."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from test_train_custom_diffusion import fails

import draw_picture
import evaluate_instances
import segment_image
import segment_instances
from attnseg.backbones import load_backbone
from attnseg.backbones.text import Query
from attnseg.datasets.mug19 import SPLITS, read_mug19
from attnseg.errors import run
from attnseg.io.files import sealed
from attnseg.personalised import pictures as mug_pictures
from attnseg.personalised import referring
from attnseg.personalised.personal import (
    INFO,
    Personal,
    fingerprint,
    personalised,
    read_personal,
    save_personal,
    text_projections,
)
from attnseg.personalised.predictions import read_predictions, read_rows
from attnseg.personalised.referring import DIFFUSION
from attnseg.personalised.scores import overlap, remarks, score
from attnseg.text2mask.extract import Sample, views_of
from attnseg.text2mask.options import Options

EXTRACTION = (
    "--device cpu --set cross_blocks=[4,5] self_block=10 resize=none foreground_threshold=0.2"
).split()

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def personal(tiny_sd, tiny_mug19, tmp_path_factory) -> Path:
    """Weights that were not learnt, but are different for every subject."""

    folder = tmp_path_factory.mktemp("personal")
    backbone = load_backbone(tiny_sd, device="cpu")
    base = text_projections(backbone.unet)
    info = {"classes": {"<new1>": "mug"}, "base": fingerprint(backbone), "model": backbone.name}
    info["seconds"] = 7.0
    for i, subject in enumerate(read_mug19(tiny_mug19).subjects):
        generator = torch.Generator().manual_seed(i)
        learnt = {n: w + 0.3 * torch.randn(w.shape, generator=generator) for n, w in base.items()}
        row = torch.randn(32, generator=generator)
        save_personal(folder / subject, Personal({"<new1>": row}, learnt, info))
    return folder


def segmenting(mug19: Path, personal: Path, model: Path, output: Path) -> list[object]:
    """The arguments of segment_instances.py."""
    return ["--root", mug19, "--personal", personal, "--model", model, "--output", output]


@pytest.fixture(scope="module")
def predictions(tiny_sd, tiny_mug19, personal, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("predictions")
    arguments = segmenting(tiny_mug19, personal, tiny_sd, folder)
    assert segment_instances.main([*map(str, arguments), *EXTRACTION]) == 0
    return folder


def test_every_method_answers_every_triplet_or_says_why_not(predictions, tiny_mug19):
    manifest = json.loads((predictions / "manifest.json").read_text())
    data = read_mug19(tiny_mug19)
    for method in DIFFUSION:
        rows = load_file(predictions / f"{method}.safetensors")
        assert set(rows) == {triplet.id for triplet in data.triplets}
        assert manifest["methods"][method]["model"]
    for method in ("dino_vit", "mask_rcnn"):
        assert manifest["methods"][method]["not_run"]
    assert "in place of CLIP" in manifest["methods"]["arithmetic"]["model"]


def test_the_identifier_and_class_alone_are_read_from_the_same_passes(
    predictions, tiny_sd, tiny_mug19, personal, tmp_path, monkeypatch
):
    """Each query's "<new1> mug" once more, in a pass of its own."""
    counted, original = [], referring.query_maps

    def counting(backbone, pairs, *args, **kwargs):
        counted.extend(pairs)
        return original(backbone, pairs, *args, **kwargs)

    monkeypatch.setattr(referring, "query_maps", counting)
    arguments = segmenting(tiny_mug19, personal, tiny_sd, tmp_path)
    arguments = [*map(str, arguments), *EXTRACTION, "--methods", *referring.OURS]
    assert segment_instances.main(arguments) == 0
    data, found = read_mug19(tiny_mug19), [
        (load_file(tmp_path / f"{m}.safetensors"), load_file(predictions / f"{m}.safetensors"))
        for m in referring.OURS
    ]  # fmt: skip
    for rows, again in found:
        assert all(torch.equal(rows[name], again[name]) for name in rows)
    asked = {(t.scene, t.view, t.subject, t.description) for t in data.triplets}
    assert len(counted) == len(asked)
    backbone = load_backbone(tiny_sd, device="cpu")
    options = Options(cross_blocks=[4, 5], self_block=10, resize="none", noises=1)
    _, segments = read_predictions(predictions)
    (whole, _), (alone, _) = found
    for triplet in data.triplets[:3]:
        view = (triplet.scene, triplet.view)
        (scene,) = views_of(backbone, [Sample("/".join(view), data.read_view(*view), [])], options)
        text = triplet.description.replace("mug", "<new1> mug")
        start = text.index("<new1> mug")
        query = Query(text, ((start, start + len("<new1> mug")),))
        with personalised(backbone, read_personal(personal / triplet.subject)) as changed:
            (maps,) = original(changed, [(scene, query)], options)
        grid, labels = maps.kinds["selfcross"][0], segments[view].labels
        means = [grid[labels == number].mean() for number in range(int(labels.max()) + 1)]
        torch.testing.assert_close(alone[triplet.id], torch.stack(means), atol=5e-3, rtol=0)
        assert not torch.allclose(alone[triplet.id], whole[triplet.id], atol=5e-3)


def test_finished_methods_are_kept_and_those_of_other_settings_are_not(
    predictions, tiny_sd, tiny_mug19, personal, tmp_path, capsys
):
    folder = shutil.copytree(predictions, tmp_path / "answers")
    (folder / "arithmetic.safetensors").unlink()  # as after a kill
    before = {path.name: load_file(path) for path in predictions.glob("*.safetensors")}
    arguments = segmenting(tiny_mug19, personal, tiny_sd, folder)
    assert segment_instances.main([*map(str, arguments), *EXTRACTION]) == 0
    assert capsys.readouterr().out.count("there already") == len(DIFFUSION) - 1
    for name, rows in before.items():
        again = load_file(folder / name)
        assert rows.keys() == again.keys() and all(torch.equal(rows[k], again[k]) for k in rows)
    others = [*map(str, arguments), *EXTRACTION, "seed=5", "--methods", "context_only"]
    assert segment_instances.main(others) == 0
    assert "there already" not in capsys.readouterr().out
    other, rows = load_file(folder / "context_only.safetensors"), before["context_only.safetensors"]
    assert any(not torch.equal(other[name], row) for name, row in rows.items())


def test_the_subject_alone_cannot_tell_copies_apart_and_words_alone_cannot_tell_sharers_apart(
    predictions, tiny_mug19
):
    data = read_mug19(tiny_mug19)
    subject, context, both = (
        load_file(predictions / f"{method}.safetensors")
        for method in ("subject_only", "context_only", "custom_selfcross")
    )
    compared = 0
    for group in data.groups().values():
        for a in group:
            for b in group:
                same_subject, same_words = a.subject == b.subject, a.description == b.description
                if a.instance < b.instance and (same_subject or same_words):
                    assert torch.equal(subject[a.id], subject[b.id]) == same_subject
                    assert torch.equal(context[a.id], context[b.id]) == same_words
                    assert not torch.equal(both[a.id], both[b.id])
                    compared += 1
    assert compared >= 3


def test_answers_are_scored_in_every_split(predictions, tiny_mug19, tmp_path, capsys):
    arguments = ["--root", tiny_mug19, "--predictions", predictions, "--output", tmp_path]
    assert evaluate_instances.main(list(map(str, arguments))) == 0
    printed = capsys.readouterr().out
    assert "mask_rcnn: not run" in printed and "chance" in printed
    data = read_mug19(tiny_mug19)
    for split in SPLITS:
        chosen = [t for t in data.triplets if split in t.splits]
        for method in DIFFUSION:
            metrics = json.loads((tmp_path / split / method / "metrics.json").read_text())
            assert metrics["n_triplets"] == len(chosen) and metrics["split"] == split
            expected = np.mean([1 / len(data.instances(t.scene)) for t in chosen])
            assert metrics["chance"] == pytest.approx(100 * expected, abs=1e-3)
            per = np.load(tmp_path / split / method / "per_triplet.npz")
            assert per["ids"].tolist() == [t.id for t in chosen]
            assert metrics["miou"] == pytest.approx(100 * per["iou"].mean(), abs=1e-3)
            assert metrics["bf_acc"] == pytest.approx(100 * per["found_alone"].mean(), abs=1e-3)
            assert metrics["af_acc"] == pytest.approx(100 * per["found_together"].mean(), abs=1e-3)
            assert f"chance {metrics['chance']:.1f} in {split}" in metrics["remarks"]
    assert isinstance(json.loads((tmp_path / "order.json").read_text()), list)
    ours = json.loads((tmp_path / "all/custom_selfcross/metrics.json").read_text())
    assert "learnt in 7 s per instance" in ours["remarks"][-1] and ours["seconds_per_instance"] == 7


def test_a_clip_and_a_dino_that_are_not_there_leave_out_their_own_rows_alone(
    tiny_sd, tiny_mug19, personal, tmp_path
):
    answers, scores = tmp_path / "answers", tmp_path / "scores"
    absent = ["--clip", tmp_path / "no_clip", "--dino", tmp_path / "no_dino"]
    arguments = segmenting(tiny_mug19, personal, tiny_sd, answers)
    methods = ["--methods", "arithmetic", "dino_vit", "context_only"]
    told = [*map(str, [*arguments, *absent]), *methods, *EXTRACTION]
    assert segment_instances.main(told) == 0
    arguments = ["--root", tiny_mug19, "--predictions", answers, "--output", scores]
    assert evaluate_instances.main(list(map(str, arguments))) == 0
    for split in SPLITS:
        for method, missing in (("arithmetic", "no CLIP"), ("dino_vit", "no ViT")):
            metrics = json.loads((scores / split / method / "metrics.json").read_text())
            assert metrics["miou"] is None and missing in metrics["remarks"][0]
    metrics = json.loads((scores / "all/context_only/metrics.json").read_text())
    assert metrics["miou"] > 0 and metrics["n_triplets"]


def test_perfect_answers_score_full_marks(predictions, tiny_mug19, tmp_path):
    """Correlations that are 1 on the true segment: every accuracy is 100."""
    from attnseg.personalised.assignment import true_segments

    data = read_mug19(tiny_mug19)
    _, segments = read_predictions(predictions)
    rows = {}
    for triplet in data.triplets:
        masks = segments[triplet.scene, triplet.view].masks(0.2)
        truth = true_segments(masks, data.read_masks(triplet.scene, triplet.view))
        row = torch.zeros(len(masks))
        row[truth[triplet.instance - 1]] = 1
        rows[triplet.id] = row
    changed = tmp_path / "predictions"
    changed.mkdir()
    manifest = json.loads((predictions / "manifest.json").read_text())
    manifest["methods"] = {"custom_selfcross": {"model": "the truth"}}
    (changed / "manifest.json").write_text(json.dumps(manifest))
    save_file(load_file(predictions / "segments.safetensors"), changed / "segments.safetensors")
    save_file(rows, changed / "custom_selfcross.safetensors")
    arguments = ["--root", tiny_mug19, "--predictions", changed, "--output", tmp_path / "out"]
    assert evaluate_instances.main(list(map(str, arguments))) == 0
    metrics = json.loads((tmp_path / "out/all/custom_selfcross/metrics.json").read_text())
    assert metrics["bf_acc"] == metrics["af_acc"] == 100
    assert 0 < metrics["miou"] < 100


def test_a_table_s_note_says_where_segments_are_not_the_paper_s():
    metrics = {"n_triplets": 3, "chance": 25.0}
    for about, parameters, local in (
        ({}, {"locality": 1.5}, True),
        ({}, {"locality": None}, False),
        ({"true_masks": True}, {"locality": 1.5}, False),
    ):
        said = remarks("variant", metrics, about, parameters)
        assert said[0] == "chance 25.0 in variant"
        assert any("a Gaussian of 1.5 cells" in remark for remark in said) == local
    assert remarks("all", {"n_triplets": 0}, {}, {}) == ["no triplet of all"]


def test_the_picture_shows_what_each_method_found_and_the_truth(predictions, tiny_mug19, tmp_path):
    output = tmp_path / "figure.png"
    arguments = ["instances", "--root", tiny_mug19, "--predictions", predictions]
    arguments += ["--count", "3", "--output", output]
    assert draw_picture.main(list(map(str, arguments))) == 0
    assert np.array(Image.open(output)).std() > 10
    data = read_mug19(tiny_mug19)
    picked = mug_pictures.chosen_triplets(data, 3)
    kinds = {split for triplet in picked for split in triplet.splits} - {"all"}
    assert kinds == set(SPLITS[1:]) and len(picked) == 3
    photo = data.read_view(picked[0].scene, picked[0].view)
    mask = data.read_masks(picked[0].scene, picked[0].view)[0]
    shown = mug_pictures.highlighted(photo, mask)
    assert (shown[mask] == photo[mask]).all() and shown[~mask].min() >= 178


def test_a_picture_s_segment_is_the_one_that_is_scored(predictions, tiny_mug19):
    data = read_mug19(tiny_mug19)
    _, segments = read_predictions(predictions)
    rows = read_rows(predictions / "custom_selfcross.safetensors")
    scores = score(data, segments, rows, threshold=0.2)
    for name, iou in zip(scores.ids, scores.iou, strict=True):
        triplet = next(triplet for triplet in data.triplets if triplet.id == name)
        masks = segments[triplet.scene, triplet.view].masks(0.2)
        truth = data.read_masks(triplet.scene, triplet.view)[triplet.instance - 1]
        found = mug_pictures.prediction(data, triplet, masks, rows)
        assert overlap(found, truth) == pytest.approx(iou)


def test_mistakes_about_scenes_are_one_line(
    predictions, tiny_sd, tiny_mug19, personal, tmp_path, capsys
):
    good = ["--root", tiny_mug19, "--model", tiny_sd, "--output", tmp_path / "o", *EXTRACTION]
    mine = [*good, "--personal", personal]
    assert "no weights of the subject" in fails(
        segment_instances, [*good, "--personal", tmp_path], capsys
    )
    assert "no triplet of the scenes" in fails(
        segment_instances, [*mine, "--scenes", "nowhere"], capsys
    )
    assert "blocks 0 to 15" in fails(segment_instances, [*mine, "--set", "self_block=99"], capsys)
    assert "template" in fails(segment_instances, [*mine, "--set", "template=a mug"], capsys)
    assert "incomplete predictions" in fails(
        evaluate_instances,
        ["--root", tiny_mug19, "--predictions", tmp_path, "--output", tmp_path / "o"],
        capsys,
    )


def test_weights_of_another_base_model_are_refused(tiny_sd, tiny_mug19, personal, tmp_path, capsys):
    other = tmp_path / "personal"
    for folder in personal.iterdir():
        (other / folder.name).mkdir(parents=True)
        for file in folder.iterdir():
            (other / folder.name / file.name).write_bytes(file.read_bytes())
        info = json.loads((other / folder.name / INFO).read_text())
        (other / folder.name / INFO).write_text(json.dumps(sealed(info | {"base": "0" * 16})))
    arguments = ["--root", tiny_mug19, "--model", tiny_sd, "--output", tmp_path / "o", *EXTRACTION]
    line = fails(
        segment_instances,
        [*arguments, "--personal", other, "--methods", "custom_selfcross"],
        capsys,
    )
    assert "another base model" in line and "mug" in line


# --- one photo of a person's own


def asked(tiny_mug19: Path, weights: Path, output: Path, query: str, *more: object) -> list:
    scene = next((tiny_mug19 / "scenes").rglob("*.jpg"))
    return [
        scene, "--personal", weights, "--query", query, "--output", output / "mask.png",
        "--foreground-threshold", "0.2", "--instances", "3", "--device", "cpu", *more,
    ]  # fmt: skip


def test_one_thing_of_a_person_s_own_is_found_with_the_model_it_was_learnt_on(
    tiny_mug19, personal, tmp_path, capsys
):
    arguments = asked(tiny_mug19, personal / "mug00", tmp_path, "the <new1> mug filled with cola")
    arguments += ["--overlay", tmp_path / "overlay.png"]
    assert segment_image.main(list(map(str, arguments))) == 0
    legend = capsys.readouterr().out.splitlines()
    assert legend[1].endswith("the <new1> mug filled with cola") and len(legend) == 2
    mask = np.array(Image.open(tmp_path / "mask.png"))
    assert set(np.unique(mask)) == {0, 1} and mask.shape == (64, 64)
    photo, overlay = (
        np.array(Image.open(path)) for path in (arguments[0], tmp_path / "overlay.png")
    )
    overlay = overlay[:64, :64]  # without the legend
    assert (overlay[mask == 0] == photo[mask == 0]).all()
    assert (overlay[mask == 1] != photo[mask == 1]).any()


def test_mistakes_about_one_photo_are_one_line(tiny_mug19, personal, tiny_sd, tmp_path, capsys):
    mine, query = personal / "mug00", "the <new1> mug"

    def said(*arguments: object) -> str:
        return fails(segment_image, [*arguments], capsys)

    assert "has no identifier (<new1>)" in said(*asked(tiny_mug19, mine, tmp_path, "the mug"))
    assert "train_custom_diffusion.py" in said(*asked(tiny_mug19, tmp_path, tmp_path, query))
    assert "1 or more" in said(*asked(tiny_mug19, mine, tmp_path, query, "--instances", "0"))
    assert "no such" in said(
        *asked(tiny_mug19, mine, tmp_path, query, "--model", tmp_path / "none")
    )
    both = asked(tiny_mug19, mine, tmp_path, query, "--classes", "mug")
    assert "either --classes (or --labels), or --personal" in said(*both)
    assert "--query" in said(*both[:3], *both[5:-2])
    other = tmp_path / "other"
    other.mkdir()
    for file in mine.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    info = json.loads((other / INFO).read_text())
    changed = sealed(info | {"base": "0" * 16, "model": str(tiny_sd)})
    (other / INFO).write_text(json.dumps(changed))
    assert "trained on another base model" in said(*asked(tiny_mug19, other, tmp_path, query))
    assert not (tmp_path / "mask.png").exists()


def test_pictures_are_compared_inside_true_boxes_by_a_segmentors_backbone(
    tiny_sd, tiny_mug19, personal, tmp_path
):
    from attnseg.segmentation.model import build_model, save_segmentor
    from attnseg.settings import Segmentor

    settings = Segmentor(backbone="resnet18", width=8, stem="small", crop=64)
    weights = tmp_path / "weights.safetensors"
    save_segmentor(
        weights, build_model(settings, 3), settings, dataset="mini", classes=["a", "b", "c"]
    )
    arguments = [
        "--root", tiny_mug19, "--personal", personal, "--model", tiny_sd, "--output", tmp_path / "p",
        "--methods", "dino_vit", "mask_rcnn", "--features", weights, *EXTRACTION,
    ]  # fmt: skip
    assert segment_instances.main(list(map(str, arguments))) == 0
    arguments = ["--root", tiny_mug19, "--predictions", tmp_path / "p", "--output", tmp_path / "o"]
    assert evaluate_instances.main(list(map(str, arguments))) == 0
    for method in ("dino_vit", "mask_rcnn"):
        metrics = json.loads((tmp_path / "o/all" / method / "metrics.json").read_text())
        assert "resnet18" in metrics["model"] and "true instance boxes" in metrics["model"]
        assert metrics["miou"] == pytest.approx(metrics["af_acc"], abs=1e-3)
        # even random features know most mugs of a design from those of another
        assert metrics["af_acc"] > metrics["chance"]


def test_dino_and_clip_are_used_where_they_are_given(tiny_sd, tiny_mug19, personal, tmp_path):
    from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTModel

    torch.manual_seed(0)
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 10,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    ViTModel(ViTConfig(**small, image_size=32, patch_size=16)).save_pretrained(tmp_path / "dino")
    tower = small | {"num_hidden_layers": 1, "hidden_size": 32}
    words = len(load_backbone(tiny_sd, device="cpu").tokenizer)
    for width in (32, 24):
        CLIPModel(
            CLIPConfig(
                text_config={**tower, "vocab_size": words, "max_position_embeddings": 64},
                vision_config={**tower, "image_size": 32, "patch_size": 16},
                projection_dim=width,
            )
        ).save_pretrained(tmp_path / f"clip{width}")
    arguments = [
        "--root", tiny_mug19, "--personal", personal, "--model", tiny_sd, "--output", tmp_path / "p",
        "--methods", "arithmetic", "dino_vit", "--dino", tmp_path / "dino",
        "--scenes", "scene00", *EXTRACTION,
    ]  # fmt: skip
    assert segment_instances.main([*map(str, arguments), "--clip", str(tmp_path / "clip32")]) == 0
    manifest = json.loads((tmp_path / "p" / "manifest.json").read_text())["methods"]
    assert str(tmp_path / "dino") == manifest["dino_vit"]["model"]
    assert str(tmp_path / "clip32") in manifest["arithmetic"]["model"]
    for method in ("arithmetic", "dino_vit"):
        rows = load_file(tmp_path / "p" / f"{method}.safetensors")
        assert all(row.isfinite().all() and row.unique().numel() > 1 for row in rows.values())
    arguments = list(map(str, arguments))
    line = run(lambda: segment_instances.main([*arguments, "--clip", str(tmp_path / "clip24")]))
    assert line == 1
