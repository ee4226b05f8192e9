"""The report: its contents, and that a browser shows all of it."""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import networkx
import numpy as np
import pytest
from PIL import Image

import draw_dag
import make_claims
import make_figure_b8
import make_figure_d9
import make_report
import make_table
from attnseg.results import graphs
from tools import draw_house

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
CAPTIONS = SCRIPTS.parent / "workflow" / "report"

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
    graphs.draw(draw_dag.read_dot(DOT), results / "dag.svg")
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
    assert re.findall(r'<td class="number">([^<]*)</td>', row) == ["1", "1.5", "1.0", "1.5", "512"]


def test_every_link_and_picture_is_in_the_archive(unpacked):
    page = (unpacked / "index.html").read_text()
    targets = re.findall(r'(?:href|src)="([^"]+)"', page)
    assert len(targets) > 20
    for target in targets:
        if target.startswith("#"):
            assert f'<section id="{target[1:]}">' in page
        elif not target.startswith("data:"):
            assert (unpacked / target).is_file(), target


def test_the_report_says_first_what_the_mini_world_is_when_and_by_what_code_it_was_made(unpacked):
    page = (unpacked / "index.html").read_text()
    top = page[: page.index("<nav>")]
    drawn = "Ours was measured on mini_voc: a small world of composed drawings, not photos."
    assert drawn in top
    record = json.loads((unpacked / "tables" / "voc_table1.provenance.json").read_text())
    revision = (record["git"]["revision"] or "unknown")[:10]
    assert f"Made {record['date']} at revision {revision}" in top


def test_bold_captions_are_bold_and_everything_is_escaped(tmp_path):
    (tmp_path / "voc_table1.rst").write_text("**A & B.** Of <script> and **C**.\n")
    reference = evaluated(tmp_path / "<i>masks" / "b", 3.5)
    assert make_table.main(["voc_table1", "--output", str(tmp_path / "voc_table1.csv")]) == 0
    claims = tmp_path / "claims.csv"
    assert make_claims.main(["--output", str(claims)]) == 0
    claims.write_text(claims.read_text().replace("not evaluated", "<script>not evaluated", 1))
    arguments = [
        *("--tables", tmp_path / "voc_table1.csv", claims, "--references", reference),
        *("--captions", tmp_path / "voc_table1.rst", "--output", tmp_path / "report.zip"),
    ]
    assert make_report.main(list(map(str, arguments))) == 0
    page = zipfile.ZipFile(tmp_path / "report.zip").read("index.html").decode()
    assert "<p><b>A &amp; B.</b> Of &lt;script&gt; and <b>C</b>.</p>" in page
    assert "<script" not in page and "<i>" not in page
    assert "<td>&lt;i&gt;masks / b</td>" in page and "&lt;script&gt;not evaluated" in page


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
    graph = draw_dag.read_dot(DOT)
    assert set(graph.edges) == {("make_table", "all"), ("refine_masks", "make_table")}
    columns = {name: column for name, (column, _) in graphs.placed(graph).items()}
    assert columns == {"refine_masks": 0, "make_table": 1, "all": 2}


def test_every_node_has_a_place_of_its_own_and_the_drawing_is_the_same_each_time(tmp_path):
    edges = [(i, j) for i in range(12) for j in range(i + 1, 12) if (i + j) % 3 == 0]
    graph = networkx.DiGraph((f"rule_{i}", f"rule_{j}") for i, j in edges)
    graph.add_node("alone")
    assert len(set(graphs.placed(graph).values())) == len(graph)
    drawn = []
    for seed in "12":
        path = tmp_path / f"{seed}.svg"
        subprocess.run(
            [sys.executable, SCRIPTS / "draw_dag.py", "--output", path],
            input=DOT, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": seed},
        )  # fmt: skip
        drawn.append(path.read_bytes())
    assert drawn[0] == drawn[1] and b"refine_masks" in drawn[0]


def test_no_rules_are_one_line_of_error(tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPTS / "draw_dag.py", "--output", tmp_path / "dag.svg"],
        input="", capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and done.stderr.startswith("error: no rules")


def test_rooms_and_their_arrows_are_read_from_the_imports(tmp_path):
    for room, code in {
        "cellar": "",
        "hall": "from house.cellar import wine\nfrom house import settings",
        "attic": "import numpy\ndef f():\n    import house.hall.door",
    }.items():
        (tmp_path / "house" / room).mkdir(parents=True)
        (tmp_path / "house" / room / "__init__.py").write_text(code)
    graph = draw_house.rooms(tmp_path / "house")
    assert set(graph) == {"cellar", "hall", "attic"}
    assert set(graph.edges) == {("cellar", "hall"), ("hall", "attic")}
    graph.add_edge("attic", "cellar")  # rooms that import each other are drawn, too
    graphs.draw(graph, tmp_path / "house.svg")
