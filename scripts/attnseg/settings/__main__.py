"""Print the configuration that results from the given files, with all keys, as JSON.

python -m attnseg.settings config/config.yaml config/mini.yaml
"""

import argparse
import json
import sys

from attnseg.config import read_config
from attnseg.errors import run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m attnseg.settings",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("files", nargs="+", metavar="FILE", help="later ones override earlier ones")
    args = parser.parse_args(argv)
    print(json.dumps(read_config(*args.files), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
