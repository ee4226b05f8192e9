"""Custom Diffusion: what is trained, how it is saved and resumed, and how it is loaded."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image

from attnseg.backbones import load_backbone
from attnseg.backbones.text import encode_text, token_positions
from attnseg.core.geometry import central_square
from attnseg.core.seeds import generator_of
from attnseg.errors import UserError
from attnseg.personalised import custom_diffusion as cd
from attnseg.personalised import personal as personal_weights
from attnseg.personalised.personal import (
    INFO,
    PROJECTIONS,
    Personal,
    check_identifier,
    fingerprint,
    initial_embedding,
    personal_description,
    personalised,
    phrase_query,
    read_personal,
    save_personal,
    text_projections,
    with_tokens,
)
from attnseg.settings import SubjectTrainingJob
from attnseg.text2mask.attention import attention_maps

SETTINGS = SubjectTrainingJob(
    steps=4, batch_size=1, learning_rate=1e-2, size=64, initial_word="dog", augment=False
)

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def backbone(tiny_sd):
    return load_backbone(tiny_sd, device="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> dict[str, Path]:
    """Folders of three noisy photos each."""
    rng = np.random.default_rng(0)
    folders = {}
    for name in ("subject", "other", "class"):
        folders[name] = tmp_path_factory.mktemp(name)
        for i in range(3):
            pixels = rng.integers(0, 255, (64, 80, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folders[name] / f"{i}.png")
    return folders


def concept(photos: dict, name: str = "subject", token: str = "<new1>", prior: bool = True):
    found = cd.concepts_from([photos[name]], ["cat"], [token])[0]
    return (
        replace(found, regularisation=tuple(sorted(photos["class"].iterdir()))) if prior else found
    )


@pytest.fixture(scope="module")
def learnt(tiny_sd, photos, tmp_path_factory) -> tuple[Personal, Path]:
    """Weights that differ much from the base model's, and the folder they are saved in."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("learnt")
    personal = cd.train(
        load_backbone(tiny_sd, device="cpu"), [concept(photos)], SETTINGS, folder / "checkpoint.pt"
    )
    save_personal(folder / "weights", personal)
    torch.set_num_threads(threads)
    return personal, folder / "weights"


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def hidden_states(backbone, text: str) -> torch.Tensor:
    with torch.no_grad():
        return backbone.text_encoder(encode_text(backbone.tokenizer, [text])).last_hidden_state


def state_of(backbone) -> dict[str, torch.Tensor]:
    networks = {"unet": backbone.unet, "text": backbone.text_encoder, "vae": backbone.vae}
    return {
        f"{name}.{key}": value.clone()
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }


