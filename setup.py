"""The part of pyproject.toml that cannot be a pattern there: every program is in the wheel."""

from pathlib import Path

from setuptools import setup

PROGRAMS = Path(__file__).resolve().parent / "scripts"
setup(scripts=sorted(f"scripts/{program.name}" for program in PROGRAMS.glob("*.py")))
