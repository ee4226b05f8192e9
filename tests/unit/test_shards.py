"""Shards that were damaged behind the workflow's back."""

import json
import random

import pytest
import torch

from attnseg.errors import UserError
from attnseg.io.files import sealed, write_json
from attnseg.io.shard_parts import build_shard
from attnseg.io.shards import problem_with, read_shards, write_shard

PARAMETERS = {"version": 1, "blocks": [4, 5]}


def item(name: str) -> dict:
    return {"id": name, "classes": ["dog"], "image_size": (48, 64), "skipped": [], "share": 0.125}


@pytest.fixture
def folder(tmp_path):
    """Three shards of a photo each, and their list."""
    for i in range(3):
        tensors = {f"p{i}/cross": torch.full((1, 2, 2), float(i), dtype=torch.half)}
        write_shard(tmp_path / f"shard-0000{i}.safetensors", tensors, [item(f"p{i}")], PARAMETERS)
    shards = {f"shard-0000{i}.safetensors": "" for i in range(3)}
    write_json(tmp_path / "manifest.json", sealed({"shards": shards}))
    return tmp_path


def flip(path, at: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1 << bit
    path.write_bytes(content)


def test_a_flipped_bit_of_the_items_is_seen_or_changes_nothing(folder):
    path, manifest = folder / "shard-00000.safetensors", folder / "shard-00000.json"
    good, told = manifest.read_bytes(), json.loads(manifest.read_text())
    draw, seen = random.Random(0), 0
    for _ in range(400):
        flip(manifest, draw.randrange(len(good)), draw.randrange(8))
        if problem_with(path, PARAMETERS) is None:
            kept = json.loads(manifest.read_text())
            assert {**kept, "digest": 0} == {**told, "digest": 0} or "digest" not in kept
        else:
            seen += 1
        manifest.write_bytes(good)
    assert seen > 300
    assert problem_with(path, PARAMETERS) is None


@pytest.mark.parametrize("name", ["shard-00001.safetensors", "shard-00001.json"])
@pytest.mark.parametrize("damage", ["flipped", "truncated", "empty", "removed"])
def test_a_damaged_shard_is_named_and_removed_alone(folder, name, damage):
    path = folder / name
    match damage:
        case "flipped":
            flip(path, path.stat().st_size // 2, 0)
        case "truncated":
            path.write_bytes(path.read_bytes()[:-5])
        case "empty":
            path.write_bytes(b"")
        case "removed":
            path.unlink()
    with pytest.raises(UserError, match=r"shard-00001\.safetensors: .*removed, so that the next"):
        list(read_shards(folder))
    # without their list, so that the workflow makes the one, and then the list
    assert (
        sorted(file.stem for file in folder.iterdir()) == ["shard-00000"] * 2 + ["shard-00002"] * 2
    )


def test_a_damaged_list_of_shards_is_named_and_removed_alone(folder):
    flip(folder / "manifest.json", 15, 0)
    with pytest.raises(UserError, match=r"manifest\.json: damaged"):
        list(read_shards(folder))
    assert not (folder / "manifest.json").exists() and len(list(folder.glob("shard-*"))) == 6


def test_a_batch_that_was_damaged_while_its_shard_waited_is_made_again_alone(tmp_path):
    made, output = [], tmp_path / "shard-00000.safetensors"

    def work(part):
        if 4 in part and not made.count(4):
            made.append(4)
            raise KeyboardInterrupt
        made.extend(part)
        return {f"{i}/cross": torch.full((2,), float(i)) for i in part}, [
            item(str(i)) for i in part
        ]

    with pytest.raises(KeyboardInterrupt):
        build_shard(output, range(6), work, PARAMETERS, 2)
    (kept,) = (path for path in tmp_path.glob(".shard-*") if path.is_dir())
    flip(kept / "00000002-2.safetensors", -1, 0)
    flip(kept / "00000000-2.json", 40, 1)
    made[:] = [4]
    build_shard(output, range(6), work, PARAMETERS, 2)
    assert made == [4, 0, 1, 2, 3, 4, 5]
    values = {item["id"]: float(kinds["cross"][0]) for item, kinds in read_shards(tmp_path)}
    assert values == {str(i): float(i) for i in range(6)}
