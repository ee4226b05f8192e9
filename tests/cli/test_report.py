"""The report: what it holds, and that a browser shows all of it."""

import functools
import http.server
import importlib
import json
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
CAPTIONS = SCRIPTS.parent / "workflow" / "report"
sys.path.insert(0, str(SCRIPTS))
make_claims = importlib.import_module("make_claims")
make_report = importlib.import_module("make_report")
make_table = importlib.import_module("make_table")
draw_dag = importlib.import_module("draw_dag")
make_figure_b8 = importlib.import_module("make_figure_b8")
make_figure_d9 = importlib.import_module("make_figure_d9")

CURVES = {"Time step": [{"at": 50, "masks": "t_50/crf"}, {"at": 150, "masks": "once/crf"}]}
DOT = """digraph snakemake_dag {
    0[label = "all", color = "0.1 0.6 0.85", style="rounded"];
    1[label = "make_table", color = "0.2 0.6 0.85", style="rounded"];
    2[label = "refine_masks", color = "0.3 0.6 0.85", style="rounded"];
    1 -> 0
    2 -> 1
}
"""


def evaluated(folder: Path, miou: float) -> Path:
    folder.mkdir(parents=True)
    about = {"dataset": "mini_voc", "split": "train", "n_images": 9, "model": "m", "seed": 0}
    (folder / "metrics.json").write_text(json.dumps({**about, "miou": miou}))
    return folder / "metrics.json"


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A report.zip of two tables, two figures, a picture and the ledger."""
    folder = tmp_path_factory.mktemp("report")
    results = folder / "results"
    for target in ("voc_table1", "attn2mask_voc_table2"):
        assert make_table.main([target, "--output", str(results / f"{target}.csv")]) == 0
    assert make_claims.main(["--output", str(results / "claims.csv")]) == 0
    pairs = [
        f"{name}={evaluated(folder / name, miou)}"
        for name, miou in (("t_50/crf", 40.0), ("once/crf", 45.0))
    ]
    curves = ["--curves", json.dumps(CURVES), "--output", str(results / "voc_figure_b8.csv")]
    assert make_figure_b8.main([*curves, "--evaluations", *pairs]) == 0
    similarity = evaluated(folder / "similarity", 0.0).parent
    rng = np.random.default_rng(0)
    np.savez(similarity / "per_image.npz", similarity=rng.random(40), miou=100 * rng.random(40))
    files = ["--similarity", str(similarity), "--output", str(results / "voc_figure_d9.csv")]
    assert make_figure_d9.main(files) == 0
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(results / "voc_figure_4.png")
    (results / "dag.svg").write_text(draw_dag.svg(*draw_dag.read_dot(DOT)))
    cost = folder / "benchmarks" / "extract_attention" / "voc" / "00000.json"
    cost.parent.mkdir(parents=True)
    attempts = [{"seconds": 90.0, "cpu_seconds": 60.0, "peak_mib": 512.5}]
    cost.write_text(json.dumps({"command": [], "attempts": attempts, "read": [], "wrote": []}))
    targets = ["voc_table1", "attn2mask_voc_table2", "voc_figure_b8", "voc_figure_d9"]
    arguments = [
        *("--tables", *(results / f"{target}.csv" for target in [*targets, "claims"])),
        *("--figures", *(results / f"{t}.svg" for t in targets[2:]), results / "voc_figure_4.png"),
        *("--captions", *(CAPTIONS / f"{target}.rst" for target in [*targets, "voc_figure_4"])),
        *("--references", evaluated(folder / "all_background", 3.5), "--dag", results / "dag.svg"),
        *("--benchmarks", folder / "benchmarks", "--output", folder / "report.zip"),
    ]
    assert make_report.main(list(map(str, arguments))) == 0
    return folder / "report.zip"


@pytest.fixture(scope="module")
def unpacked(report, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(report).extractall(folder)
    return folder


def test_the_ledger_comes_first_and_provenance_last(unpacked):
    sections = re.findall(r'<section id="([\w-]+)">', (unpacked / "index.html").read_text())
    assert sections == [
        *("claims", "voc_table1", "voc_figure_b8", "voc_figure_d9", "voc_figure_4"),
        *("attn2mask_voc_table2", "references", "dag", "cost", "provenance"),
    ]


def test_rules_are_shown_with_their_time_and_memory(unpacked):
    page = (unpacked / "index.html").read_text()
    row = re.search(r"<td>extract_attention</td>.*?</tr>", page, re.S)[0]
    assert re.findall(r"<td>([^<]*)</td>", row)[1:] == ["1", "1.5", "1.0", "1.5", "512"]


def test_every_link_and_picture_is_in_the_archive(unpacked):
    page = (unpacked / "index.html").read_text()
    targets = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert len(targets) > 20
    for target in targets:
        if target.startswith("#"):
            assert f'<section id="{target[1:]}">' in page
        elif not target.startswith("data:"):
            assert (unpacked / target).is_file(), target


# waits for the report in a frame, follows every link of it, and writes down what a browser saw
PROBE = """<!doctype html><title>probe</title><iframe id="f" src="index.html"
 style="width:1200px;height:800px"></iframe><pre id="out"></pre><script>
