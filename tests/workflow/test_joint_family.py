"""Stable Diffusion 3 in the workflow: from photos to masks and a metric, from a folder alone."""

import json

import numpy as np
import pytest
from PIL import Image


@pytest.mark.slow
def test_stable_diffusion_3_makes_masks(tiny_family, tmp_path, run_own, job_logs):
    rng = np.random.default_rng(0)
    for name in "ab":
        for kind, pixels in (
            ("images", rng.integers(0, 256, (64, 48, 3), np.uint8)),
            ("masks", rng.integers(0, 3, (64, 48), np.uint8)),
        ):
            path = tmp_path / "things" / kind / "all" / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    target = "work/evaluation/masks/things/all/base/none/metrics.json"
    world = {
        "device": "cpu",
        "resources": {"gpu_per_job": 0},
        "model": {"path": str(tiny_family("sd3")), "revision": None},
        "datasets": {
            "things": {
                "source": "folder", "root": "things", "classes": ["dog", "cat"], "labels": "mask",
                "splits": {"all": {"images": 2}},
            }
        },
        "extraction": {"noises": 1},
    }  # fmt: skip
    done = run_own(world, target)
    assert done.returncode == 0, done.stderr + job_logs()
    assert 0 < json.loads((tmp_path / target).read_text())["miou"] < 100
    (shard,) = (tmp_path / "work/attention/things/all/base").glob("shard-*.json")
    manifest = json.loads(shard.read_text())
    assert [item["grid"] for item in manifest["items"]] == [[8, 6]] * 2
    usual = {"cross_blocks": [1], "self_block": 1, "timestep": 515, "resize": "native"}
    assert manifest["parameters"] | usual == manifest["parameters"]
    assert {"transformer", "text_encoder_3"} <= {
        name.split("/")[0] for name in manifest["parameters"]["model"]
    }
