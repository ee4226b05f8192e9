"""Identities, which decide whether finished work runs again, and the settings of programs."""

import argparse
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field

from attnseg.config.reading import read_config
from attnseg.errors import UserError
from attnseg.jobs import settings as jobs
from attnseg.settings import (
    Crf,
    ExtractionJob,
    LabellingJob,
    RefinementJob,
    Segmentor,
    Settings,
    read_settings,
)
from attnseg.settings.base import key
from attnseg.settings.cli import add_settings, given_settings

CONFIG = Path(__file__).resolve().parents[2] / "config"


def test_the_identity_is_the_version_and_what_differs_from_the_defaults():
    assert ExtractionJob().identity() == {"version": 1}
    told = ExtractionJob(noises=1, query={"synonyms": False}, cross_blocks="usual")
    assert told.identity() == {"version": 1, "noises": 1, "query": {"synonyms": False}}


def test_a_new_key_with_a_neutral_default_changes_no_identity():
    class Newer(ExtractionJob):
        sharpen: float = key(0.0, "A new key.")

    told = {"noises": 1, "timestep": 300}
    assert Newer(**told).identity() == ExtractionJob(**told).identity()
    assert Newer(**told, sharpen=1.0).identity() != ExtractionJob(**told).identity()


def test_a_key_that_cannot_change_a_result_is_not_in_the_identity():
    told = ExtractionJob(batch_size=3)
    assert told.identity() == ExtractionJob().identity()
    assert told.speed() == {"batch_size": 3}
    training = Segmentor(workers=0, checkpoint_interval=5)
    assert training.identity() == Segmentor().identity()
    assert training.speed() == {"workers": 0, "checkpoint_interval": 5}


def test_another_version_of_a_stage_is_another_identity_and_refused():
    class Later(ExtractionJob):
        version: ClassVar[int] = 2

    assert Later().identity() != ExtractionJob().identity()
    with pytest.raises(UserError, match="^extraction.version: made for version 1 .* this is 2"):
        read_settings(Later, ExtractionJob().identity(), "extraction")


def test_what_a_labelling_does_not_read_is_not_in_its_identity():
    assert LabellingJob(post="otsu", theta=3, crf={"iterations": 9}).identity() == {
        "version": 3,
        "post": "otsu",
    }
    assert LabellingJob(post="threshold", theta=64).identity()["theta"] == 64


def test_none_in_place_of_a_section_is_an_identity_of_its_own():
    assert RefinementJob().identity() == {"version": 2}
    assert RefinementJob(crf=None).identity() == {"version": 2, "crf": None}
    assert RefinementJob(crf=Crf(iterations=3)).identity()["crf"] == {"iterations": 3}


@pytest.mark.parametrize("files", [["config.yaml"], ["config.yaml", "mini.yaml"]], ids=len)
def test_every_job_of_the_shipped_configurations_comes_back_from_its_identity(files):
    config = read_config(*(CONFIG / file for file in files))
    told = [
        *(jobs.extraction_job(config, name) for name in config["variants"]),
        *(jobs.refinement_job(config, "base", name) for name in config["refinements"]),
        *(jobs.labelling_job(config, name) for name in config["labellings"]),
        *(jobs.inversion_job(config, name) for name in config["inversions"]),
        *(jobs.lora_job(config, name) for name in config["loras"]),
        *(jobs.test_job(config, name) for name in config["segmentors"]),
        jobs.generation_job(config),
        jobs.class_images_job(config),
        jobs.subject_training_job(config),
        jobs.subject_segmentation_job(config),
    ]
    for job in told:
        again = read_settings(type(job), job.identity() | job.speed())
        assert again.identity() == job.identity() and again.speed() == job.speed()


class Small(Settings):
    """Settings of a test."""

    rate: float = key(0.5, "How fast.", gt=0)
    crf: Crf | None = key(Crf(), "The CRF; null for none.")
    label: str = Field("a", description="A word.")


def given(*arguments: str) -> Small:
    parser = argparse.ArgumentParser()
    add_settings(parser, Small)
    return given_settings(parser.parse_args(arguments), Small)


def test_a_program_takes_settings_from_json_a_file_and_single_keys(tmp_path):
    assert given() == Small()
    file = tmp_path / "own.json"
    file.write_text('{"rate": 2, "crf": {"iterations": 3}}')
    expected = Small(rate=2, crf={"iterations": 3, "gaussian": {"sxy": 5}}, label="b")
    single = ("--set", "crf.gaussian.sxy=5", "--set", "label=b")
    assert given("--settings", str(file), *single) == expected
    assert given("--settings", file.read_text(), *single) == expected
    assert given("--set", "crf=null").crf is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--settings", "{"], "--settings: not JSON"),
        (["--settings", "no.json"], "--settings no.json: No such file"),
        (["--set", "rate"], "--set rate: write KEY=VALUE"),
        (["--set", "rat=1"], "settings.rat: no such key; did you mean `rate`?"),
        (["--set", "rate=0"], "settings.rate: 0 is too small; must be more than 0"),
        (["--set", "crf.gausian.sxy=1"], "settings.crf.gausian: no such key; did you mean"),
        (["--set", "crf.iterations=many"], "settings.crf.iterations: expected integer, not 'many'"),
    ],
)
def test_wrong_settings_of_a_program_are_one_line(arguments, message):
    with pytest.raises(UserError) as refused:
        given(*arguments)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_the_help_of_a_program_has_every_key_with_its_default():
    parser = argparse.ArgumentParser()
    add_settings(parser, ExtractionJob)
    text = parser.format_help()
    assert "query.background_words" in text and 'default "usual"' in text
    for field in ExtractionJob.model_fields:
        assert f"  {field}" in text
