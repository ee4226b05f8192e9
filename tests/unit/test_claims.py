"""The ledger of claims: comparisons and verdicts."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import make_claims
from attnseg.errors import UserError
from attnseg.io.files import sealed
from attnseg.results import TABLES
from attnseg.results.claims import CLAIMS, Claim, Measurement, evaluations_needed
from attnseg.results.iou import write_metrics
from attnseg.results.ledger import COLUMNS, summary, text
from attnseg.results.verdicts import judge, paper_difference, read_run

ROOT = Path(__file__).resolve().parents[2]
CLASSES = ("background", "train", "person")


def evaluate(folder, right, ids=None, seed=0, model="mini_sd"):
    """An evaluation of images whose pixels are right with probability `right` a class."""
    ids = ids or [f"i{n}" for n in range(60)]
    rng = np.random.default_rng([len(str(folder)), seed])
    pixels = rng.poisson(40, (len(ids), 3)) + 1
    tp = rng.binomial(pixels, right)
    fp = rng.poisson(2, pixels.shape)
    write_metrics(
        folder, ids, tp, fp, pixels - tp, dataset="mini_voc", split="train", classes=CLASSES,
        model=model, seed=seed,
    )  # fmt: skip
    return folder / "metrics.json"


def claim(*measurements, **more):
    ours, *others = measurements
    return Claim("some", "Text2Mask", "Table 0", "A beats B", (ours,), tuple(others), **more)


A, B = Measurement("A", "masks/a"), Measurement("B", "masks/b")


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [(0.8, 0.6, "holds"), (0.6, 0.8, "does not hold"), (0.7, 0.7, "undecided")],
)
def test_the_verdict_is_where_the_interval_lies(tmp_path, ours, theirs, expected):
    a, b = evaluate(tmp_path / "a", ours), evaluate(tmp_path / "b", theirs)
    row = judge(claim(A, B), {"masks/a": [a], "masks/b": [b]}, 500)
    assert row["verdict"] == expected
    measured = [json.loads(path.read_text())["miou"] for path in (a, b)]
    assert float(row["ours"]) == pytest.approx(measured[0] - measured[1], abs=0.006)
    assert float(row["low"]) <= float(row["ours"]) <= float(row["high"])
    assert (row["n"], row["seeds"], row["test"]) == ("60", "1", "A > B")
    assert "mini_voc train, mini_sd" in row["note"]


def test_a_class_and_the_accuracy_are_qualities_too(tmp_path):
    paths = {
        "masks/a": [evaluate(tmp_path / "a", [0.9, 0.8, 0.3])],
        "masks/b": [evaluate(tmp_path / "b", [0.9, 0.4, 0.9])],
    }
    by_class = (Measurement(name, f"masks/{name}", "iou/train") for name in "ab")
    accuracy = (Measurement(name, f"masks/{name}", "pixel_accuracy") for name in "ab")
    assert judge(claim(*by_class), paths, 200)["verdict"] == "holds"
    assert judge(claim(*accuracy), paths, 200)["verdict"] == "does not hold"


def test_only_images_that_both_have_are_compared(tmp_path):
    a = evaluate(tmp_path / "a", 0.7)
    b = evaluate(tmp_path / "b", 0.5, [f"i{n}" for n in (5, 4, 3, 2, 99, 7, 8)])
    row = judge(claim(A, B), {"masks/a": [a], "masks/b": [b]}, 200)
    assert row["n"] == "6" and "6 images common to all" in row["note"]


def test_what_was_not_evaluated_is_named(tmp_path):
    row = judge(claim(A, B), {"masks/a": [evaluate(tmp_path / "a", 0.7)]})
    assert (row["verdict"], row["ours"], row["n"]) == ("not run", "", "")
    assert row["note"] == "not evaluated in this run: masks/b"


@pytest.mark.parametrize(("runs", "expected"), [(1, "one run"), (2, "one run"), (3, "holds")])
def test_a_trained_segmentor_needs_three_seeds(tmp_path, runs, expected):
    named = {}
    for name, right in (("a", 0.8), ("b", 0.5)):
        named[f"segmentors/{name}/val"] = [
            evaluate(tmp_path / name / str(seed), right, seed=seed) for seed in range(runs)
        ]
    measurements = [Measurement(name, f"segmentors/{name}/val") for name in "ab"]
    row = judge(claim(*measurements), named, 300)
    assert (row["verdict"], row["seeds"]) == (expected, str(runs))
    # the same seed three times is one run
    again = {name: [paths[0]] * 3 for name, paths in named.items()}
    assert judge(claim(*measurements), again, 300)["verdict"] == "one run"


def test_seeds_that_differ_widen_the_interval(tmp_path):
    def width(levels):
        named = {
            f"segmentors/{name}/val": [
                evaluate(tmp_path / f"{name}{levels}" / str(seed), level, seed=seed)
                for seed, level in enumerate(levels)
            ]
            for name in "ab"
        }
        row = judge(
            claim(*(Measurement(name, f"segmentors/{name}/val") for name in "ab")), named, 500
        )
        return float(row["high"]) - float(row["low"])

    assert width((0.4, 0.6, 0.8)) > 3 * width((0.6, 0.6, 0.6))


def test_a_spread_holds_below_its_limit(tmp_path):
    named = {f"masks/{n}": [evaluate(tmp_path / n, p)] for n, p in (("a", 0.7), ("b", 0.71))}
    both = Claim("s", "Text2Mask", "", "", (A, B), test="spread", limit=10.0)
    row = judge(both, named, 300)
    assert row["verdict"] == "holds" and 0 <= float(row["ours"]) < 10
    assert row["test"] == "spread of A, B < 10"
    wide = {**named, "masks/b": [evaluate(tmp_path / "c", 0.2)]}
    assert judge(both, wide, 300)["verdict"] == "does not hold"


def test_labels_a_second_are_resampled_by_batches(tmp_path):
    def timed(name, pace):
        path = evaluate(tmp_path / name, 0.7)
        metrics = json.loads(path.read_text())
        seconds = [pace * (1 + 0.1 * (i % 3)) for i in range(12)]
        rate = 12 * 50 / sum(seconds)
        metrics |= {"labels_per_second": rate, "timing": {"labels": [50] * 12, "seconds": seconds}}
        path.write_text(json.dumps(sealed(metrics)))
        return [path]

    rate = [Measurement(name, f"masks/{name}", "labels_per_second") for name in "ab"]
    named = {"masks/a": timed("a", 0.5), "masks/b": timed("b", 1.0)}
    row = judge(claim(*rate), named, 300)
    assert (row["verdict"], row["n"]) == ("holds", "12")
    untimed = json.loads(named["masks/b"][0].read_text()) | {"labels_per_second": None}
    named["masks/b"][0].write_text(json.dumps(sealed(untimed)))
    assert judge(claim(*rate), named, 300)["note"] == "not measured: b"


def test_questions_about_one_view_are_drawn_together(tmp_path):
    ids = [f"{view}-{n}" for view in range(40) for n in range(3)]
    found = np.repeat(np.arange(40) % 2 == 0, 3)
    folder = tmp_path / "mug19"
    folder.mkdir()
    np.savez(
        folder / "per_triplet.npz", ids=ids, views=np.array([i.split("-")[0] for i in ids]),
        iou=found * 0.5, found_alone=found, found_together=~found,
    )  # fmt: skip
    (folder / "metrics.json").write_text(
        json.dumps({"miou": 25.0, "bf_acc": 50.0, "af_acc": 50.0, "dataset": "mini_mug19"})
    )
    run = read_run(folder / "metrics.json", "bf_acc")
    assert len(run.units) == 40 and run.counts.denominators.tolist() == [[3.0]] * 40
    measurements = [Measurement(m, "mug19/all/ours", m) for m in ("af_acc", "bf_acc")]
    row = judge(claim(*measurements), {"mug19/all/ours": [folder / "metrics.json"]}, 1000)
    assert row["n"] == "40" and "views resampled" in row["note"]
    # the difference is -1 or 1 a view: its standard error is 100 / sqrt(40), not 100 / sqrt(120)
    assert float(row["high"]) - float(row["low"]) == pytest.approx(
        2 * 1.96 * 100 / 40**0.5, rel=0.15
    )


def test_similar_classes_are_tested_by_their_correlation(tmp_path):
    rng = np.random.default_rng(0)
    similarity = rng.uniform(size=300)
    np.savez(
        tmp_path / "per_image.npz", ids=np.arange(300).astype(str), similarity=similarity,
        miou=50 - 20 * similarity + rng.normal(size=300),
    )  # fmt: skip
    (tmp_path / "metrics.json").write_text(
        json.dumps({"dataset": "mini_voc", "split": "train", "model": "mini_sd"})
    )
    similar = next(c for c in CLAIMS if c.test == "correlation")
    row = judge(similar, {"voc_figure_d9": [tmp_path / "metrics.json"]}, 300)
    assert row["verdict"] == "holds" and float(row["ours"]) < -0.9 and row["n"] == "300"


def test_an_evaluation_whose_images_do_not_give_its_value_is_refused(tmp_path):
    path = evaluate(tmp_path / "a", 0.7)
    path.write_text(json.dumps(sealed(json.loads(path.read_text()) | {"miou": 99.0})))
    with pytest.raises(UserError, match="is 99.0, but .* by its counts"):
        read_run(path, "miou")


# the claims themselves


def test_there_are_claims_of_both_papers_and_of_those_on_joint_attention_each_once():
    papers = {"Text2Mask", "attn2mask", "Seg4Diff", "ConceptAttention", "ours"}
    assert {c.paper for c in CLAIMS} == papers
    assert len({c.id for c in CLAIMS}) == len({c.claim for c in CLAIMS}) == len(CLAIMS)


def test_a_published_difference_is_that_of_the_cells_and_on_the_claimed_side():
    published = make_claims.published_values(ROOT / "config" / "published")
    differences = {c.id: paper_difference(c, published) for c in CLAIMS}
    expected = {
        "selfcross_beats_cross": "11.0",  # 72.7 - 61.7
        "ten_noises_beat_one": "1.7",  # 76.1 - 74.4
        "background_words_help_train": "7.8",  # 82.5 - 74.7
        "crf_beats_thresholds": "1.9",  # 46.5 - 44.6
        "seeds_agree": "0.6",  # 74.6 - 74.0
        "beco_beats_plain": "7.2",  # 58.3 - 51.1
        "lora_helps": "3.9",  # 17.1 - 13.2
        "query_beats_subject_on_visual_distractors": "31.8",  # 71.8 - 40.0
        "composed_is_faster": "0.6",  # 1.6 - 1.0
        "similar_classes_are_worse": "-0.73",
        "timestep_matters_little": "",
    }
    assert expected.items() <= differences.items()
    for c in CLAIMS:
        if differences[c.id]:
            assert (float(differences[c.id]) < c.limit) == c.below, c.id


def test_every_quality_is_a_cell_of_ours_or_a_point_of_a_figure():
    for c in CLAIMS:
        for measurement in c.measurements:
            if measurement.cell is None:
                assert measurement.evaluation.startswith(("voc_figure_", "backbones/"))
            else:
                target, *cell = measurement.cell
                assert measurement.evaluation in TABLES[target].ours[tuple(cell)].evaluations


@pytest.mark.parametrize("program", ["make_claims", "make_report", "make_figure_b8"])
def test_programs_of_results_import_no_networks(program):
    code = f"import sys, {program}; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "scripts", capture_output=True, text=True
    )
    assert done.stdout.strip() == "False", done.stderr


# the program


def test_the_ledger_has_a_row_a_claim_and_no_empty_cell_without_a_reason(tmp_path):
    masks = {"masks/voc/train/one_noise/none": 0.8, "masks/voc/train/one_noise/cross_none": 0.6}
    pairs = [f"{name}={evaluate(tmp_path / name, p)}" for name, p in masks.items()]
    output = tmp_path / "claims.csv"
    assert make_claims.main(["--evaluations", *pairs, "--output", str(output)]) == 0
    with open(output, newline="") as file:
        reader = csv.DictReader(file)
        rows = {row["id"]: row for row in reader}
    assert tuple(reader.fieldnames) == COLUMNS and len(rows) == len(CLAIMS)
    assert rows["selfcross_beats_cross"]["verdict"] == "holds"
    assert rows["selfcross_beats_cross"]["paper_difference"] == "11.0"
    for row in rows.values():
        assert row["ours"] or (row["verdict"] == "not run" and row["note"])
    assert summary(list(rows.values())).startswith(f"{len(CLAIMS)} claims: 1 hold, 0 do not hold")
    printed = text(output, 90)
    assert summary(list(rows.values())) in printed and max(map(len, printed.splitlines()[1:])) <= 90
    for row in rows.values():
        assert row["claim"].split()[0] in printed
    record = json.loads(output.with_suffix(".provenance.json").read_text())
    assert set(record["evaluations"]) == set(masks) and record["git"]["revision"]


def test_the_program_names_what_it_needs_and_refuses_what_no_claim_uses(tmp_path, capsys):
    assert make_claims.main(["--needs"]) == 0
    assert capsys.readouterr().out.split() == evaluations_needed()
    with pytest.raises(UserError, match="no claim uses it"):
        make_claims.main(["--evaluations", "masks/x=y", "--output", str(tmp_path / "c.csv")])
    with pytest.raises(UserError, match="NAME=FILE"):
        make_claims.main(["--evaluations", "masks", "--output", str(tmp_path / "c.csv")])
