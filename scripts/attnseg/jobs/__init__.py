"""The files that jobs read and the flags of their programs, derived from the configuration.

`Jobs` holds one object per concern. Their methods take the values of wildcards and return a path, a
list of paths, or a program's flags by name. Input paths begin with Snakemake's <work> or <resources>;
in flags, the configured folders stand in their place. Their settings are in `jobs.settings`. Standard
library, PyYAML and pydantic only: rules ask these objects while the Snakefile is parsed.
"""

from collections.abc import Mapping

from attnseg.jobs.base import Flags, device, flags
from attnseg.jobs.data import Data
from attnseg.jobs.masks import REFERENCES, Masks
from attnseg.jobs.models import Models
from attnseg.jobs.segmentors import Segmentors
from attnseg.jobs.subjects import Subjects
from attnseg.jobs.synthesis import Synthesis

__all__ = ["REFERENCES", "Jobs", "Flags", "device", "flags"]


class Jobs:
    """The jobs of a configuration with every default, as `prepare` of attnseg.config.reading returns it."""

    def __init__(self, config: Mapping):
        self.config = config
        self.data = Data(config)
        self.models = Models(config, self.data)
        self.masks = Masks(config, self.data, self.models)
        self.synthesis = Synthesis(config, self.data, self.models)
        self.segmentors = Segmentors(config, self.data)
        self.subjects = Subjects(config, self.data, self.models)
