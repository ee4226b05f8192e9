#!/usr/bin/env python3
"""`attnseg segment` where the package is not installed."""

import sys

from attnseg.app import segment
from attnseg.app.options import parser_of
from attnseg.errors import run


def main(argv: list[str] | None = None) -> int:
    return segment.main(parser_of(segment).parse_args(argv))


if __name__ == "__main__":
    sys.exit(run(main))
