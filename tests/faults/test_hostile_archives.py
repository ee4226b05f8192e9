"""Archives that reach for more than their folder, and pickles where weights are expected."""

import io
import os
import pickle
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

import fetch_backbone
from attnseg.attn2mask.dreambooth_lora import load_lora
from attnseg.backbones import load_backbone
from attnseg.errors import UserError, one_line
from attnseg.io import archives
from attnseg.io.archives import extract
from attnseg.io.files import parameters_hash, sealed, sha256, write_json
from attnseg.io.shards import read_arrays
from attnseg.io.tensors import read_checkpoint
from attnseg.personalised.descriptors import load_dino
from attnseg.personalised.personal import INFO, PROJECTIONS, read_personal
from attnseg.personalised.predictions import read_rows
from attnseg.results.measured import read_counts
from attnseg.segmentation.model import build_model, load_pretrained, load_segmentor
from attnseg.settings import read_segmentor


@pytest.fixture(autouse=True)
def counted(record_property):
    record_property("hostile", 1)


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder to unpack in, beside one that is not to be touched."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept.txt").write_text("kept")
    (tmp_path / "in" / "out").mkdir(parents=True)
    return tmp_path / "in" / "out"


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0, mode: int = 0o644
):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mode = kind, target, size, mode
    return info


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes] | tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            info, content = member if isinstance(member, tuple) else (member, b"")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() and not p.is_symlink() else None
        for p in folder.rglob("*")
    }


def refused(archive: Path, place: Path, pattern: str) -> None:
    before = tree(place.parents[1])
    with pytest.raises(UserError, match=pattern) as error:
        extract(archive, place)
    assert str(archive) in str(error.value) and "\n" not in one_line(error.value)
    assert tree(place.parents[1]) == before


OUT = [
    "../evil",
    "a/../../evil",
    "/evil",
    "..\\evil",
    "C:\\evil",
    "c:/evil",
    "//evil",
    "./../evil",
    "\\\\host\\evil",
]


