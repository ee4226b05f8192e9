"""Segments of a scene, correlations with them, and the scores of predictions."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from attnseg.backbones.text import Query
from attnseg.core.clusters import OUTSIDE
from attnseg.core.geometry import Fit, in_photo
from attnseg.core.maps import min_max
from attnseg.datasets.mug19 import Mug19, Triplet
from attnseg.errors import UserError
from attnseg.io.batches import Batches
from attnseg.personalised.instances import (
    Segments,
    correlations,
    is_foreground,
    locate,
    scene_segments,
    word_positions,
)
from attnseg.personalised.personal import Personal, fingerprint, phrase_query, text_projections
from attnseg.personalised.scores import order_notes, score, split_metrics
from attnseg.text2mask.attention import attention_maps
from attnseg.text2mask.extract import Sample, query_maps, sample_noise, views_of
from attnseg.text2mask.options import Options

OPTIONS = Options(cross_blocks=[4, 5], self_block=8, resize="none", noises=2)


def photo(seed: int, height: int = 64, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def scene_of(backbone, name: str, image: np.ndarray, options: Options):
    return views_of(backbone, [Sample(name, image, [])], options)[0]


def segments_of(labels: torch.Tensor, size: tuple[int, int], foreground=None) -> Segments:
    foreground = (labels >= 0).float() if foreground is None else foreground
    return Segments(labels, foreground, Fit(size, size), size)


# --- segments


def test_maps_do_not_depend_on_the_batch_and_are_means_of_min_max_over_noises(tiny_backbone):
    scenes = [scene_of(tiny_backbone, name, photo(i), OPTIONS) for i, name in enumerate("ab")]
    query = phrase_query("the dog on the grass")
    asks = [(scene, query) for scene in scenes]
    both = query_maps(tiny_backbone, asks, OPTIONS, Batches(4))
    alone = query_maps(tiny_backbone, asks, OPTIONS, Batches(1), with_affinity=True)
    text = tiny_backbone.encode_text([query.text])
    positions = tiny_backbone.token_positions(query)
    alpha_bar = tiny_backbone.scheduler.alphas_cumprod[150]
    for scene, one, again in zip(scenes, both, alone, strict=True):
        found = one.kinds["selfcross"]
        assert one.affinity is None and again.affinity.shape == (found.numel(), found.numel())
        torch.testing.assert_close(found, again.kinds["selfcross"], atol=5e-3, rtol=0)
        expected = 0
        for n in range(2):
            noise = sample_noise(scene.latents.shape, OPTIONS.seed, scene.id, n)
            noisy = alpha_bar.sqrt() * scene.latents + (1 - alpha_bar).sqrt() * noise
            (maps,) = attention_maps(
                tiny_backbone,
                noisy[None],
                150,
                text,
                [positions],
                cross_blocks=[4, 5],
                self_block=8,
            )
            expected = expected + min_max(maps.selfcross) / 2
        torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)


def test_an_edit_changes_only_what_follows_from_the_word(tiny_backbone):
    scene = scene_of(tiny_backbone, "a", photo(0), OPTIONS)
    query = phrase_query("the dog on the grass")
    seen = []

    def edit(hidden: torch.Tensor, asked: Query) -> torch.Tensor:
        seen.append(asked)
        hidden = hidden.clone()
        hidden[word_positions(tiny_backbone, asked.text, "dog")] *= -1
        return hidden

    (plain,) = query_maps(tiny_backbone, [(scene, query)], OPTIONS)
    (edited,) = query_maps(tiny_backbone, [(scene, query)], OPTIONS, edit=edit)
    assert (
        word_positions(tiny_backbone, query.text, "dog")
        == tiny_backbone.token_positions(query)[0][:1]
    )
    assert seen == [query]
    assert not torch.allclose(plain.kinds["selfcross"], edited.kinds["selfcross"], atol=1e-3)


def test_the_foreground_is_cut_in_as_many_segments_as_there_are_instances(tiny_backbone):
    scenes = [scene_of(tiny_backbone, str(i), photo(i), OPTIONS) for i in range(3)]
    found = scene_segments(tiny_backbone, scenes, "dog", [3, 4, 2], OPTIONS, threshold=0.3)
    for segments, count in zip(found, (3, 4, 2), strict=True):
        inside = segments.foreground >= 0.3
        assert torch.equal(segments.labels != OUTSIDE, inside)
        assert sorted(segments.labels[inside].unique().tolist()) == list(range(count))
        masks = segments.masks(0.3)
        assert masks.shape == (count, 64, 64) and masks.sum(0).max() == 1


def test_padding_belongs_to_no_segment(tiny_backbone):
    assert (
        in_photo((4, 4), Fit((32, 64), (64, 64))).tolist() == [[True] * 4] * 2 + [[False] * 4] * 2
    )
    scene = scene_of(tiny_backbone, "a", photo(0, 32, 64), OPTIONS)
    padded = scene.fit.padded
    (segments,) = scene_segments(tiny_backbone, [scene], "dog", [2], OPTIONS, threshold=0.0)
    rows = segments.labels.shape[0]
    beyond = rows * 32 // padded[0]
    assert (segments.labels[:beyond] != OUTSIDE).all()
    assert (segments.labels[beyond:] == OUTSIDE).all()
    assert segments.masks(0.0).shape == (2, 32, 64)


def test_segments_are_enlarged_to_the_photo_within_the_foreground():
    labels = torch.full((8, 8), OUTSIDE)
    labels[1:7, 1:4], labels[1:7, 4:7] = 0, 1
    masks = segments_of(labels, (64, 64)).masks()
    assert masks[0, 16:48, 12:28].all() and masks[1, 16:48, 36:52].all()
    assert not masks[:, :4].any() and not masks[:, :, 60:].any()
    assert not (masks[0] & masks[1]).any()
    nothing = segments_of(torch.full((8, 8), OUTSIDE), (64, 64))
    assert nothing.masks().shape == (0, 64, 64)


def test_the_foreground_is_where_the_class_is_ahead_of_the_background():
    x = torch.linspace(0, 1, 101)
    assert torch.equal(is_foreground(x), x > (1 - x).square())
    assert torch.equal(is_foreground(x, 0.5), x >= 0.5)


def test_correlations_are_means_over_segments():
    labels = torch.randint(-1, 3, (6, 5), generator=torch.Generator().manual_seed(0))
    maps = [torch.rand(6, 5, generator=torch.Generator().manual_seed(i)) for i in range(4)]
    found = correlations(maps, segments_of(labels, (24, 20)))
    for i, values in enumerate(maps):
        for s in range(3):
            assert found[i, s] == pytest.approx(float(values[labels == s].mean()), rel=1e-5)
    empty = segments_of(torch.full((6, 5), OUTSIDE), (24, 20))
    assert correlations(maps, empty).shape == (4, 0)


def test_a_person_gets_the_segment_of_one_query(tiny_backbone):
    rows = {"<new1>": torch.randn(32, generator=torch.Generator().manual_seed(0))}
    own = text_projections(tiny_backbone.unet)
    projections = {name: weight.detach() * 1.5 for name, weight in own.items()}
    info = {"classes": {"<new1>": "dog"}, "base": fingerprint(tiny_backbone)}
    personal = Personal(rows, projections, info)
    options = Options(cross_blocks=[4], self_block=8, resize="none", noises=1)
    query = "the <new1> dog on the grass"
    mask = locate(tiny_backbone, personal, photo(0), query, options, instances=3)
    assert mask.shape == (64, 64) and 0 < mask.mean() < 1
    with pytest.raises(UserError, match="no identifier"):
        locate(tiny_backbone, personal, photo(0), "the dog", options)


# --- scores


def answers(views: int = 6):
    """Random segments, truths and correlations, and the data set that they belong to."""
    rng = np.random.default_rng(0)
    scenes, triplets, segments, rows, truths = {}, [], {}, {}, {}
    for v in range(views):
        name, count = f"s{v}", 3 + v % 3
        scenes[name] = {"instances": [{"subject": f"m{i}"} for i in range(count)], "views": ["0"]}
        corners = [(0, 0), (0, 32), (32, 0), (32, 32), (16, 16)][:count]
        truth = np.zeros((count, 64, 64), bool)
        labels = torch.full((16, 16), OUTSIDE)
        order = rng.permutation(count)
        for i, (top, left) in enumerate(corners):
            truth[i, top + 4 : top + 20, left + 4 : left + 20] = True
            labels[top // 4 + 1 : top // 4 + 5, left // 4 + 1 : left // 4 + 5] = int(order[i])
        truths[name] = truth
        segments[name, "0"] = segments_of(labels, (64, 64))
        for i in range(count):
            for splits in (("all",), ("variant",)):
                triplet = Triplet(
                    f"{name}-{i}{splits[0]}", name, "0", i + 1, f"m{i}", "a mug", splits
                )
                triplets.append(triplet)
                rows[triplet.id] = rng.random(count)
    data = Mug19(None, {}, scenes, triplets)
    data.read_masks = lambda scene, view, size=None: truths[scene]
    return data, segments, rows, truths


def test_scores_are_those_of_a_plain_computation():
    from itertools import permutations

    data, segments, rows, truths = answers()
    scores = score(data, segments, rows)
    assert scores.ids == [t.id for t in data.triplets]
    for (scene, _, _), group in data.groups().items():
        masks, truth = segments[scene, "0"].masks(), truths[scene]
        overlaps = np.array([[(m & t).sum() / (m | t).sum() for m in masks] for t in truth])
        right = overlaps.argmax(1)  # every segment lies on one instance here
        values = np.stack([rows[t.id] for t in group])
        count = len(group)
        best = max(
            permutations(range(count)),
            key=lambda order: sum(values[i, s] for i, s in enumerate(order)),  # noqa: B023
        )
        for i, triplet in enumerate(group):
            place = scores.ids.index(triplet.id)
            assert scores.found_alone[place] == (values[i].argmax() == right[i])
            assert scores.found_together[place] == (best[i] == right[i])
            assert scores.iou[place] == pytest.approx(overlaps[i, best[i]])
            assert scores.chance[place] == 1 / count


def test_with_true_masks_miou_is_af_acc():
    data, _, rows, _ = answers()
    scores = score(data, {}, rows, true_masks=True)
    metrics, part = split_metrics(data, scores, "all")
    assert metrics["miou"] == pytest.approx(metrics["af_acc"], abs=1e-3)
    assert metrics["n_triplets"] == len(part.ids) == len(data.triplets) // 2
    assert metrics["n_images"] == 6


def test_questions_by_variants_are_assigned_apart_from_the_others():
    data, segments, rows, _ = answers()
    own = {name: row for name, row in rows.items() if name.endswith("all")}
    whole = score(data, segments, rows)
    alone = score(data, segments, own)
    part = whole.part(alone.ids)
    assert np.array_equal(part.found_together, alone.found_together)
    assert np.array_equal(part.iou, alone.iou)


def test_nothing_found_is_wrong_and_no_error():
    data, segments, rows, _ = answers(1)
    nothing = {key: segments_of(torch.full((16, 16), OUTSIDE), (64, 64)) for key in segments}
    scores = score(data, nothing, {name: np.zeros(0) for name in rows})
    assert not scores.found_alone.any() and not scores.found_together.any() and not scores.iou.any()


def test_answers_for_other_segments_are_named():
    data, segments, rows, _ = answers(1)
    with pytest.raises(UserError, match="predictions for 2 segments where there are 3"):
        score(data, segments, {name: row[:2] for name, row in rows.items()})


def test_the_order_of_the_methods_is_told_with_numbers():
    def metrics(value: float) -> dict:
        return {"miou": value, "bf_acc": value, "af_acc": value}

    measured = {
        "all": {
            "custom_selfcross": metrics(50),
            "subject_only": metrics(40),
            "context_only": metrics(60),
        },
        "semantic_distractor": {"custom_selfcross": metrics(50), "subject_only": metrics(40)},
    }
    notes = order_notes(measured)
    assert "all af_acc: ours 50.0, context_only 60.0 (in the paper ours is ahead)" in notes
    assert [note for note in notes if "subject_only" in note] == [
        "semantic_distractor bf_acc: ours 50.0, subject_only 40.0 (in the paper subject_only is ahead)"
    ]
    assert order_notes({"all": {"custom_selfcross": SimpleNamespace()}}) == []
