"""A program that reads an evaluation, as tables do."""

from attnseg.results.iou import read_metrics


def main(argv: list[str]) -> int:
    read_metrics(argv[0])
    return 0
