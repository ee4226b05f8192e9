#!/usr/bin/env python3
"""Time and peak memory of extract_attention on one photo, with a Stable Diffusion 1.4 of full size.

    python scripts/tools/benchmark_full_size.py --photo photo.jpg --limit 20

Needs no download: the model is that of make_random_sd.py, whose random weights cost as much as the
trained ones. It is made in --folder (4.3 GB on the disk), and removed at the end unless --keep is
given. A photo of 500x375 pixels becomes 768x576.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "scripts"))

from attnseg.errors import UserError, run  # noqa: E402


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photo", type=Path, help="default: noise of 500x375 pixels")
    parser.add_argument("--folder", type=Path, help="for the model (default: a temporary one)")
    parser.add_argument("--keep", action="store_true", help="leave the model in --folder")
    parser.add_argument("--noises", type=int, default=1)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    parser.add_argument("--limit", type=float, help="exit with 1 above this peak memory, in GiB")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        model = (args.folder or Path(temporary)) / "sd_1_4_random"
        if not (model / "model_index.json").is_file():
            make = REPOSITORY / "scripts/tools/make_random_sd.py"
            subprocess.run([sys.executable, str(make), "--output", str(model)], check=True)
        try:
            seconds, peak, size = measure(args, model, Path(temporary))
        finally:
            if not args.keep:
                shutil.rmtree(model, ignore_errors=True)
    print(
        f"extract_attention, one photo at {size}, noises {args.noises}, {args.device}: "
        f"{seconds:.1f} s with the start, peak memory {peak:.2f} GiB"
    )
    if args.limit is not None and peak > args.limit:
        raise UserError(f"peak memory {peak:.2f} GiB is above the limit of {args.limit:g} GiB")
    return 0


def measure(args: argparse.Namespace, model: Path, folder: Path) -> tuple[float, float, str]:
    """Extract from one photo; return seconds, peak memory in GiB, and the size of the model's input."""
    import numpy as np
    from PIL import Image

    root = folder / "VOC2012"
    for name in ("JPEGImages", "Annotations", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    if args.photo:
        photo = Image.open(args.photo).convert("RGB")
    else:
        noise = np.random.default_rng(0).integers(0, 256, (375, 500, 3), np.uint8)
        photo = Image.fromarray(noise)
    photo.save(root / "JPEGImages/photo.jpg")
    (root / "ImageSets/Segmentation/one.txt").write_text("photo\n")
    (root / "Annotations/photo.xml").write_text(
        "<annotation><object><name>dog</name></object></annotation>"
    )
    command = [
        sys.executable, str(REPOSITORY / "scripts/extract_attention.py"), "--root", str(root),
        "--split", "one", "--model", str(model), "--set", f"noises={args.noises}",
        "--device", args.device, "--output", str(folder / "shard-00000.safetensors"),
    ]  # fmt: skip
    started = time.perf_counter()
    _, status, usage = os.wait4(subprocess.Popen(command).pid, 0)
    seconds = time.perf_counter() - started
    if status:
        raise UserError("extract_attention failed: see above")
    (item,) = json.loads((folder / "shard-00000.json").read_text())["items"]
    height, width = item["padded"]
    return seconds, usage.ru_maxrss / 2**20, f"{width}x{height}"


if __name__ == "__main__":
    sys.exit(run(main))
