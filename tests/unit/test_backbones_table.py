"""The table of backbones: its values are those of the evaluations and of what the extraction cost."""

import csv
import json

import make_backbones
from attnseg.results import render
from attnseg.results.backbones import NOTHING_PUBLISHED


def evaluation(folder, name: str, miou: float) -> str:
    path = folder / "evaluation" / name / "metrics.json"
    path.parent.mkdir(parents=True)
    metrics = {
        "dataset": "mini_voc", "split": "train", "n_images": 4, "miou": miou, "model": "a/model",
        "seed": 0, "timing": {"labels": [3, 5], "seconds": [0.5, 1.5]},
    }  # fmt: skip
    path.write_text(json.dumps(metrics))
    return str(path)


def job(folder, rule: str, peak: float, read: str, wrote: str) -> None:
    path = folder / "benchmarks" / rule / f"{peak}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    attempt = {"seconds": 1.0, "cpu_seconds": 1.0, "peak_mib": peak}
    path.write_text(json.dumps({"attempts": [attempt], "read": [read], "wrote": [wrote]}))


def test_values_are_those_of_masks_and_of_their_extraction(tmp_path):
    files = {
        "Initial": evaluation(tmp_path, "once/none", 41.26),
        "dCRF": evaluation(tmp_path, "once/crf", 50.0),
    }
    maps = str(tmp_path / "attention" / "shard-00000.safetensors")
    job(tmp_path, "extract_attention", 700.4, "photos", maps)
    job(tmp_path, "evaluate_masks", 900.0, maps, files["Initial"])
    rows = [
        {"method": "U-Net, propagated", "protocol": "t 150", "missing": "", "files": files},
        {"method": "MM-DiT", "protocol": "t 300", "missing": "no folder x", "files": {}},
    ]
    output = tmp_path / "results" / "backbones.csv"
    output.parent.mkdir()
    arguments = ["--rows", json.dumps(rows), "--benchmarks", str(tmp_path / "benchmarks")]
    assert make_backbones.main([*arguments, "--output", str(output)]) == 0
    with open(output, newline="") as file:
        lines = {(line["method"], line["metric"]): line for line in csv.DictReader(file)}
    ours = {cell: line["ours"] for cell, line in lines.items() if line["ours"]}
    assert ours == {
        ("U-Net, propagated", "Initial"): "41.3",
        ("U-Net, propagated", "dCRF"): "50.0",
        ("U-Net, propagated", "s/photo"): "0.500",  # (0.5 + 1.5) / 4
        ("U-Net, propagated", "peak MiB"): "700",
    }
    assert all("no folder x" in line["note"] for line in lines.values() if not line["ours"])
    assert all(line["paper"] == "" for line in lines.values())
    first = lines["U-Net, propagated", "Initial"]
    assert first["model"] == "a/model" and "t 150" in first["note"]
    printed = render.text(output)
    assert NOTHING_PUBLISHED[1:] in printed.replace("\n", " ") and "peak MiB" in printed
    assert output.with_suffix(".svg").is_file() and output.with_suffix(".html").is_file()
    provenance = json.loads(output.with_suffix(".provenance.json").read_text())
    assert list(provenance["evaluations"]) == [
        "U-Net, propagated, Initial",
        "U-Net, propagated, dCRF",
    ]
