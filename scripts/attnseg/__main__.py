"""`python -m attnseg`: the command `attnseg`."""

import sys

from attnseg.app.command import run_command

sys.exit(run_command())
