"""How much there is to do in a job, in units (passes, images, megapixels, ...) that follow from its settings."""

from collections.abc import Mapping
from dataclasses import dataclass

from attnseg.jobs import Jobs
from attnseg.jobs.settings import (
    class_images_job,
    extraction_job,
    generation_job,
    inversion_job,
    labelling_job,
    lora_job,
    refinement_job,
    segmentor_job,
    subject_training_job,
    test_job,
)
from attnseg.results.planned import Planned

Units = dict[str, float]  # how many of each unit a job has


@dataclass(frozen=True)
class Work:
    """The units of jobs, from the settings."""

    jobs: Jobs
    costs: Mapping  # of config/costs.yaml

    def units(self, job: Planned) -> Units:
        """How many of each unit a job has; no passes where another job's predictions are refined."""
        count = getattr(self, job.rule, None)
        units = {"job": 1} | (count(**job.wildcards) if count else {})
        if not job.gpus and "label update" in units:
            units.pop("pass", None)
        return units

    @property
    def config(self) -> Mapping:
        return self.jobs.config

    def labels(self, dataset: str) -> float:
        """Classes of a photo, on average."""
        layout = self.config["datasets"][dataset]["layout"] or dataset
        return self.costs["labels"].get(layout, self.costs["labels"]["other"])

    # by the names and the wildcards of rules

    def extract_attention(self, dataset: str, split: str, variant: str, shard: str) -> Units:
        settings = extraction_job(self.config, variant)
        photos = in_shard(self.jobs.data.images(dataset, split), settings.shard_size, shard)
        classes = photos * self.labels(dataset)
        asked = photos if settings.query.composed else classes
        return {"pass": asked * settings.noises, "class": classes}

    def refine_masks(self, dataset: str, split: str, variant: str, refinement: str) -> Units:
        crf = refinement_job(self.config, variant, refinement).crf
        photos = self.jobs.data.images(dataset, split)
        labels = photos * (self.labels(dataset) + 1)
        return {"photo": photos, "label update": labels * (crf.iterations if crf else 0)}

    def generate_images(self, synthesis: str, shard: str) -> Units:
        settings = generation_job(self.config)
        count = self.config["synthesis"][synthesis]["count"]
        images = in_shard(count, settings.shard_size, shard)
        return {"step": images * settings.steps, "image": images}

    def refine_synthetic(self, synthesis: str, labelling: str, number: str) -> Units:
        dataset = self.config["synthesis"][synthesis]["dataset"]
        return self._labelled(int(number), dataset, labelling)

    def refine_inversion(self, dataset: str, split: str, inversion: str, labelling: str) -> Units:
        photos = self.jobs.masks.inverted_images(dataset, split, inversion)
        return self._labelled(photos, dataset, labelling)

    def _labelled(self, images: int, dataset: str, labelling: str) -> Units:
        settings = labelling_job(self.config, labelling)
        updates = settings.crf.iterations if settings.post == "crf" else 0
        return {"photo": images, "label update": images * (self.labels(dataset) + 1) * updates}

    def invert_image(self, dataset: str, split: str, inversion: str, shard: str) -> Units:
        settings = inversion_job(self.config, inversion)
        photos = self.jobs.masks.inverted_images(dataset, split, inversion)
        photos = in_shard(photos, settings.shard_size, shard)
        # DDIM's inversion, then at each step both texts, and the updates there and back
        passes = settings.steps * (1 + 2 + 3 * settings.inner_iterations)
        return {"pass": photos * passes, "class": photos * self.labels(dataset)}

    def train_segmentor(self, segmentor: str) -> Units:
        settings = segmentor_job(self.config, segmentor)
        crops = settings.iterations * settings.images_per_update
        kind = "beco" if settings.learner == "beco" else settings.architecture
        return {f"megapixel of {kind}": crops * settings.crop**2 / 1e6}

    def predict_segmentor(self, segmentor: str, split: str) -> Units:
        photos = self.jobs.data.images(self.jobs.segmentors.training(segmentor).dataset, split)
        settings = test_job(self.config, segmentor)
        return {"pass": photos * len(settings.scales) * (2 if settings.flip else 1)}

    def evaluate_segmentor(self, segmentor: str, split: str) -> Units:
        dataset = self.jobs.segmentors.training(segmentor).dataset
        crf = test_job(self.config, segmentor).crf
        labels = self.jobs.data.images(dataset, split) * len(
            self.jobs.data.facts[dataset].class_names
        )
        updates = labels * (crf.iterations if crf else 0)
        return self.predict_segmentor(segmentor, split) | {"label update": updates}

    make_submission = evaluate_segmentor

    def evaluate_masks(self, dataset: str, split: str, **_: str) -> Units:
        return {"photo": self.jobs.data.images(dataset, split)}

    make_reference_masks = write_true_masks = measure_similarity = evaluate_masks

    def train_dreambooth_lora(self, lora: str) -> Units:
        settings = lora_job(self.config, lora)
        return {"image": settings.steps * settings.batch_size}

    def generate_class_images(self) -> Units:
        return {"image": class_images_job(self.config).regularisation_images}

    def train_custom_diffusion(self, number: str) -> Units:
        settings = subject_training_job(self.config)
        subjects = self.costs["subjects"] / self.config["personalised"]["jobs"]
        # as many photos as images of the class
        return {"subject": subjects, "image": subjects * settings.steps * 2 * settings.batch_size}

    def segment_instances(self) -> Units:
        return {"question": self.jobs.data.images("mug19", "all")}


def in_shard(images: int, size: int, shard: str) -> int:
    """How many images a shard holds."""
    return min(size, images - int(shard) * size)
