"""Data sets, one file each: see `load`. Their facts need neither numpy nor torch."""

from attnseg.datasets.dataset import DEFAULT, SHIPPED, Dataset
from attnseg.datasets.loading import HELP, argument, load

__all__ = ["DEFAULT", "HELP", "SHIPPED", "Dataset", "argument", "load"]
