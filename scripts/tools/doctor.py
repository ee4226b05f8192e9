#!/usr/bin/env python3
"""`attnseg doctor` where the package is not installed."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from attnseg.app import doctor
from attnseg.app.options import parser_of
from attnseg.errors import run


def main(argv: list[str] | None = None) -> int:
    return doctor.main(parser_of(doctor).parse_args(argv))


if __name__ == "__main__":
    sys.exit(run(main))