const out = {errors: [], images: [], links: [], sections: []};
window.addEventListener("load", async () => {
  const page = document.getElementById("f").contentDocument;
  for (const image of page.images) {
    await image.decode().catch(() => {});
    out.images.push([image.getAttribute("src"), image.naturalWidth, image.getBoundingClientRect().width]);
  }
  for (const section of page.querySelectorAll("section")) {
    const box = section.getBoundingClientRect();
    out.sections.push([section.id, box.width, box.height, section.querySelectorAll("td").length]);
  }
  for (const link of page.querySelectorAll("a")) {
    const target = link.getAttribute("href");
    if (target.startsWith("#")) out.links.push([target, page.querySelector(target) ? 200 : 404]);
    else out.links.push([target, (await fetch(link.href)).status]);
  }
  document.getElementById("out").textContent = "PROBE" + JSON.stringify(out) + "ENDS";
});
</script>"""


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        pytest.skip("no Chromium here (Debian: apt install chromium)")
    return found


def test_chromium_shows_every_table_and_picture_without_an_error(browser, unpacked, tmp_path):
    (unpacked / "probe.html").write_text(PROBE)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(unpacked))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        done = subprocess.run(
            [
                *(browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
                *("--disable-extensions", f"--user-data-dir={tmp_path}", "--dump-dom"),
                *("--virtual-time-budget=20000", "--enable-logging=stderr", "--v=0"),
                f"http://127.0.0.1:{server.server_port}/probe.html",
            ],
            capture_output=True,
            text=True,
            timeout=240,
        )
    finally:
        server.shutdown()
    assert "CONSOLE" not in done.stderr, done.stderr
    seen = json.loads(re.search(r"PROBE(.*)ENDS", done.stdout)[1].replace("&amp;", "&"))
    images = {name: (natural, shown) for name, natural, shown in seen["images"]}
    assert set(images) == {
        "figures/voc_figure_b8.svg", "figures/voc_figure_d9.svg", "figures/voc_figure_4.png",
        "figures/dag.svg",
    }  # fmt: skip
    assert all(natural > 0 and shown > 0 for natural, shown in images.values())
    assert len(seen["links"]) > 20 and {status for _, status in seen["links"]} == {200}
    cells = {name: count for name, width, height, count in seen["sections"] if width and height}
    assert min(cells[name] for name in ("claims", "voc_table1", "attn2mask_voc_table2", "cost")) > 0
    assert len(cells) == len(seen["sections"]) == 10


# drawing


def test_rules_are_drawn_from_sources_on_the_left_to_results_on_the_right():
    names, edges = draw_dag.read_dot(DOT)
    assert names == {"0": "all", "1": "make_table", "2": "refine_masks"}
    assert draw_dag.layers_of(names, edges) == [["2"], ["1"], ["0"]]
    drawn = draw_dag.svg(names, edges)
    left = {
        name: float(re.search(rf'<text x="(\d+)"[^>]*>{name}<', drawn)[1])
        for name in names.values()
    }
    assert left["refine_masks"] < left["make_table"] < left["all"]


def test_no_two_boxes_of_rules_overlap():
    names = {str(i): f"rule_number_{i}" for i in range(12)}
    edges = [(str(i), str(j)) for i in range(12) for j in range(i + 1, 12) if (i + j) % 3 == 0]
    drawn = draw_dag.svg(names, edges)
    boxes = [
        tuple(map(float, found))
        for found in re.findall(r'<rect x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"', drawn)
    ]
    assert len(boxes) == 12
    for i, (x, y, w, h) in enumerate(boxes):
        for u, v, p, q in boxes[i + 1 :]:
            assert x + w < u or u + p < x or y + h < v or v + q < y
