"""Every key of the configuration, once: its type, default, bounds and meaning, a class a stage.

From these classes come the checks of a configuration, the JSON schema, config/README.md, the help of
the programs, what a job is told, and what decides whether finished work is made again. A class whose
name ends in Job is what a program is told: its stage with what other keys of the configuration add.
Standard library and pydantic only.
"""

from attnseg.settings.attention import (
    Crf,
    Extraction,
    ExtractionJob,
    Model,
    Query,
    Refinement,
    RefinementJob,
    Variant,
)
from attnseg.settings.base import Settings, read_settings
from attnseg.settings.configuration import Config
from attnseg.settings.personalised import SubjectSegmentationJob, SubjectTrainingJob
from attnseg.settings.segmentor import NamedSegmentor, Segmentor, TestJob, read_segmentor
from attnseg.settings.synthesis import (
    Generation,
    InversionJob,
    LabellingJob,
    LoraJob,
    SimpleCrf,
)

__all__ = [
    "Config", "Crf", "Extraction", "ExtractionJob", "Generation", "InversionJob", "LabellingJob",
    "LoraJob", "Model", "NamedSegmentor", "Query", "Refinement", "RefinementJob", "Segmentor",
    "Settings", "SimpleCrf", "SubjectSegmentationJob", "SubjectTrainingJob", "TestJob", "Variant",
    "read_segmentor", "read_settings",
]  # fmt: skip
