"""Data sets, one file an on-disk layout."""
