"""Photos of any kind are read to the right pixels, or refused in one line."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from attnseg.datasets.images import image_size, read_image
from attnseg.errors import UserError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)
ALPHA = RNG.integers(0, 256, (5, 7), np.uint8)
# what a viewer does with each EXIF orientation, in numpy
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


def over_grey(colour: np.ndarray) -> np.ndarray:
    share = ALPHA[..., None] / 255
    return colour * share + 128 * (1 - share)


def three(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=2)


def saved(path, image: Image.Image, **options):
    image.save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "PNG", "bmp", "tiff", "webp", "gif", "ppm", "jp2"])
def test_formats_without_loss_keep_every_pixel(suffix, tmp_path):
    options = {"lossless": True} if suffix == "webp" else {}
    image = Image.fromarray(RGB)
    if suffix == "gif":  # 35 colours fit its palette
        image = image.quantize(256)
    read = read_image(saved(tmp_path / f"a.{suffix}", image, **options))
    assert np.array_equal(read, np.asarray(image.convert("RGB")))
    if suffix != "gif":
        assert np.array_equal(read, RGB)


def test_a_wrong_suffix_does_not_matter(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(RGB).save(path, format="PNG")
    assert np.array_equal(read_image(path), RGB)


def test_grey_and_one_bit(tmp_path):
    assert np.array_equal(read_image(saved(tmp_path / "g.png", Image.fromarray(GREY))), three(GREY))
    bits = GREY > 127
    read = read_image(saved(tmp_path / "b.png", Image.fromarray(bits)))
    assert np.array_equal(read, three(bits * np.uint8(255)))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bits_are_scaled_not_cut(suffix, tmp_path):
    deep = RNG.integers(0, 65536, (5, 7)).astype(np.uint16)
    read = read_image(saved(tmp_path / f"d.{suffix}", Image.fromarray(deep)))
    assert np.array_equal(read, three(np.round(deep / 257).astype(np.uint8)))


def test_floating_point_is_in_0_to_1(tmp_path):
    values = RNG.random((5, 7)).astype(np.float32)
    read = read_image(saved(tmp_path / "f.tiff", Image.fromarray(values)))
    assert np.array_equal(read, three(np.round(values * 255).astype(np.uint8)))


def test_transparency_is_laid_over_grey(tmp_path):
    image = Image.fromarray(np.dstack([RGB, ALPHA]))
    read = read_image(saved(tmp_path / "a.png", image)).astype(float)
    assert np.abs(read - over_grey(RGB)).max() <= 1
    image = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
    read = read_image(saved(tmp_path / "la.png", image)).astype(float)
    assert np.abs(read - over_grey(three(GREY))).max() <= 1


def test_a_transparent_entry_of_a_palette_is_grey(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([255, 0, 0, 0, 255, 0])
    read = read_image(saved(tmp_path / "p.png", image, transparency=1))
    assert read.tolist() == [[[255, 0, 0], [128, 128, 128]]]


def test_cmyk_becomes_rgb(tmp_path):
    image = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    read = read_image(saved(tmp_path / "c.tiff", image))
    assert np.array_equal(read, np.full((4, 4, 3), (255, 0, 0)))


def test_of_an_animation_the_first_frame(tmp_path):
    first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    path = saved(tmp_path / "a.webp", first, save_all=True, append_images=[second], lossless=True)
    assert np.array_equal(read_image(path), np.asarray(first))


@pytest.mark.parametrize("orientation", TURNED)
def test_own_photos_are_turned_and_a_data_sets_stay_as_stored(orientation, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path / "a.png", Image.fromarray(RGB), exif=exif)
    assert np.array_equal(read_image(path), RGB)
    assert np.array_equal(read_image(path, turn=True), TURNED[orientation](RGB))
    for pixels in (RGB, GREY):  # Pillow turns a TIFF itself, and maps some in the wrong size
        path = saved(tmp_path / "a.tif", Image.fromarray(pixels), exif=exif)
        shown = pixels if pixels.ndim == 3 else three(pixels)
        assert np.array_equal(read_image(path), shown)
        assert image_size(path) == pixels.shape[:2]
        turned = TURNED[orientation](shown)
        assert np.array_equal(read_image(path, turn=True), turned)
        assert image_size(path, turn=True) == turned.shape[:2]


def bomb() -> bytes:
    """A PNG of 100,000 x 100,000 pixels, as far as its header goes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    body = zlib.compress(b"\0" * 1000)
    signature = b"\x89PNG\r\n\x1a\n"
    return signature + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_what_cannot_be_read_is_one_line_with_its_name(tmp_path):
    large = Image.fromarray(RNG.integers(0, 256, (64, 64, 3), np.uint8))
    broken = {
        "empty.jpg": b"",
        "text.png": b"hello",
        "bomb.png": bomb(),
        "truncated.jpg": encoded(large, "JPEG")[:800],
        "truncated.png": encoded(large, "PNG")[:800],
        "truncated.webp": encoded(large, "WEBP")[:200],
        "lab.tiff": encoded(Image.new("LAB", (4, 4)), "TIFF"),
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError) as error:
            read_image(tmp_path / name)
        assert name in str(error.value) and "\n" not in str(error.value)


def test_damaged_files_never_end_in_another_error(tmp_path):
    """300 pictures of all kinds and sizes, whole, cut or with bytes changed."""
    modes = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F")
    kinds = {"PNG": modes[:6], "JPEG": ("L", "RGB", "CMYK"), "TIFF": modes, "WEBP": ("RGB", "RGBA")}
    sizes = [(1, 1), (1, 50), (20000, 10), (37, 64), (200, 100)]
    rng = np.random.default_rng(1)
    outcomes = {"array": 0, "line": 0}
    for number in range(300):
        kind = str(rng.choice(list(kinds)))
        mode = str(rng.choice(kinds[kind]))
        width, height = sizes[rng.integers(len(sizes))]
        if kind == "WEBP":
            width = min(width, 16000)
        exif = Image.Exif()
        exif[0x0112] = int(rng.integers(0, 12))
        content = bytearray(encoded(Image.new(mode, (width, height)), kind, exif=exif))
        damage = rng.integers(3)
        if damage == 1:
            del content[rng.integers(len(content)) :]
        elif damage == 2:
            for place in rng.integers(0, len(content), 3):
                content[place] = rng.integers(256)
        path = tmp_path / f"{number}.{rng.choice(['jpg', 'PNG', 'tif', 'txt'])}"
        path.write_bytes(content)
        try:
            read = read_image(path, turn=True)
        except UserError as error:
            assert str(path) in str(error) and "\n" not in str(error)
            outcomes["line"] += 1
            assert damage
        else:
            assert read.dtype == np.uint8 and read.ndim == 3 and read.shape[2] == 3
            outcomes["array"] += 1
            if not damage:
                assert {read.shape[0], read.shape[1]} == {width, height}
    assert min(outcomes.values()) > 30
