#!/usr/bin/env python3
"""Say that it was decided whether results change with the code as it is now.

    python scripts/tools/accept_code.py [STAGE...]

After an edit of what shapes a stage's results (a test names the stage): raise `version` of its class of
settings if results change, so that they are made again; then run this, with the names of the stages or
for all, which a file that was added to backbones/ or datasets/ needs. It writes scripts/attnseg/settings/code.json.
"""

import argparse
import json
import sys

from attnseg.settings import code


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stages = list(code.STAGES.values())
    parser.add_argument("stage", nargs="*", metavar="STAGE", help=f"of {', '.join(stages)}")
    args = parser.parse_args(argv)
    unknown = set(args.stage) - set(stages)
    if unknown:
        parser.error(f"no stage {min(unknown)}")
    before = code.decided()
    if not args.stage:  # each stage's digest depends on these
        before["known"] = code.present()
    now = code.current()
    for stage in args.stage or stages:
        if before.get(stage) != now[stage]:
            before[stage] = now[stage]
            print(f"{stage}: accepted")
    text = json.dumps({name: before[name] for name in sorted(before)}, indent=1)
    code.DECIDED.write_text(text + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
