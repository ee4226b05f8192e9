"""Files of tensors."""

import torch
from safetensors import safe_open

from attnseg.io.tensors import save_tensors


def test_equal_tensors_and_metadata_are_equal_bytes(tmp_path):
    tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1, 2], dtype=torch.int8)}
    told = {
        name: f'{{"{name}": "\u00e9\\n\x01\x7f/"}}'
        for name in "classes settings digest train".split()
    }
    found = set()
    for i in range(20):
        path = tmp_path / f"{i}.safetensors"
        save_tensors(tensors, path, dict(sorted(told.items(), reverse=bool(i % 2))))
        found.add(path.read_bytes())
    assert len(found) == 1
    with safe_open(path, "pt") as file:
        assert file.metadata() == told
        assert all(torch.equal(file.get_tensor(name), tensors[name]) for name in tensors)
