"""All keys of the configuration: type, default, bounds and meaning, in one class per stage.

The checks of a configuration, the JSON schema, config/README.md, the programs' help, the settings of
jobs and the identity of finished work are all derived from these classes. A class whose name ends in
Job has the settings of a program: those of its stage and those from other keys of the configuration.
Standard library and pydantic only.
"""

from attnseg.settings.attention import (
    PROFILES,
    Background,
    Bilateral,
    Crf,
    Extraction,
    ExtractionJob,
    Gaussian,
    Model,
    ProfileName,
    Query,
    Refinement,
    RefinementJob,
    Variant,
)
from attnseg.settings.base import Settings, read_settings
from attnseg.settings.configuration import Config
from attnseg.settings.data import Claims, Figure2, Method, Picture, Prediction
from attnseg.settings.personalised import (
    ClassImagesJob,
    Personalised,
    SubjectSegmentationJob,
    SubjectTrainingJob,
)
from attnseg.settings.segmentor import NamedSegmentor, Segmentor, TestJob, read_segmentor
from attnseg.settings.synthesis import (
    Generation,
    InversionJob,
    Labelling,
    LabellingJob,
    Lora,
    LoraJob,
    SimpleCrf,
    Synthesis,
)

__all__ = [
    "Background", "Bilateral", "Claims", "ClassImagesJob", "Config", "Crf", "Extraction",
    "ExtractionJob", "Figure2", "Gaussian", "Generation", "InversionJob", "Labelling",
    "LabellingJob", "Lora", "LoraJob", "Method", "Model", "NamedSegmentor", "PROFILES", "Personalised",
    "Picture", "Prediction", "ProfileName", "Query", "Refinement", "RefinementJob", "Segmentor", "Settings", "SimpleCrf",
    "SubjectSegmentationJob", "SubjectTrainingJob", "Synthesis", "TestJob", "Variant",
    "read_segmentor", "read_settings",
]  # fmt: skip
