"""Downloading a data set from a local server, up to its manifest, and the errors on the way."""

import functools
import http.server
import io
import json
import tarfile
import threading

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy.io import savemat

import download_dataset
from attnseg.datasets import completeness, parts
from attnseg.datasets.coco import DATASET as coco
from attnseg.datasets.images import PALETTE, read_mask
from attnseg.datasets.voc import DATASET as voc
from attnseg.errors import UserError

SHAPE = (8, 10)


def png(mask):
    image = Image.fromarray(mask, "P")
    image.putpalette(PALETTE.tobytes())
    return encoded(image, "PNG")


def encoded(image, form):
    content = io.BytesIO()
    image.save(content, format=form)
    return content.getvalue()


def mat(mask):
    content = io.BytesIO()
    savemat(content, {"GTcls": {"Segmentation": mask, "CategoriesPresent": [1]}})
    return content.getvalue()


def archive(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def server(tmp_path):
    """A VOC of three photos and an SBD of two, served; its address and folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    photo = encoded(Image.new("RGB", SHAPE[::-1]), "JPEG")
    mask = np.full(SHAPE, 3, np.uint8)
    root = "VOCdevkit/VOC2012"
    members = {f"{root}/JPEGImages/{i}.jpg": photo for i in ("a", "b", "c")}
    members |= {f"{root}/SegmentationClass/{i}.png": png(mask) for i in ("a", "b")}
    members |= {
        f"{root}/ImageSets/Segmentation/train.txt": b"a\n",
        f"{root}/ImageSets/Segmentation/val.txt": b"b\n",
    }
    archive(folder / "voc.tar", members)
    sbd = {"train.txt": b"a\nb\n", "val.txt": b"c\n", "img/c.jpg": photo, "cls/c.mat": mat(mask)}
    archive(folder / "sbd.tgz", {f"benchmark_RELEASE/dataset/{n}": c for n, c in sbd.items()})
    handler = functools.partial(Quiet, directory=folder)
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=http_server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{http_server.server_port}", folder
    http_server.shutdown()
    http_server.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def program(server, tmp_path):
    """The program with a registry whose addresses and counts are those of the local VOC."""
    entries = completeness.read_registry()
    voc_parts = entries["voc"]["parts"]
    for name, file in (("trainval", "voc.tar"), ("sbd", "sbd.tgz"), ("test", "absent.tar")):
        voc_parts[name]["urls"] = [f"{server[0]}/moved/{file}", f"{server[0]}/{file}"]
        for key in ("sha256", "md5", "bytes"):
            voc_parts[name].pop(key, None)
    voc_parts["trainval"]["holds"] = {"JPEGImages": 3, "ImageSets/Segmentation/val.txt": 1}
    voc_parts["sbd"]["holds"] = {"SBD/cls": 1}
    voc_parts["aug"]["holds"] = {
        "SegmentationClassAug": 3,
        "ImageSets/Segmentation/trainaug.txt": 2,
    }
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump(entries, sort_keys=False))

    def run(*splits, dataset="voc", source="download"):
        return download_dataset.main(
            [
                "--dataset", dataset, "--root", str(tmp_path / "data"), "--source", source,
                "--splits", *splits, "--output", str(tmp_path / f"{dataset}.json"),
                "--registry", str(tmp_path / "registry.yaml"),
            ]
        )  # fmt: skip

    return run


def test_voc_is_downloaded_unpacked_and_augmented(program, tmp_path, capsys):
    assert program("train=1", "trainaug=2", "val=1") == 0
    manifest = json.loads((tmp_path / "voc.json").read_text())
    assert {name: split["images"] for name, split in manifest["splits"].items()} == {
        "train": 1, "trainaug": 2, "val": 1,
    }  # fmt: skip
    assert voc.read_split(tmp_path / "data", "trainaug") == ["a", "c"]
    assert (read_mask(voc.mask_path(tmp_path / "data", "c")) == 3).all()
    error = capsys.readouterr().err
    assert "terms" in error and error.index("terms") < error.index("unpacking")
    assert "moved/voc.tar: 404" in error  # the second address was tried
    assert not (tmp_path / "data" / "SBD" / "img").exists()
    assert len(json.loads((tmp_path / "downloads.lock.json").read_text())) == 2


def test_what_is_there_is_not_downloaded_again(program, server, tmp_path, capsys):
    program("train=1", "trainaug=2", "val=1")
    for file in server[1].iterdir():
        file.unlink()
    capsys.readouterr()
    assert program("train=1", "trainaug=2", "val=1") == 0
    assert capsys.readouterr().err == ""


def test_a_split_that_cannot_be_had_and_nothing_waits_for_is_left_out(program, tmp_path, capsys):
    assert program("train=1", "trainaug=2", "val=1", "test=5") == 0
    manifest = json.loads((tmp_path / "voc.json").read_text())
    assert set(manifest["missing"]) == {"test"}
    assert "warning: split test is left out" in capsys.readouterr().err


def test_what_a_complete_split_needs_is_not_asked_for_on_behalf_of_another(
    program, tmp_path, monkeypatch, capsys
):
    """A VOC without test.txt, and without what its other splits do not read."""
    program("train=1", "trainaug=2", "val=1")
    (tmp_path / "data/JPEGImages/b.jpg").rename(tmp_path / "b.jpg")
    (tmp_path / "data/ImageSets/Segmentation/val.txt").unlink()

    def offline(part, *_):
        raise UserError(f"{part['what']}: unreachable")

    monkeypatch.setattr(parts, "get_part", offline)
    capsys.readouterr()
    assert program("train=1", "trainaug=2", "test=5") == 0
    said = capsys.readouterr().err
    assert "warning: photos of test" in said and "warning: split test is left out" in said
    assert set(json.loads((tmp_path / "voc.json").read_text())["splits"]) == {"train", "trainaug"}
    with pytest.raises(UserError, match="photos, objects, masks of train and val: unreachable"):
        program("train=1", "trainaug=2", "val=1", "test=5")


def test_a_wrong_number_of_images_is_refused(program, tmp_path):
    with pytest.raises(UserError, match="train lists 1 images, .*train.images says 2"):
        program("train=2", "trainaug=2", "val=1")
    assert not (tmp_path / "voc.json").exists()


def test_a_folder_is_not_added_to(program, tmp_path):
    with pytest.raises(UserError, match="train.txt: no list .*set datasets.voc.root"):
        program("train=1", source="folder")
    assert not (tmp_path / "data").exists()


def test_photos_of_ones_own_need_neither_masks_nor_every_split(tmp_path, capsys):
    root, manifest = tmp_path / "mine", tmp_path / "voc.json"
    for folder in ("JPEGImages", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(root / "JPEGImages" / "a.jpg")
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("a\n")
    arguments = ["--dataset", "voc", "--root", str(root), "--source", "folder"]
    arguments += ["--splits", "train=1", "val=1449", "--output", str(manifest)]
    with pytest.raises(UserError, match="masks of train missing"):
        download_dataset.main(arguments)
    assert download_dataset.main([*arguments, "--without-masks", "train"]) == 0
    assert list(json.loads(manifest.read_text())["splits"]) == ["train"]
    assert "split val is left out" in capsys.readouterr().err


def test_a_data_set_that_needs_an_account_says_what_to_do(program):
    with pytest.raises(UserError, match="register at .*leftImg8bit_trainvaltest.zip") as error:
        program("val=2", dataset="cityscapes")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="cloud.tsinghua.edu.cn.*docs/mug19.md"):
        program("all=2468", dataset="mug19")
    with pytest.raises(UserError, match="datasets.vox: no such data set"):
        program("val=2", dataset="vox")


def test_an_archive_that_was_put_there_is_unpacked(program, tmp_path):
    (tmp_path / "downloads").mkdir()
    photo = encoded(Image.new("RGB", SHAPE[::-1]), "PNG")
    for kind, ending in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
        archive(
            tmp_path / "downloads" / f"{kind}_trainvaltest.zip",  # its content tells the kind
            {f"{kind}/val/aachen/aachen_000000_000019_{ending}.png": photo, "license.txt": b"x"},
        )
    assert program("val=1", dataset="cityscapes") == 0
    assert not (tmp_path / "data" / "license.txt").exists()


def test_coco_masks_are_built_where_the_photos_are(program, tmp_path):
    root = tmp_path / "data"
    (root / "annotations").mkdir(parents=True)
    categories = [{"id": n, "name": name} for n, name in enumerate(coco.classes, 1)]
    image = {"id": 1, "file_name": "COCO_val2014_000000000001.jpg", "height": 8, "width": 10}
    square = {"image_id": 1, "category_id": 2, "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}
    content = {"images": [image], "annotations": [square], "categories": categories}
    for split in ("train", "val"):
        for kind in ("instances", "captions"):
            (root / "annotations" / f"{kind}_{split}2014.json").write_text(json.dumps(content))
    (root / "val2014").mkdir()
    Image.new("RGB", (10, 8)).save(root / "val2014" / image["file_name"])
    entries = yaml.safe_load((tmp_path / "registry.yaml").read_text())
    entries["coco"]["parts"]["val"]["holds"] = {"val2014": 1}
    (tmp_path / "registry.yaml").write_text(yaml.safe_dump(entries, sort_keys=False))
    assert program("val=1", dataset="coco") == 0
    assert coco.labels(root, "COCO_val2014_000000000001", "mask") == ["bicycle"]


def test_files_of_coco_2017_alone_are_used_as_they_are(program, tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "get_part", lambda part, *_: pytest.fail(f"gets {part['what']}"))
    root = tmp_path / "data"
    (root / "annotations").mkdir(parents=True)
    (root / "val2017").mkdir()
    categories = [{"id": n, "name": name} for n, name in enumerate(coco.classes, 1)]
    image = {"id": 1, "file_name": "000000000001.jpg", "height": 8, "width": 10}
    square = {"image_id": 1, "category_id": 2, "segmentation": [[0, 0, 4, 0, 4, 4, 0, 4]]}
    content = {"images": [image], "annotations": [square], "categories": categories}
    for name in ("instances_train", "instances_val", "captions_train", "captions_val"):
        (root / "annotations" / f"{name}2017.json").write_text(json.dumps(content))
    Image.new("RGB", (10, 8)).save(root / "val2017" / image["file_name"])
    with pytest.raises(
        UserError, match="val2017 lists 1 images, datasets.coco.splits.val"
    ) as error:
        program("val=40137", dataset="coco")
    assert "\n" not in str(error.value) and not (root / "masks").exists()
    assert program("val=1", dataset="coco") == 0
    assert coco.labels(root, "000000000001", "mask") == ["bicycle"]
    assert {path.name for path in root.iterdir()} == {"annotations", "masks", "val2017"}


def test_every_checksum_has_an_origin_and_every_part_its_fields():
    known = {
        "what", "urls", "archive", "build", "bytes", "sha256", "md5", "checksums_from", "strip",
        "into", "only", "splits", "for", "optional", "blocks", "holds",
    }  # fmt: skip
    for name, entry in completeness.read_registry().items():
        assert {"title", "version", "site", "licence", "needed_for", "parts"} <= set(entry), name
        assert not entry.get("account") or entry["how"]
        for part in entry["parts"].values():
            assert set(part) <= known and "holds" in part
            if "sha256" in part or "md5" in part:
                assert all(url.startswith("https://") for url in part["checksums_from"])
