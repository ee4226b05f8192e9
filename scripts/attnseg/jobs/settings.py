"""The settings that each job's program is told, derived from the configuration."""

from collections.abc import Mapping

from attnseg.config.resolved import backbone_weights, real_path, resolve_run, resolve_variant
from attnseg.settings import (
    ClassImagesJob,
    ExtractionJob,
    Generation,
    InversionJob,
    LabellingJob,
    LoraJob,
    RefinementJob,
    Segmentor,
    SubjectSegmentationJob,
    SubjectTrainingJob,
    TestJob,
    read_segmentor,
    read_settings,
)
from attnseg.settings.base import Stage


def extraction_job(config: Mapping, variant: str) -> ExtractionJob:
    """Settings of the extraction in a variant."""
    return read_settings(ExtractionJob, resolve_variant(config, variant), f"variants.{variant}")


def refinement_job(config: Mapping, variant: str, refinement: str) -> RefinementJob:
    """Settings of a refinement of a variant's attention."""
    settings = config["refinements"][refinement]
    added = {
        "crf": config["crf"] if settings["crf"] else None,
        "profile": resolve_variant(config, variant)["profile"],
    }
    return read_settings(RefinementJob, settings | added, f"refinements.{refinement}")


def labelling_job(config: Mapping, labelling: str) -> LabellingJob:
    """Settings of the post-processing of generated images or inverted photos."""
    settings = config["labellings"][labelling] | {"crf": config["labelling_crf"]}
    return read_settings(LabellingJob, settings, f"labellings.{labelling}")


def generation_job(config: Mapping) -> Generation:
    """Settings of image generation."""
    return read_settings(Generation, config["generation"], "generation")


def inversion_job(config: Mapping, inversion: str) -> InversionJob:
    """Settings of an inversion, without the number of photos."""
    return _part(InversionJob, config["inversions"][inversion], f"inversions.{inversion}")


def lora_job(config: Mapping, lora: str) -> LoraJob:
    """Settings of an adapter's training, without its photos."""
    more = {"seed": config["seed"], "guidance": config["generation"]["guidance"]}
    return _part(LoraJob, config["loras"][lora] | more, f"loras.{lora}")


def class_images_job(config: Mapping) -> ClassImagesJob:
    """Settings of the generation of images of the subjects' class."""
    return _part(ClassImagesJob, subject_training_job(config).dump(), "personalised.training")


def subject_training_job(config: Mapping) -> SubjectTrainingJob:
    """Settings of the training of subjects."""
    settings = config["personalised"]["training"] | {"seed": config["seed"]}
    return read_settings(SubjectTrainingJob, settings, "personalised.training")


def subject_segmentation_job(config: Mapping) -> SubjectSegmentationJob:
    """Settings of personalised segmentation; blocks that are not set are the model's, or else the paper's."""
    settings = dict(config["personalised"]["segmentation"]) | {"seed": config["seed"]}
    for key in ("cross_blocks", "self_block"):
        if settings[key] is None:
            settings[key] = config["model"][key]
        if settings[key] == "usual":
            del settings[key]
    return read_settings(SubjectSegmentationJob, settings, "personalised.segmentation")


def segmentor_job(config: Mapping, segmentor: str) -> Segmentor:
    """The training of a segmentor; its data are another matter."""
    settings = resolve_run(config, segmentor)
    weights = real_path(backbone_weights(settings), config)
    return read_segmentor(settings | {"pretrained": weights or None}, f"segmentors.{segmentor}")


def test_job(config: Mapping, segmentor: str) -> TestJob:
    """Settings of a segmentor's evaluation."""
    settings = config["segmentors"][segmentor.partition("@")[0]]["test"]
    added = (
        {"crf": config["crf"], "profile": config["profile"]} if settings["crf"] else {"crf": None}
    )
    return read_settings(TestJob, settings | added, f"segmentors.{segmentor}.test")


def prediction_job(config: Mapping, segmentor: str) -> TestJob:
    """Settings of a prediction that is refined by another job, where the CRF's belong."""
    return test_job(config, segmentor).but(crf=None, profile="paper")


test_job.__test__ = False  # type: ignore[attr-defined]  # no test of pytest's


def _part(cls: type[Stage], values: Mapping, where: str) -> Stage:
    """Settings of class `cls`, from those of its keys that are in `values`."""
    known = {key: value for key, value in values.items() if key in cls.model_fields}
    return read_settings(cls, known, where)
