"""Notes beside values: the column `note` of a table's CSV, written and read by one pair of functions.

    spread: ± 0.1 over 5 runs; precision: float32; does not hold: -3.5 over Cross (paper +11.0)

A note is `key: value` parts joined by "; ". Keys are the fields of `Note` with spaces; a field that is
a list has one part per item. A text of another form is one remark. Standard library only.
"""

import re
from dataclasses import dataclass, field, fields


@dataclass
class Note:
    left_out: str = ""  # the command that makes the value, which this run leaves out
    not_run: str = ""  # why there is no value
    spread: str = ""  # of a mean over runs
    precision: str = ""  # the number format of the measurement
    holds: list[str] = field(default_factory=list)  # comparisons of the paper that hold here
    does_not_hold: list[str] = field(default_factory=list)
    remark: list[str] = field(default_factory=list)  # printed under the table, too
    detail: list[str] = field(default_factory=list)  # of this value alone
    paper: str = ""  # about the published value

    @property
    def reason(self) -> str:
        """Why there is no value, in words."""
        return f"left out of this run, made by `{self.left_out}`" if self.left_out else self.not_run


NAMES = {name.replace("_", " "): name for name in (f.name for f in fields(Note))}
KEY = "|".join(NAMES)


def dump(note: Note) -> str:
    """The text of a note, which `parse` reads back."""
    parts = []
    for key, name in NAMES.items():
        values = getattr(note, name)
        for value in [values] if isinstance(values, str) else values:
            if value:  # a backslash where a value itself holds what looks like the next part
                parts.append(f"{key}: " + re.sub(rf"; (?=\\*(?:{KEY}): )", r"; \\", value))
    return "; ".join(parts)


def parse(text: str) -> Note:
    """The note that `dump` wrote; any other text as a remark."""
    if not re.match(rf"(?:{KEY}): ", text):
        return Note(remark=[text] if text else [])
    note = Note()
    for part in re.split(rf"; (?=(?:{KEY}): )", text):
        key, value = part.split(": ", 1)
        value = re.sub(rf"; \\(?=\\*(?:{KEY}): )", "; ", value)
        if isinstance(getattr(note, NAMES[key]), list):
            getattr(note, NAMES[key]).append(value)
        else:
            setattr(note, NAMES[key], value)
    return note