def same_state(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def same_weights(a: Personal, b: Personal) -> bool:
    return same_state(a.projections, b.projections) and same_state(a.embeddings, b.embeddings)


# --- what is learnt


def test_the_embedding_and_every_key_and_value_projection_are_learnt_and_nothing_else(
    backbone, photos, tmp_path
):
    before, processors = state_of(backbone), backbone.unet.attn_processors
    vocabulary = len(backbone.tokenizer)
    personal = cd.train(backbone, [concept(photos)], SETTINGS, tmp_path / "c.pt")
    assert same_state(state_of(backbone), before)
    assert backbone.unet.attn_processors == processors and len(backbone.tokenizer) == vocabulary
    own = text_projections(backbone.unet)
    assert len(own) == 32 and personal.projections.keys() == own.keys()
    assert all(not torch.equal(personal.projections[name], weight) for name, weight in own.items())
    table = backbone.text_encoder.get_input_embeddings().weight
    start = initial_embedding(backbone.tokenizer, table, "dog")
    assert not torch.allclose(personal.embeddings["<new1>"], start, atol=1e-3)


def test_the_first_step_is_that_of_a_plain_computation(backbone, photos, tmp_path):
    """One AdamW step from the gradient of the noise prediction's error, in a stock U-Net."""
    settings = SETTINGS.but(steps=1, flip=False)
    given = concept(photos)
    personal = cd.train(backbone, [given], settings, tmp_path / "c.pt")
    tokenizer = with_tokens(backbone.tokenizer, ["<new1>"])
    encoder, unet = backbone.text_encoder, backbone.unet
    encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    table = encoder.get_input_embeddings().weight
    number = tokenizer.convert_tokens_to_ids("<new1>")
    start = initial_embedding(backbone.tokenizer, table, "dog")
    table.data[number] = start
    name = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v.weight"
    weight = unet.get_parameter(name)
    first = weight.detach().clone()
    table.requires_grad_(True), weight.requires_grad_(True)
    # the random numbers of step 0, in the order in which they are drawn
    generator = generator_of(0, "step", 0)

    def below(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    below(1)
    paths = [given.photos[below(3)], given.regularisation[below(3)]]
    latents = []
    for path in paths:
        with torch.no_grad():
            posterior = backbone.vae.encode(central_square(np.asarray(Image.open(path)), 64)[None])
        latents.append(posterior.latent_dist)
    draw = torch.randn(2, 4, 16, 16, generator=generator)
    clean = torch.cat([p.mean + p.std * d for p, d in zip(latents, draw, strict=True)])
    clean = clean * backbone.vae.config.scaling_factor
    eps = torch.randn(clean.shape, generator=generator)
    t = torch.randint(1000, (2,), generator=generator)
    alpha_bar = backbone.scheduler.alphas_cumprod[t].view(2, 1, 1, 1)
    text = encoder(encode_text(tokenizer, ["photo of a <new1> cat", "photo of a cat"]))
    predicted = unet(
        alpha_bar.sqrt() * clean + (1 - alpha_bar).sqrt() * eps, t, text.last_hidden_state
    ).sample
    loss = (predicted[0] - eps[0]).square().mean() + (predicted[1] - eps[1]).square().mean()
    assert personal.info["losses"] == [pytest.approx(float(loss.detach()), abs=2e-5)]
    loss.backward()
    rate = settings.learning_rate
    # AdamW's first step is the sign of the gradient, once the weights have decayed; the sign of a
    # gradient far below the others is that of rounding, which depends on the number of threads
    clear = weight.grad.abs() > 0.2 * weight.grad.abs().median()
    assert clear.float().mean() > 0.5
    expected = first * (1 - rate * 0.01) - rate * weight.grad.sign()
    torch.testing.assert_close(
        personal.projections[name][clear], expected[clear], atol=2e-4, rtol=0
    )
    expected = start * (1 - rate * 0.01) - rate * table.grad[number].sign()
    clear = table.grad[number].abs() > 0.2 * table.grad[number].abs().median()
    assert clear.float().mean() > 0.5
    torch.testing.assert_close(
        personal.embeddings["<new1>"][clear], expected[clear], atol=2e-4, rtol=0
    )


def test_prior_preservation_counts_by_its_weight(backbone, photos, tmp_path):
    def first_loss(prior: bool, weight: float) -> float:
        settings = SETTINGS.but(steps=1, prior_weight=weight)
        with_prior = concept(photos, prior=prior)
        return cd.train(backbone, [with_prior], settings, tmp_path / "c.pt").info["losses"][0]

    zero, one, three = (first_loss(True, weight) for weight in (0.0, 1.0, 3.0))
    assert one - zero > 0.1  # of a random network
    assert three - zero == pytest.approx(3 * (one - zero), abs=1e-3)
    assert first_loss(False, 1.0) < one


def test_several_concepts_are_learnt_together(backbone, photos, tmp_path):
    concepts = [concept(photos), concept(photos, "other", "<new2>")]
    settings = SETTINGS.but(steps=6)
    personal = cd.train(backbone, concepts, settings, tmp_path / "c.pt")
    assert personal.classes == {"<new1>": "cat", "<new2>": "cat"}
    one, two = personal.embeddings.values()
    assert not torch.allclose(one, two)
    save_personal(tmp_path / "weights", personal)
    with personalised(backbone, read_personal(tmp_path / "weights")) as loaded:
        assert not torch.allclose(
            hidden_states(loaded, "a <new1> cat"), hidden_states(loaded, "a <new2> cat")
        )


def test_an_interrupted_training_ends_with_the_same_weights(backbone, photos, tmp_path):
    settings = SETTINGS.but(steps=5, augment=True)
    whole = cd.train(backbone, [concept(photos)], settings, tmp_path / "a.pt")

    def interrupt(line: str) -> None:
        if "step 2/" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cd.train(backbone, [concept(photos)], settings, tmp_path / "b.pt", 2, interrupt)
    lines = []
    resumed = cd.train(backbone, [concept(photos)], settings, tmp_path / "b.pt", 2, lines.append)
    assert lines[0] == "resumed after step 2"
    assert same_weights(whole, resumed) and whole.info["losses"] == resumed.info["losses"]


def test_a_checkpoint_of_other_settings_or_photos_is_not_used(backbone, photos, tmp_path):
    checkpoint, lines = tmp_path / "c.pt", []
    cd.train(backbone, [concept(photos)], SETTINGS.but(steps=3), checkpoint, 2)
    assert checkpoint.exists()
    for name, changed in (("subject", {"seed": 1}), ("other", {})):
        settings = SETTINGS.but(steps=3, **changed)
        cd.train(backbone, [concept(photos, name)], settings, checkpoint, 2, lines.append)
    assert not any("going on" in line for line in lines)


@pytest.mark.parametrize("damage", ["other", "flipped", "truncated", "of an earlier release"])
def test_a_damaged_checkpoint_is_named_and_the_training_starts_again(
    backbone, photos, tmp_path, damage, capsys
):
    path, settings, lines = tmp_path / "c.pt", SETTINGS.but(steps=3), []
    whole = cd.train(backbone, [concept(photos)], settings, path, 2)
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(
        {
            "other": b"damaged",
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "truncated": content[:-9],
            "of an earlier release": content[64:],
        }[damage]
    )
    again = cd.train(backbone, [concept(photos)], settings, path, 2, lines.append)
    assert same_weights(whole, again)
    named = f"{path}: damaged" in capsys.readouterr().err
    if damage == "of an earlier release":  # without a digest
        assert not named and "step 2/3" not in " ".join(lines)
    else:
        assert named and "step 2/3" in " ".join(lines)


def test_training_lowers_the_loss_on_the_subject(backbone, photos, tmp_path):
    settings = SETTINGS.but(steps=40, learning_rate=5e-3)
    losses = cd.train(backbone, [concept(photos, prior=False)], settings, tmp_path / "c.pt").info[
        "losses"
    ]
    assert np.mean(losses[-10:]) < np.mean(losses[:10])


# --- where it can be used


def test_learnt_weights_compute_what_a_stock_pipeline_does(backbone, tiny_sd, learnt):
    _, folder = learnt
    pipe = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None)
    pipe.unet.load_attn_procs(folder, weight_name=PROJECTIONS, _pipeline=pipe)
    pipe.load_textual_inversion(folder, weight_name="token_1.safetensors")
    plain = (
        hidden_states(backbone, "a cat"),
        backbone.unet(noise(1, 4, 16, 16), 150, noise(1, 64, 32)).sample,
    )
    ids = encode_text(pipe.tokenizer, ["a <new1> cat"])
    with personalised(backbone, read_personal(folder)) as personal, torch.no_grad():
        text = hidden_states(personal, "a <new1> cat")
        assert torch.equal(ids, encode_text(personal.tokenizer, ["a <new1> cat"]))
        torch.testing.assert_close(pipe.text_encoder(ids).last_hidden_state, text)
        stock = pipe.unet(noise(1, 4, 16, 16), 150, text).sample
        torch.testing.assert_close(personal.unet(noise(1, 4, 16, 16), 150, text).sample, stock)
        # the identifier changes the text, the projections what is made of any text
        assert not torch.allclose(hidden_states(personal, "a <new1> cat"), plain[0], atol=1e-3)
        changed = personal.unet(noise(1, 4, 16, 16), 150, noise(1, 64, 32)).sample
        assert not torch.allclose(changed, plain[1], atol=1e-3)


def test_extraction_sees_the_learnt_keys(backbone, tiny_sd, learnt):
    """Cross of a personalised model, against hooks on diffusers' own processors.

    Fails where a watching processor drops what was learnt.
    """
    _, folder = learnt
    pipe = StableDiffusionPipeline.from_pretrained(tiny_sd, safety_checker=None)
    pipe.unet.load_attn_procs(folder, weight_name=PROJECTIONS, _pipeline=pipe)
    pipe.load_textual_inversion(folder, weight_name="token_1.safetensors")
    blocks = [m for part in (*pipe.unet.down_blocks, pipe.unet.mid_block, *pipe.unet.up_blocks)
              for m in part.modules() if type(m).__name__ == "BasicTransformerBlock"]  # fmt: skip
    attention, seen = blocks[4].attn2, {}
    attention.to_q.register_forward_hook(lambda *a: seen.update(q=a[2][0]))
    learnt_key = attention.processor.to_k_custom_diffusion
    learnt_key.register_forward_hook(lambda *a: seen.update(k=a[2][0]))
    query = phrase_query("the <new1> cat on the sea")
    latents = noise(1, 4, 16, 16)
    with torch.no_grad():
        text = pipe.text_encoder(encode_text(pipe.tokenizer, [query.text])).last_hidden_state
        pipe.unet(latents, 150, text)
    (positions,) = token_positions(pipe.tokenizer, query)
    heads, width = attention.heads, seen["q"].shape[-1] // attention.heads
    expected = torch.zeros(seen["q"].shape[0])
    for head in range(heads):
        part = slice(head * width, (head + 1) * width)
        weights = (seen["q"][:, part] @ seen["k"][:, part].T / math.sqrt(width)).softmax(-1)
        expected += weights[:, positions].mean(1) / heads
    options = {"cross_blocks": [4], "self_block": 4, "iterations": 1}

    def cross_of(model) -> torch.Tensor:
        return attention_maps(model.unet, latents, 150, text, [[positions]], **options)[0].cross

    plain = cross_of(backbone)
    with personalised(backbone, read_personal(folder)) as changed:
        found = cross_of(changed)
    torch.testing.assert_close(found.flatten(), expected, rtol=1e-4, atol=1e-6)
    assert (plain.flatten() - expected).abs().max() > 100 * (found.flatten() - expected).abs().max()


def test_parts_are_as_before_after_a_block_of_personalisation(backbone, learnt):
    personal, _ = learnt
    before, plain = state_of(backbone), hidden_states(backbone, "a cat")
    with personalised(backbone, personal) as changed:
        assert "<new1>" in changed.tokenizer.get_vocab()
        assert not torch.allclose(hidden_states(changed, "a <new1> cat"), plain)
        with pytest.raises(UserError, match="already exists"), personalised(changed, personal):
            pass
    assert same_state(state_of(backbone), before)
    assert torch.equal(hidden_states(backbone, "a cat"), plain)
    assert "<new1>" not in backbone.tokenizer.get_vocab()


def test_saved_weights_are_read_back_bit_for_bit(learnt):
    personal, folder = learnt
    again = read_personal(folder)
    assert same_weights(personal, again) and again.info == personal.info


def test_the_fingerprint_is_of_the_model_and_not_of_its_dtype(tiny_sd, backbone):
    own = fingerprint(backbone)
    half = load_backbone(tiny_sd, device="cpu", dtype=torch.float16)
    assert fingerprint(half) == own
    next(iter(text_projections(backbone.unet).values())).data[0, 0] += 0.1
    assert fingerprint(backbone) != own


# --- what a user may do wrong


def test_weights_for_another_base_model_are_refused(backbone, learnt):
    _, folder = learnt
    backbone.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn2.to_k.weight.data *= 2
    with (
        pytest.raises(UserError, match="another base model"),
        personalised(backbone, read_personal(folder)),
    ):
        pass


def test_a_token_that_exists_is_refused(backbone, learnt, photos, tmp_path):
    personal, _ = learnt
    with personalised(backbone, personal) as known:
        for call in (
            lambda: personalised(known, personal).__enter__(),
            lambda: cd.train(known, [concept(photos)], SETTINGS, tmp_path / "c.pt"),
            lambda: with_tokens(backbone.tokenizer, ["dog"]),
        ):
            with pytest.raises(UserError, match="already exists"):
                call()
    with pytest.raises(UserError, match="given twice"):
        with_tokens(backbone.tokenizer, ["<a>", "<a>"])
    with pytest.raises(UserError, match="angle brackets"):
        with_tokens(backbone.tokenizer, ["newword1"])


def test_one_photo_and_unreadable_photos_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        cd.concepts_from([tmp_path / "none"], ["cat"], ["<new1>"])
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    with pytest.raises(UserError, match="1 photo of the subject; at least 2"):
        cd.concepts_from([tmp_path], ["cat"], ["<new1>"])
    (tmp_path / "1.jpg").write_bytes(b"\xff\xd8 cut short")
    with pytest.raises(UserError, match="1.jpg: not a readable image"):
        cd.concepts_from([tmp_path], ["cat"], ["<new1>"])


def test_photos_of_any_format_are_learnt_from_and_other_files_named(tmp_path, capsys):
    for name in ("0.png", "1.WEBP", "2.tif"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("hello")
    (concept,) = cd.concepts_from([tmp_path], ["cat"], ["<new1>"])
    assert [path.name for path in concept.photos] == ["0.png", "1.WEBP", "2.tif"]
    assert "left out, no photos: notes.txt" in capsys.readouterr().err


def test_missing_and_damaged_weights_are_named(tmp_path, learnt, monkeypatch):
    with pytest.raises(UserError, match="no finished personal weights"):
        read_personal(tmp_path / "none")
    personal, _ = learnt
    save_personal(tmp_path / "w", personal)
    (tmp_path / "w" / PROJECTIONS).write_bytes(b"damaged")
    with pytest.raises(UserError, match="damaged personal weights"):
        read_personal(tmp_path / "w")
    for name in (PROJECTIONS, "token_1.safetensors", INFO):
        folder = tmp_path / name / "subjects" / "mug"
        save_personal(folder, personal)
        assert "files" not in read_personal(folder).info
        (tmp_path / name / "part-0.json").touch()
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        info = (folder / INFO).read_bytes()
        with pytest.raises(UserError, match="damaged personal weights"):
            read_personal(folder)
        assert not (folder / INFO).exists() and (tmp_path / name / "part-0.json").exists()
        (folder / INFO).write_bytes(info)
        with monkeypatch.context() as patch, pytest.raises(UserError):
            patch.setattr(personal_weights, "job_log", lambda: tmp_path / "a.log")
            read_personal(folder)
        assert not (folder / INFO).exists() and not (tmp_path / name / "part-0.json").exists()


def test_a_file_system_that_fails_for_a_moment_costs_no_weights(tmp_path, learnt, monkeypatch):
    save_personal(tmp_path / "w", learnt[0])

    def stale(path):
        raise OSError(116, "Stale file handle")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="not readable"):
        patch.setattr(personal_weights, "load_file", stale)
        read_personal(tmp_path / "w")
    assert read_personal(tmp_path / "w").embeddings


def test_a_query_without_the_identifier_is_refused(learnt):
    personal, _ = learnt
    check_identifier("the <new1> cat", personal)
    with pytest.raises(UserError, match="has no identifier.*'the <new1> cat'"):
        check_identifier("the cat", personal)


# --- queries, photos and images of the class


def test_the_identifier_goes_before_the_class():
    named = personal_description("the mug filled with tea", "mug", "<new1>")
    assert named == "the <new1> mug filled with tea"
    assert personal_description("the red mug", "mug", "<a>") == "the red <a> mug"
    with pytest.raises(UserError, match="does not name the class"):
        personal_description("the smug cup", "mug", "<new1>")


@pytest.mark.parametrize("template", ["{}", "a photo including {}."])
def test_all_words_of_a_phrase_count_but_the_article(template):
    for description in ("the <new1> mug filled with tea", "a <new1> mug.", "red mug"):
        query = phrase_query(description, template)
        ((start, end),) = query.spans
        expected = description.removesuffix(".").removeprefix("the ").removeprefix("a ")
        assert query.text[start:end] == expected
    query = phrase_query("the <new1> mug filled with tea", template, ["<new1> mug"])
    named = [query.text[start:end] for start, end in query.spans]
    assert named == ["<new1> mug filled with tea", "<new1> mug"]
    with pytest.raises(UserError, match="must contain"):
        phrase_query("the mug", "nothing")


def test_an_augmented_photo_lies_where_it_is_valid_and_the_words_fit():
    image = torch.full((3, 48, 48), 0.5)
    seen = set()
    for seed in range(60):
        out, valid, words = cd.augmented(image, torch.Generator().manual_seed(seed))
        assert out.shape == image.shape and valid.shape == (48, 48)
        assert (out[:, valid] - 0.5).abs().max() < 1e-5 and (out[:, ~valid] == 0).all()
        side = math.sqrt(int(valid.sum()))
        assert side == int(side) and side >= 16
        seen.add(words)
        if side < 0.6 * 48:
            assert words in ("a far away ", "very small ")
        elif side < 48:
            assert words == ""
        else:
            assert words in ("zoomed in ", "close up ", "")
    assert len(seen) == 5


def test_photos_are_cropped_to_their_central_square():
    image = np.zeros((40, 60, 3), np.uint8)
    image[:, 10:50] = 255
    assert (central_square(image, 20) == 1).all()
    assert central_square(image.transpose(1, 0, 2), 40).shape == (3, 40, 40)


def test_images_of_the_class_are_generated_once_and_the_same_after_an_interruption(
    backbone, tmp_path
):
    settings = SETTINGS.but(size=64)

    def make(folder: Path) -> dict[str, bytes]:
        paths = cd.regularisation_images(
            backbone, "cat", folder, 3, settings, steps=2, batch_size=2, log=lambda line: None
        )
        return {path.name: path.read_bytes() for path in paths}

    first = make(tmp_path / "a")
    assert len(set(first.values())) == 3
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").iterdir()}
    assert make(tmp_path / "a") == first
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    (tmp_path / "a" / "generated-00001.png").unlink()
    assert make(tmp_path / "a") == first
    settings = settings.but(seed=1)
    again = make(tmp_path / "a")
    assert again.keys() == first.keys() and not set(again.values()) & set(first.values())


@torch.no_grad()
def test_images_of_the_class_are_those_of_ddim_without_clipping(backbone, tmp_path, monkeypatch):
    """Two steps of DDIM with guidance by hand; predicted latents go beyond [-1, 1]."""
    seen, decode = [], backbone.vae.decode
    monkeypatch.setattr(
        backbone.vae,
        "decode",
        lambda latents, **more: seen.append(latents) or decode(latents, **more),
    )
    (path,) = cd.regularisation_images(
        backbone, "cat", tmp_path, 1, SETTINGS.but(size=64), steps=2, log=lambda line: None
    )
    text = [backbone.encode_text([prompt]) for prompt in ("", SETTINGS.prompt.format("cat"))]
    alphas = backbone.scheduler.alphas_cumprod
    generator = generator_of(SETTINGS.seed, "class", "cat", path.name)
    latents = torch.randn(1, *backbone.shape_of((64, 64)), generator=generator)
    for t, before in ((501, 1), (1, 0)):
        without, given = (backbone.denoise(latents, t, part) for part in text)
        noise = without + 6 * (given - without)
        clean = (latents - (1 - alphas[t]).sqrt() * noise) / alphas[t].sqrt()
        assert clean.abs().max() > 1
        latents = alphas[before].sqrt() * clean + (1 - alphas[before]).sqrt() * noise
    scale = backbone.vae.config.scaling_factor
    torch.testing.assert_close(seen[0] * scale, latents, rtol=1e-3, atol=1e-3)


def test_given_images_of_the_class_are_used_as_they_are(backbone, photos):
    paths = cd.regularisation_images(backbone, "cat", photos["class"], 200, SETTINGS)
    assert sorted(path.name for path in paths) == ["0.png", "1.png", "2.png"]
