"""Data sets, one file each: `load(name)` gives one. Facts load neither numpy nor torch."""

from attnseg.datasets.dataset import DEFAULT, HELP, SHIPPED, Dataset, argument, load

__all__ = ["DEFAULT", "HELP", "SHIPPED", "Dataset", "argument", "load"]
