"""Methods of the configuration in the tables: the cells that their masks fill."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from attnseg.errors import UserError
from attnseg.evaluations import GIVEN, Evaluation
from attnseg.results.description import Cell, Source, Table, with_cells


def with_methods(tables: Mapping[str, Table], config: Mapping) -> dict[str, Table]:
    """The tables with the cells that the configured methods fill, in rows of the print or their own.

    A cell is measured on the data set and split, and by the metric, that ours in its column are.

    Raises:
        UserError: one line, for a table or metric that there is not, and for a cell that is ours or
            another method's already.
    """
    tables = dict(tables)
    for name, method in config["methods"].items():
        for target, metrics in method["fills"].items():
            where = f"methods.{name}.fills"
            if target not in tables:
                raise UserError(f"{where}: {target!r} is no table{_choice(target, tables)}")
            cells = {
                (method["label"], metric): _source(
                    tables[target], metric, name, config, f"{where}.{target}"
                )
                for metric in metrics
            }
            tables[target] = with_sources(tables[target], cells, f"methods.{name}")
    return tables


def with_sources(table: Table, cells: Mapping[Cell, Source], where: str) -> Table:
    """The table with further cells that are measured.

    Raises:
        UserError: where one is measured already; `where` begins it.
    """
    for label, metric in cells:
        if (label, metric) in table.ours:
            raise UserError(
                f"{where}: {label!r}, {metric!r} of {table.target} is measured already; choose another "
                "`label`, or fill other metrics"
            )
    table = with_cells(table, cells)
    return replace(table, ours={**table.ours, **cells})


def _source(table: Table, metric: str, name: str, config: Mapping, where: str) -> Source:
    """The evaluation of a method in a column: on the same data as ours."""
    known = dict.fromkeys(metric for _, metric in table.ours)
    if metric not in known:
        raise UserError(f"{where}: {metric!r} is measured for nobody{_choice(metric, known)}")
    found = set()
    for (_, other), source in table.ours.items():
        for evaluation in map(Evaluation.parse, source.evaluations if other == metric else ()):
            dataset = None if evaluation.kind == "mug19" else evaluation.data(config)
            if dataset is not None:
                found.add((dataset, evaluation.split, source.metric, source.decimals))
    if len(found) != 1:
        raise UserError(
            f"{where}: {metric!r} is not measured on masks of one split in this configuration; "
            "leave it out"
        )
    ((dataset, split, value, decimals),) = found
    evaluation = Evaluation("masks", split, name, dataset, GIVEN)
    return Source((str(evaluation),), value, decimals=decimals)


def _choice(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    return f"; did you mean {near[0]!r}?" if near else f"; choose of {', '.join(known)}"


def argument(table: Table) -> dict:
    """Flags that give a program the cells of methods: {label: {metric: [evaluation, metric there]}}."""
    told: dict[str, dict] = {}
    for (label, metric), source in table.ours.items():
        (first, *_) = source.evaluations
        if Evaluation.parse(first).postprocessing == GIVEN:
            told.setdefault(label, {})[metric] = [first, source.metric]
    return told


def told(table: Table, cells: Mapping) -> Table:
    """The table with the cells of `argument`."""
    sources = {
        (label, metric): Source((evaluation,), value)
        for label, metrics in cells.items()
        for metric, (evaluation, value) in metrics.items()
    }
    return with_sources(table, sources, "--methods")
