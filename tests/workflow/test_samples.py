"""The test configuration in which samples of the real data sets are the data sets."""

import importlib.util
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def run_samples():
    """tests/run_samples.py, which runs what is planned here (`make test-samples`: minutes)."""
    file = REPOSITORY / "tests" / "run_samples.py"
    spec = importlib.util.spec_from_file_location("run_samples", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_paper_scale_s_rules_are_planned_on_samples(plan, run_samples, checkout):
    model = checkout / "resources" / "models" / "random_sd"
    model.mkdir(parents=True)
    (model / "model_index.json").write_text("{}")
    jobs, output = plan(
        *run_samples.TARGETS, "--cores", "1", "--configfile", run_samples.PAPER, run_samples.SAMPLES
    )
    assert jobs["download_dataset"] == 3
    assert "train_mini_diffusion" not in jobs and "fetch_models" not in jobs
    for name in ("extract_attention", "refine_masks", "train_segmentor", "evaluate_segmentor"):
        assert jobs[name] >= 2, name
    for dataset in ("voc", "coco", "cityscapes"):
        assert f"--dataset {dataset} " in output


def test_annotations_are_shortened_to_their_first_photos(run_samples):
    content = {
        "images": [{"id": 1}, {"id": 2}, {"id": 3}],
        "annotations": [{"image_id": 3}, {"image_id": 2}, {"image_id": 3}],
        "categories": ["all"],
    }
    short = run_samples.shortened(content, 1)
    assert short == {
        "images": [{"id": 2}], "annotations": [{"image_id": 2}], "categories": ["all"],
    }  # fmt: skip
