"""The table of backbones: what readings of their attention are worth under one protocol, and cost."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from attnseg.io.costs import Job, jobs_behind
from attnseg.results.build import Line
from attnseg.results.figures import BLUE, VERMILION, line_of, plt
from attnseg.results.measured import read_measured
from attnseg.results.notes import Note

QUALITY = ("Initial", "dCRF")
SECONDS, MEMORY = "s/photo", "peak MiB"
NOTHING_PUBLISHED = "there are no published values of this comparison: it is ours"


def backbone_rows(rows: Sequence[Mapping], jobs: Sequence[Job]) -> list[Line]:
    """The lines of the CSV: method is the backbone and its reading.

    `rows`: of each `method` its `protocol`, and the `files` of its evaluations by metric or why they are
    `missing`. `jobs`: records of what jobs cost.
    """
    lines: list[Line] = []
    for row in rows:
        found = {metric: read_measured(file) for metric, file in row["files"].items()}
        values = {metric: (f"{metrics['miou']:.1f}", "") for metric, metrics in found.items()}
        about = next(iter(found.values()), {})
        if about:
            values |= _costs(about, row["files"].values(), jobs)
        for metric in (*QUALITY, SECONDS, MEMORY):
            value, reason = values.get(metric, ("", row["missing"]))
            line = line_of(found.get(metric, about)) if about else _empty()
            line |= {"method": row["method"], "metric": metric, "ours": value}
            note = Note(not_run=reason, detail=[row["protocol"]] if metric in QUALITY else [])
            if not lines:
                note.remark.append(NOTHING_PUBLISHED)
            line |= {"status": "measured" if value else "not run", "note": note}
            lines.append(line)
    return lines


def _empty() -> Line:
    line: Line = {"paper": "", "dataset": "", "split": "", "n_images": "", "model": "", "seed": ""}
    return line


def _costs(
    metrics: Mapping, files: Iterable[str], jobs: Sequence[Job]
) -> dict[str, tuple[str, str]]:
    """(value, "") or ("", why there is none) of the extraction's time and memory."""
    timing = metrics.get("timing")
    behind = [job for job in jobs_behind(files, jobs) if job.rule == "extract_attention"]
    untimed = "the extraction was not timed"
    seconds = sum(timing["seconds"]) / metrics["n_images"] if timing else 0
    return {
        SECONDS: (f"{seconds:.3f}", "") if timing else ("", untimed),
        MEMORY: (f"{max(job.peak_mib for job in behind):.0f}", "") if behind else ("", untimed),
    }


def draw_backbones(lines: Sequence[Line], path: Path) -> None:
    """Bars of each reading's mean IoU, before and after the CRF."""
    methods = list(dict.fromkeys(line["method"] for line in lines))
    values = {(line["method"], line["metric"]): float(line["ours"] or 0) for line in lines}
    plot, axis = plt.subplots(figsize=(7, 0.8 + 0.4 * len(methods)))
    for shift, metric, colour in ((-0.2, "Initial", BLUE), (0.2, "dCRF", VERMILION)):
        places = [place + shift for place in range(len(methods))]
        heights = [values[method, metric] for method in methods]
        axis.barh(places, heights, 0.36, color=colour, label=metric)
    axis.set_yticks(range(len(methods)), methods, fontsize=9)
    axis.invert_yaxis()
    axis.set_xlabel("mIoU, %")
    axis.legend(frameon=False, fontsize=9)
    axis.grid(axis="x", alpha=0.3)
    plot.tight_layout()
    plot.savefig(path, metadata={"Date": None})
    plt.close(plot)
