#!/usr/bin/env python3
"""Check that shards are complete, and list their contents.

Damaged shards are named and removed: the workflow's next run, or extract_attention, makes only these again.
"""

import json
import sys
from pathlib import Path

from attnseg.app import flags
from attnseg.errors import UserError, run
from attnseg.io.files import sealed, write_json
from attnseg.io.shards import manifest_path, problem_with, withdrawn


def main(argv: list[str] | None = None) -> int:
    parser = flags.program(__doc__, output="JSON list of what they hold")
    parser.add_argument("shards", type=Path, nargs="+", help="shard-NNNNN.safetensors files")
    parser.add_argument("--images", type=int, help="how many photos there must be")
    args = parser.parse_args(argv)
    problems = [(path, problem) for path in args.shards if (problem := problem_with(path))]
    if problems:
        raise UserError(
            "; ".join(f"{path}: {withdrawn(path, problem)}" for path, problem in problems)
        )
    manifests = [json.loads(manifest_path(path).read_text()) for path in args.shards]
    items = [item for manifest in manifests for item in manifest["items"]]
    ids = [item["id"] for item in items]
    if len(set(ids)) != len(ids) or (args.images is not None and len(ids) != args.images):
        raise UserError(
            f"{args.shards[0].parent}: the shards hold {len(set(ids))} photos, "
            f"{args.images} are expected: delete the folder and run extract_attention again"
        )
    made_with = [
        {k: v for k, v in manifest["parameters"].items() if k != "ids"} for manifest in manifests
    ]
    different = [p for p, m in zip(args.shards, made_with, strict=True) if m != made_with[0]]
    if different:
        raise UserError(
            f"{different[0]}: made with other parameters than {args.shards[0].name}, or by other code: "
            "make all again, with `--forcerun extract_attention` or without the folder"
        )
    skipped = [item["id"] for item in items if item["skipped"]]
    unlabelled = [item["id"] for item in items if not item["classes"]]
    write_json(
        args.output,
        sealed(
            {
                "images": len(items),
                "shards": {
                    p.name: m["sha256"] for p, m in zip(args.shards, manifests, strict=True)
                },
                "parameters": made_with[0],
                "precision": " ".join(
                    sorted({m["precision"] for m in manifests if "precision" in m})
                ),
                "timing": {
                    key: [
                        n for manifest in manifests for n in manifest.get("timing", {}).get(key, [])
                    ]
                    for key in ("labels", "seconds")
                },
                "skipped": skipped,
                "unlabelled": unlabelled,
            }
        ),
    )
    print(
        f"{len(items)} photos, {len(skipped)} with a constant map, {len(unlabelled)} without labels"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
