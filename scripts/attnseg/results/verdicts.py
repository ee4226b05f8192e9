"""Judge each claim of the papers by per-image measurements."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnseg.errors import UserError
from attnseg.evaluations import MEASURES
from attnseg.results.bootstrap import (
    Counts,
    Interval,
    Resampler,
    correlation,
    difference,
    spread,
)
from attnseg.results.claims import RUNS_NEEDED, SIMILARITY, Claim
from attnseg.results.iou import read_metrics
from attnseg.results.ledger import COLUMNS
from attnseg.results.measured import read_counts, read_measured

Published = Mapping[tuple[str, str, str], float]  # (target, method, metric)


@dataclass(frozen=True)
class Run:
    """A metric of one evaluation, as counts per unit (image, view of a scene, or batch)."""

    units: list[str]
    counts: Counts
    kind: str  # of the units, in the plural
    metrics: dict

    def on(self, units: Sequence[str]) -> Counts:
        """Select the counts of `units`, in their order."""
        place = {unit: i for i, unit in enumerate(self.units)}
        rows = [place[unit] for unit in units]
        counts = self.counts
        return Counts(counts.numerators[rows], counts.denominators[rows], counts.scale)


def read_run(path: Path, metric: str) -> Run | None:
    """Read `metric` of the evaluation whose metrics.json is `path`; None if it was not measured.

    Raises:
        UserError: if the file is damaged, or the counts beside it contradict its value.
    """
    metrics = read_measured(path)
    if metric not in metrics and not metric.startswith("iou/"):
        raise UserError(f"{path}: has no {metric}; evaluate again")
    if metrics.get(metric, 0) is None:
        return None
    run: Run | None
    if metric == "labels_per_second":
        run = _batches(metrics)
    elif (path.parent / "per_triplet.npz").exists():
        run = _views(path.parent, metrics, metric)
    else:
        run = _images(path.parent, metric)
    if run is None:
        return None
    stated = metrics.get(metric)
    found = run.counts.values(np.ones((1, len(run.units))))[0]
    # metrics.json may be rounded
    if stated is not None and not np.isclose(found, stated, rtol=1e-3, atol=1e-3):
        raise UserError(
            f"{path}: {metric} is {stated}, but {found:.4f} by its counts; evaluate again"
        )
    return run


def _images(folder: Path, metric: str) -> Run | None:
    metrics, arrays = read_metrics(folder)
    tp, fp, fn = (arrays[name].astype(np.float64) for name in ("tp", "fp", "fn"))
    if metric == "pixel_accuracy":
        above, below = tp.sum(1, keepdims=True), (tp + fn).sum(1, keepdims=True)
    else:
        above, below = tp, tp + fp + fn
        if metric.startswith("iou/"):
            label = metric.removeprefix("iou/")
            if label not in metrics["classes"]:
                raise UserError(f"{folder}: has no class {label}")
            column = metrics["classes"].index(label)
            above, below = above[:, [column]], below[:, [column]]
            if not below.any():
                return None
    return Run([str(unit) for unit in arrays["ids"]], Counts(above, below), "images", metrics)


def _views(folder: Path, metrics: dict, metric: str) -> Run:
    """Triplets of one view share its segments, so views are resampled, not triplets."""
    arrays = read_counts(folder, "per_triplet.npz")
    views, values = arrays["views"], arrays[MEASURES[metric]].astype(np.float64)
    names, of = np.unique(views, return_inverse=True)
    above = np.bincount(of, values, len(names))[:, None]
    below = np.bincount(of, minlength=len(names))[:, None].astype(np.float64)
    return Run([str(name) for name in names], Counts(above, below), "views", metrics)


def _batches(metrics: dict) -> Run:
    timing = metrics["timing"]
    labels = np.array(timing["labels"], np.float64)[:, None]
    seconds = np.array(timing["seconds"], np.float64)[:, None]
    units = [str(number) for number in range(len(labels))]
    return Run(units, Counts(labels, seconds, scale=1.0), "batches", metrics)


def judge(claim: Claim, evaluations: Mapping[str, Sequence[Path]], resamples: int = 2000) -> dict:
    """Judge a claim; return its row of the ledger, without the paper's difference.

    `evaluations`: metrics.json of each run by name; absent if not run.
    """
    row = dict.fromkeys(COLUMNS, "") | {
        "id": claim.id,
        "paper": claim.paper,
        "where": claim.where,
        "claim": claim.claim,
        "test": description(claim),
    }
    missing = [q.evaluation for q in claim.measurements if not evaluations.get(q.evaluation)]
    if missing:
        reason = f"not evaluated in this run: {', '.join(dict.fromkeys(missing))}"
        return row | {"verdict": "not run", "note": reason}
    seed = zlib.crc32(claim.id.encode())
    if claim.test == "correlation":
        return row | _correlation(evaluations[SIMILARITY][0], claim, resamples, seed)
    measured = {
        q: [read_run(path, q.metric) for path in evaluations[q.evaluation]]
        for q in claim.measurements
    }
    unmeasured = [q.label for q, found in measured.items() if None in found]
    if unmeasured:
        reason = f"not measured: {', '.join(unmeasured)}"
        return row | {"verdict": "not run", "note": reason}
    runs = {q: [run for run in found if run is not None] for q, found in measured.items()}
    every = [run for found in runs.values() for run in found]
    shared = set(every[0].units).intersection(*(run.units for run in every))
    units = [unit for unit in every[0].units if unit in shared]
    if len(units) < 2:
        raise UserError(f"claim {claim.id}: its evaluations share {len(units)} {every[0].kind}")
    resampler = Resampler(len(units), resamples, seed)
    ours = [[run.on(units) for run in runs[q]] for q in claim.ours]
    others = [[run.on(units) for run in runs[q]] for q in claim.others]
    if claim.test == "spread":
        found = spread(ours, resampler)
    else:
        found = difference(ours[0], others, resampler)
    trained = [len({run.metrics.get("seed") for run in runs[q]}) for q in runs if q.trained]
    few = min(trained, default=RUNS_NEEDED) < RUNS_NEEDED
    notes = [
        _measured_on(every),
        f"{every[0].kind} resampled" + (" with the seeds" if trained else ""),
    ]
    if few:
        notes.append(
            f"a trained network needs {RUNS_NEEDED} seeds: the interval covers images only"
        )
    if len(units) < max(len(run.units) for run in every):
        notes.append(f"the {len(units)} {every[0].kind} common to all")
    return row | _numbers(found) | {
        "n": str(len(units)),
        "seeds": str(min(trained, default=1)),
        "verdict": "one run" if few else verdict(found, claim),
        "note": "; ".join(notes),
    }  # fmt: skip


def _correlation(path: Path, claim: Claim, resamples: int, seed: int) -> dict:
    metrics = read_measured(path)
    arrays = read_counts(path.parent, "per_image.npz")
    x, y = arrays["similarity"], arrays["miou"]
    found = correlation(x, y, Resampler(len(x), resamples, seed))
    return _numbers(found) | {
        "n": str(len(x)),
        "seeds": "1",
        "verdict": verdict(found, claim),
        "note": f"{metrics['dataset']} {metrics['split']}, {metrics['model']}; images resampled; the "
        "paper's r is of grouped images",
    }


def _numbers(found: Interval) -> dict[str, str]:
    return {"ours": f"{found.value:.2f}", "low": f"{found.low:.2f}", "high": f"{found.high:.2f}"}


def _measured_on(runs: Sequence[Run]) -> str:
    parts = (
        f"{m.get('dataset')} {m.get('split')}, {m.get('model')}"
        for m in (run.metrics for run in runs)
    )
    return "; ".join(dict.fromkeys(parts))


def verdict(found: Interval, claim: Claim) -> str:
    """`holds` or `does not hold` if the interval is on one side of the limit, else `undecided`."""
    low, high = found.low - claim.limit, found.high - claim.limit
    if claim.below:
        low, high = -high, -low
    if low > 0:
        return "holds"
    return "does not hold" if high < 0 else "undecided"


def description(claim: Claim) -> str:
    """The tested inequality, in one line."""
    if claim.test == "spread":
        return f"spread of {', '.join(q.label for q in claim.ours)} < {claim.limit:g}"
    if claim.test == "correlation":
        return f"{claim.ours[0].label} < {claim.limit:g}"
    others = ", ".join(q.label for q in claim.others)
    if len(claim.others) > 1:
        others = f"the best of {others}"
    return f"{claim.ours[0].label} > {others}"


def paper_difference(claim: Claim, published: Published) -> str:
    """The published difference with one decimal; "" if the paper prints none."""
    if claim.published is not None:
        decimals = 2 if claim.test == "correlation" else 1
        return f"{claim.published:.{decimals}f}"
    printed = [q.cell and published.get(q.cell) for q in claim.measurements]
    cells = [value for value in printed if value is not None]
    if len(cells) < len(printed):
        return ""
    if claim.test == "spread":
        return f"{max(cells) - min(cells):.1f}"
    return f"{cells[0] - max(cells[1:]):.1f}"