@pytest.mark.parametrize("name", OUT)
def test_a_path_out_of_the_folder(place, tmp_path, name):
    refused(
        tar_of(tmp_path / "a.tar", (entry("ok"), b"1"), (entry(name), b"2")), place, "leads out"
    )
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("ok", "1")
        file.writestr(zipfile.ZipInfo(name), "2")
    refused(tmp_path / "a.zip", place, "leads out")


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.CONTTYPE,
        b"Z",
    ],
)
def test_a_link_a_device_or_an_unknown_kind(place, tmp_path, kind):
    """A link to a folder outside, and a file through it."""
    through = (entry("link/evil"), b"2")
    archive = tar_of(
        tmp_path / "a.tar", (entry("ok"), b"1"), entry("link", kind, "../../outside"), through
    )
    if kind == tarfile.CONTTYPE:  # a file to tarfile: then `link` is one, and no folder
        refused(archive, place, "cannot be unpacked")
    else:
        refused(archive, place, "is a (link|device)")


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_link_or_device_in_a_zip(place, tmp_path, mode):
    info = zipfile.ZipInfo("link")
    info.external_attr = (mode | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(info, "../../outside")
        file.writestr("link/evil", "2")
    refused(tmp_path / "a.zip", place, "is a (link|device)")


def test_a_bomb_is_refused_before_it_fills_the_disk(place, tmp_path, monkeypatch):
    """Zeros: 20 MB in 20 kB; in many files, too."""
    monkeypatch.setattr(archives, "BOMB_BYTES", 10**6)
    zeros = bytes(2 * 10**6)
    files = [(entry(f"{i}.bin"), zeros) for i in range(10)]
    refused(tar_of(tmp_path / "a.tar", *files), place, "over 100 times its size")
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for info, content in files:
            file.writestr(info.name, content)
    refused(tmp_path / "a.zip", place, "over 100 times its size")
    assert extract(tmp_path / "a.zip", place, only=["0.bin"]) == 1  # what is not wanted is no bomb


def test_annotations_that_compress_well_are_no_bomb(place, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "BOMB_BYTES", 10**5)
    text = b"".join(
        b'{"image_id": %d, "category_id": %d, "bbox": [1, 2, 3, 4]},\n' % (i, i % 80)
        for i in range(20000)
    )
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("instances.json", text)
    assert extract(tmp_path / "a.zip", place) == 1


def test_a_zip_that_lies_about_its_size(place, tmp_path):
    """Its directory says one byte, its content is a million."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a", bytes(10**6))
    content = (tmp_path / "a.zip").read_bytes()
    told = (10**6).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(content.replace(told, (1).to_bytes(4, "little")))
    refused(tmp_path / "a.zip", place, "damaged")


@pytest.mark.parametrize(
    "names", [("a", "a/b"), ("a/b", "a"), (".", "x"), ("x" * 300,), ("a/" * 2500 + "b",)],
    ids=["file then folder", "folder then file", "the folder itself", "long name", "deep"],
)  # fmt: skip
def test_names_that_no_folder_takes(place, tmp_path, names):
    refused(
        tar_of(tmp_path / "a.tar", *((entry(n), b"1") for n in names)), place, "cannot be unpacked"
    )


def test_a_name_with_a_zero_byte(place, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("aXb", "1")
    content = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(content.replace(b"aXb", b"a\0b"))
    refused(tmp_path / "a.zip", place, "damaged")


def test_a_file_in_the_place_of_a_folder_of_the_user_s(place, tmp_path):
    (place / "mine").mkdir()
    (place / "mine" / "photo").write_text("1")
    refused(tar_of(tmp_path / "a.tar", (entry("mine"), b"2")), place, "cannot be unpacked")


def test_modes_are_not_taken_over(place, tmp_path):
    extract(tar_of(tmp_path / "a.tar", (entry("run", mode=0o6777), b"1")), place)
    assert stat.S_IMODE((place / "run").stat().st_mode) & 0o7111 == 0


def test_names_of_any_language_stay_in_the_folder(place, tmp_path):
    names = ["two\nlines", "\u202egpj.exe", "$(touch ran)", "`x`", "'\"", "é", "-rf"]
    assert extract(tar_of(tmp_path / "a.tar", *((entry(n), b"1") for n in names)), place) == len(
        names
    )
    assert {p.name for p in place.iterdir()} == set(names) and not Path("ran").exists()


# -- pickles


class Trap:
    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return (os.system, (f"touch {self.file}",))


def trapped(path: Path, ran: Path, how: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if how == "torch":
        torch.save({"state_dict": {"a": Trap(ran)}, "made_with": "x"}, path)
    else:
        path.write_bytes(pickle.dumps({"a": Trap(ran)}))
    return path


def shard(path: Path) -> None:
    told = {"sha256": sha256(path), "parameters_hash": parameters_hash({}), "items": [{"id": "a"}]}
    write_json(path.with_suffix(".json"), sealed(told))
    list(read_arrays(path.parent))


def subject(path: Path) -> None:
    write_json(path.with_name(INFO), {"classes": {"<new1>": "mug"}})
    read_personal(path.parent)


def counts(path: Path) -> None:
    read_counts(path.parent, path.name)


def segmentor(path: Path) -> None:
    model = build_model(
        read_segmentor(
            {"backbone": "resnet18", "width": 8, "stem": "small", "output_stride": 8, "rates": [1]}
        ),
        3,
    )
    load_pretrained(model, str(path))


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a shard": ("shard-00000.safetensors", shard),
    "a segmentor": ("weights.safetensors", load_segmentor),
    "pretrained weights": ("weights.pth", segmentor),
    "pretrained safetensors": ("weights.safetensors", segmentor),
    "a subject": (PROJECTIONS, subject),
    "correlations": ("dino.safetensors", read_rows),
    "counts": ("per_image.npz", counts),
}


@pytest.mark.parametrize("how", ["torch", "pickle"])
@pytest.mark.parametrize("what", list(READERS))
def test_a_pickle_is_not_run(tmp_path, what, how):
    name, read = READERS[what]
    path = trapped(tmp_path / "folder" / name, tmp_path / "ran", how)
    with pytest.raises(UserError) as error:
        read(path)
    assert str(path.parent) in str(error.value) and "weights_only" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_as_a_checkpoint_is_named_and_left_out(tmp_path, how, capsys):
    path = trapped(tmp_path / "checkpoint.pt", tmp_path / "ran", how)
    assert read_checkpoint(path) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{path}: damaged") and "weights_only" not in line
    assert not path.exists() and not (tmp_path / "ran").exists()


def test_arrays_of_objects_are_not_run(tmp_path):
    ids = np.array([Trap(tmp_path / "ran")], dtype=object)
    np.savez(tmp_path / "per_image.npz", ids=ids)
    with pytest.raises(UserError, match="per_image.npz: damaged"):
        read_counts(tmp_path, "per_image.npz")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_a_pickle_as_a_lora_or_an_image_model(tmp_path, tiny_backbone, how):
    path = trapped(tmp_path / "lora.safetensors", tmp_path / "ran", how)
    with pytest.raises(UserError, match="lora.safetensors: not a readable"):
        load_lora(tiny_backbone, path)
    trapped(tmp_path / "dino" / "pytorch_model.bin", tmp_path / "ran", how)
    (tmp_path / "dino" / "config.json").write_text('{"model_type": "vit", "num_hidden_layers": 1}')
    with pytest.raises(UserError, match="no ViT can be loaded"):
        load_dino(str(tmp_path / "dino"))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("how", ["torch", "pickle"])
@pytest.mark.parametrize("beside", [False, True], ids=["in place of", "beside"])
def test_a_pickle_of_a_network(tmp_path, tiny_sd, how, beside):
    folder = Path(shutil.copytree(tiny_sd, tmp_path / "model"))
    if not beside:
        (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    trapped(folder / "unet" / "diffusion_pytorch_model.bin", tmp_path / "ran", how)
    if beside:
        load_backbone(folder, device="cpu")
    else:
        with pytest.raises(UserError, match="unet/ has only .*a pickle, which is never read"):
            load_backbone(folder, device="cpu")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "kind", ["DiffusionPipeline", "utils", "__builtins__", "UNet2DConditionModel"]
)
def test_a_scheduler_is_nothing_else(tmp_path, tiny_sd, kind):
    folder = Path(shutil.copytree(tiny_sd, tmp_path / "model"))
    (folder / "scheduler" / "scheduler_config.json").write_text(f'{{"_class_name": "{kind}"}}')
    with pytest.raises(UserError, match="scheduler/ cannot be loaded"):
        load_backbone(folder, device="cpu")


def test_a_downloaded_pickle_is_not_run(tmp_path, monkeypatch):
    made = trapped(tmp_path / "made.pth", tmp_path / "ran", "torch")
    digits = sha256(made)[:8]

    def fetched(address: str, path: Path, **_: object) -> Path:
        return Path(shutil.copy(made, path))

    monkeypatch.setattr(fetch_backbone, "download", fetched)
    with pytest.raises(UserError, match="a pickle of more than weights"):
        fetch_backbone.main(
            [f"https://x.org/a-{digits}.pth", "--output", str(tmp_path / "a.safetensors")]
        )
    assert not (tmp_path / "ran").exists() and not (tmp_path / "a.safetensors").exists()
