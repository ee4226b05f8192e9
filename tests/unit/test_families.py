"""Families with separate cross-attention: their maps, inputs and token positions, and who is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from transformers import T5Tokenizer

from attnseg.attn2mask.generate import ddpm_scheduler, generate
from attnseg.attn2mask.invert import ddim_schedulers
from attnseg.attn2mask.prompt_sets import Prompt
from attnseg.backbones import load_backbone, loading
from attnseg.backbones.model_files import check_access
from attnseg.backbones.stable_diffusion import stable_diffusion
from attnseg.backbones.text import Query, TooLong
from attnseg.errors import TemporaryError, UserError
from attnseg.settings import Generation
from attnseg.text2mask.attention import attention_maps
from attnseg.text2mask.options import options_for

FAMILIES = ["sd2", "sdxl", "pixart-alpha", "pixart-sigma", "sana"]
TEXT = "a photo including dog, potted plant, and Cat."
PHRASES = ["dog", "potted plant", "Cat"]
# counted by hand in the tokenizers of `tiny_families`
PLACES = {
    # <start> a photo including | dog , potted: two pieces | plant , and | cat
    "sd2": [[4], [6, 7], [10]],
    "sdxl": [[4], [6, 7], [10]],
    # _a _photo _including | _dog , | _pot ted _plant , _a n d | _cat
    "pixart-alpha": [[3], [5, 6, 7], [12]],
    "pixart-sigma": [[3], [5, 6, 7], [12]],
    # <bos> _a _photo _ includ in g | _dog , | _pot t e d _plant , _a n d | _cat
    "sana": [[7], [9, 10, 11, 12, 13], [18]],
}


def spans(text: str, phrases: list[str]) -> tuple[tuple[int, int], ...]:
    return tuple((text.index(phrase), text.index(phrase) + len(phrase)) for phrase in phrases)


@pytest.fixture(scope="module")
def models(tiny_family):
    """Tiny models by family, whose attention is sharp: a new network's is nearly uniform."""
    loaded = {}

    @torch.no_grad()
    def get(family: str):
        if family not in loaded:
            model = loaded[family] = load_backbone(tiny_family(family), device="cpu")
            noisy = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
            with model.record(model.blocks, stop=False) as seen:
                model.denoise(noisy, 100, model.encode_text([TEXT]))
            for block, (attention, *_) in model.blocks.items():
                query, key, _ = seen[block].inputs()
                scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
                last = attention.norm_q or attention.to_q
                last.weight.mul_(3 / scores.std())
        return loaded[family]

    return get


def bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """align_corners False, clamped at the border: [h, w] -> size."""

    def weights(source: int, target: int) -> np.ndarray:
        place = np.clip((np.arange(target) + 0.5) * source / target - 0.5, 0, source - 1)
        return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(source)))

    return weights(image.shape[0], size[0]) @ image @ weights(image.shape[1], size[1]).T


def eager(model, noisy, text, real_tokens, positions, cross_blocks, self_block, iterations):
    """(cross, selfcross) of each sample, from the projections of an ordinary pass, in full matrices.

    `real_tokens`: how many of a sample's tokens are no padding, None for a family without a mask.
    """
    kept, handles = {}, []
    for block, (attention, *_) in model.blocks.items():
        for letter in "qk":
            norm = getattr(attention, f"norm_{letter}")
            last = getattr(attention, f"to_{letter}") if norm is None else norm
            handles.append(
                last.register_forward_hook(
                    lambda *a, key=(block, letter): kept.update({key: a[2].double().numpy()})
                )
            )
    with torch.no_grad():
        model.denoise(noisy, 100, text)
    for handle in handles:
        handle.remove()

    def matrix(block, sample):
        heads = model.blocks[block].module.heads
        query, key = (np.split(kept[block, letter][sample], heads, -1) for letter in "qk")
        total = 0
        for q, k in zip(query, key, strict=True):
            weights = np.exp(q @ k.T / np.sqrt(q.shape[1]))
            if block[1] == "cross" and real_tokens:
                weights[:, real_tokens[sample] :] = 0
            total = total + weights / weights.sum(1, keepdims=True)
        return total / heads

    def grid(cells):
        sizes = [[side // 2**halved for side in noisy.shape[-2:]] for halved in range(4)]
        return next(size for size in sizes if size[0] * size[1] == cells)

    for sample, classes in enumerate(positions):
        crosses = [matrix((number, "cross"), sample) for number in cross_blocks]
        if self_block is None:
            spread = np.eye(len(crosses[0]))
        else:
            spread = np.linalg.matrix_power(matrix((self_block, "self"), sample), iterations)
        size = grid(len(spread))
        cross = np.stack(
            [
                np.mean(
                    [bilinear(c[:, p].mean(1).reshape(grid(len(c))), size) for c in crosses], axis=0
                )
                for p in classes
            ]
        )
        yield cross, (spread @ cross.reshape(len(classes), -1).T).T.reshape(cross.shape)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("size", [(16, 16), (24, 16)], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_maps_equal_full_matrices_and_an_explicit_softmax(models, family, size, batch):
    model = models(family)
    samples = [(TEXT, PHRASES), ("a dog and a plant.", ["plant"])] * 2
    queries = [Query(text, spans(text, phrases)) for text, phrases in samples[-batch:]]
    text = model.encode_text([query.text for query in queries])
    positions = [model.token_positions(query) for query in queries]
    noisy = torch.randn(batch, 4, *size, generator=torch.Generator().manual_seed(batch))
    cross, self_block = model.default_blocks
    ours = attention_maps(
        model, noisy, 100, text, positions, cross_blocks=cross, self_block=self_block
    )
    mask = text.more.get("mask")
    real = None if mask is None else mask.sum(1).tolist()
    theirs = eager(model, noisy, text, real, positions, cross, self_block, 2)
    for maps, query, expected in zip(ours, queries, theirs, strict=True):
        assert len(maps.cross) == len(query.spans)
        for mine, right in zip((maps.cross, maps.selfcross), expected, strict=True):
            assert mine.shape == right.shape
            closeness = min(1e-5, np.ptp(right) / 100)  # propagated maps are flat
            np.testing.assert_allclose(mine.numpy(), right, atol=closeness, rtol=0)
    if self_block is None:
        assert all(torch.equal(maps.cross, maps.selfcross) for maps in ours)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_recording_changes_no_bit_of_what_the_denoiser_says(models, family):
    model = models(family)
    inputs = torch.randn(2, 4, 16, 24), 100, model.encode_text([TEXT, "a cat"])
    plain = model.denoise(*inputs)
    assert plain.shape == (2, 4, 16, 24) and plain.dtype == torch.float32
    with model.record(model.blocks, stop=False, values=True) as seen:
        assert torch.equal(model.denoise(*inputs), plain)
    assert list(seen) == list(model.blocks)


@pytest.mark.parametrize("family", FAMILIES)
def test_tokens_are_where_they_are_counted_by_hand(models, family):
    assert models(family).token_positions(Query(TEXT, spans(TEXT, PHRASES))) == PLACES[family]


@pytest.mark.parametrize(("family", "window"), [("sd2", 64), ("pixart-alpha", 120), ("sana", 300)])
def test_a_class_past_the_window_is_said_to_be_too_long(models, family, window):
    def fits(words: int) -> bool:
        text = "a " * words + "dog"
        try:
            ((place,),) = models(family).token_positions(Query(text, ((2 * words, len(text)),)))
        except TooLong:
            return False
        return place == words + (family != "pixart-alpha")  # after the first token

    last = (
        window - {"sd2": 3, "pixart-alpha": 2, "sana": 2}[family]
    )  # first and last token, the last
    assert fits(last) and not fits(last + 1)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_texts_and_the_network_s_inputs_are_those_of_diffusers_pipeline(models, family):
    model, asked = models(family), []
    pipe = model.pipeline()
    pipe.set_progress_bar_config(disable=True)
    size = {} if family.startswith("s") and family != "sana" else {"use_resolution_binning": False}
    handle = model.network.register_forward_hook(
        lambda *a: asked.append((a[1], a[2], a[3])), with_kwargs=True
    )
    pipe(
        TEXT,
        height=96,
        width=64,
        num_inference_steps=2,
        guidance_scale=1.0,
        output_type="latent",
        **size,
    )
    handle.remove()
    arguments, given, said = asked[0]
    noisy = arguments[0]
    timestep = given.get("timestep", arguments[1] if len(arguments) > 1 else None)
    text = model.encode_text([TEXT])
    assert torch.equal(given["encoder_hidden_states"], text.hidden)
    mine = model.denoise(noisy, torch.as_tensor(timestep), text)
    assert torch.equal(mine, said[0][:, :4]) and noisy.shape == (1, 4, 24, 16)


@pytest.mark.parametrize("family", ["sd2", "sdxl", "pixart-sigma"])
def test_images_are_drawn_with_their_attention(models, family):
    """Of which blocks has no default: on the finest grid among those asked for."""
    places = [[list(span)] for span in spans(TEXT, PHRASES)]
    prompts = [Prompt("p", TEXT, PHRASES, places, seed=1)]
    model, sampling = models(family), Generation(steps=2, attention_step=1, cross_blocks=[1, 2])
    (((drawn,)),) = generate(model, prompts, sampling)
    assert drawn.skipped is None and drawn.image.shape == (64, 64, 3)
    finest = min(model.blocks[block, "cross"].halvings for block in (1, 2))
    assert drawn.cross.shape == (3, 16 // 2**finest, 16 // 2**finest)
    assert drawn.cross.isfinite().all()


@torch.no_grad()
def test_sdxl_s_empty_text_is_zeros_as_it_was_trained(models):
    text = models("sdxl").encode_text(["", "a dog"])
    assert not text.hidden[0].any() and not text.more["text_embeds"][0].any()
    assert text.hidden[1].any() and text.more["text_embeds"][1].any()


def test_flow_matching_goes_straight_from_the_image_to_the_noise(models):
    latents, noise = (torch.randn(3, 4, 6, 8) for _ in range(2))
    t = torch.tensor([0, 150, 999])
    noisy = models("sana").add_noise(latents, noise, t)
    for row, share in enumerate((0, 0.15, 0.999)):
        expected = latents[row] + share * (noise[row] - latents[row])
        torch.testing.assert_close(noisy[row], expected)
    assert torch.equal(models("sana").add_noise(latents, noise, 150)[1], noisy[1])
    slope = (models("sana").add_noise(latents, noise, 500) - latents) / 0.5
    torch.testing.assert_close(models("sana").target(latents, noise, t), slope)


@pytest.mark.parametrize("family", FAMILIES)
def test_images_go_to_the_latents_and_back(models, family):
    model = models(family)
    pixels = torch.rand(2, 3, 96, 64) * 2 - 1
    posterior = model.encode_images(pixels)
    assert posterior.mean.shape == posterior.std.shape == (2, *model.latent_shape((96, 64)))
    assert model.decode(posterior.latents()).shape == (2, 96, 64, 3)


def test_sana_is_not_propagated_and_says_so(models):
    options = options_for(models("sana"))
    assert (options.self_block, options.cross_blocks) == (None, [0, 1, 2])
    with pytest.raises(
        UserError, match="no self-attention with a softmax.* null in model.self_block"
    ):
        options_for(models("sana"), self_block=1)
    text = models("sana").encode_text(["a dog"])
    with pytest.raises(UserError, match="self-attention is asked for"):
        attention_maps(
            models("sana"), torch.randn(1, 4, 8, 8), 100, text, [[[1]]],
            cross_blocks=[0], self_block=None, with_affinity=True,
        )  # fmt: skip


def test_images_of_flow_matching_are_neither_drawn_by_ddpm_nor_inverted(models):
    for make in (ddpm_scheduler, ddim_schedulers):
        make(models("sdxl").scheduler, 10)
        make(models("pixart-sigma").scheduler, 10)
        with pytest.raises(UserError, match="flow matching") as error:
            make(models("sana").scheduler, 10)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("family", ["sdxl", "pixart-alpha", "pixart-sigma", "sana"])
def test_adapters_and_subjects_are_stable_diffusion_s(models, family):
    name = type(models(family)).__name__
    with pytest.raises(UserError, match=f"family {name}; LoRA and Custom Diffusion need") as error:
        stable_diffusion(models(family))
    assert "\n" not in str(error.value)
    assert stable_diffusion(models("sd2")) is models("sd2")


@pytest.mark.parametrize(
    ("family", "component", "changed", "reason"),
    [
        ("sd2", "unet", {"in_channels": 9}, "takes 9 channels, latents have 4"),
        ("sdxl", "unet", {"in_channels": 9}, "takes 9 channels, latents have 4"),
        ("sdxl", "unet", {"time_cond_proj_dim": 256}, "distilled, with the guidance as an input"),
        ("sdxl", "unet", {"addition_embed_type": None}, "the addition_embed_type None"),
        ("sdxl", "", {"text_encoder": [None, None]}, "a refiner"),
        (
            "sdxl",
            "",
            {"_class_name": "StableDiffusionXLImg2ImgPipeline"},
            "a refiner; give its base",
        ),
        ("sana", "transformer", {"guidance_embeds": True}, "distilled, with the guidance"),
        ("sana", "", {"_class_name": "SanaSprintPipeline"}, "distilled, with the guidance"),
        ("sd2", "", {"_class_name": "StableDiffusionInpaintPipeline"}, "also takes a mask"),
        ("sd3", "transformer", {"in_channels": 9}, "takes 9 channels, latents have 4"),
        ("flux-dev", "transformer", {"in_channels": 96}, "takes 96 channels, latents have 16"),
        ("flux-dev", "", {"_class_name": "FluxKontextPipeline"}, "edits an image"),
        ("flux2-klein", "", {"_class_name": "Flux2Pipeline"}, "Mistral's; give a FLUX.2 klein"),
        ("flux2-klein", "", {"_class_name": "Flux2KleinKVPipeline"}, "made to edit images"),
        ("flux2-klein", "transformer", {"in_channels": 32}, "takes 32 channels, latents have 16"),
        ("z-image", "transformer", {"siglip_feat_dim": 8}, "its transformer also takes images"),
        ("qwen-image", "transformer", {"zero_cond_t": True}, "zero_cond_t, which is for editing"),
        ("qwen-image", "", {"_class_name": "QwenImageEditPipeline"}, "edits an image"),
    ],
)
def test_what_is_not_supported_is_refused_before_its_weights_are_fetched(
    tiny_family, tmp_path, monkeypatch, family, component, changed, reason
):
    def only(folder, names):
        return set(names) if folder.endswith("safetensors") else {
            name for name in names if name.endswith(".safetensors")
        }  # fmt: skip

    folder = shutil.copytree(tiny_family(family), tmp_path / "model", ignore=only)
    file = folder / component / ("config.json" if component else "model_index.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    fetched = []

    def fetch(name, *, allow_patterns, **_):
        fetched.extend(allow_patterns)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    for given in ((folder,), ("some/model", "133a221b")):
        with pytest.raises(UserError, match=reason) as error:
            load_backbone(*given, device="cpu")
        assert "is not supported" in str(error.value) and "\n" not in str(error.value)
    assert fetched and not any("safetensors" in pattern for pattern in fetched)


@pytest.fixture
def pieces(tiny_family, tmp_path):
    """A PixArt whose tokenizer is a spiece.model alone, as on the hub: nothing, to be written."""
    folder = shutil.copytree(tiny_family("pixart-sigma"), tmp_path / "model")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    (folder / "tokenizer" / "spiece.model").touch()
    return folder


@pytest.mark.parametrize("lacking", ["sentencepiece", "protobuf"])
def test_a_t5_of_pieces_alone_asks_for_what_reads_it(pieces, monkeypatch, lacking):
    for name in ("sentencepiece", "protobuf"):
        there = name != lacking
        monkeypatch.setattr(loading, f"is_{name}_available", lambda there=there: there)
    with pytest.raises(
        UserError, match="tokenizer/ has a spiece.model alone: .*the extra `t5`"
    ) as error:
        load_backbone(pieces, device="cpu")
    assert "\n" not in str(error.value)


def test_a_t5_of_pieces_alone_has_sentencepiece_s_tokens(pieces):
    pytest.importorskip("sentencepiece.sentencepiece_model_pb2", reason="the extra `t5`")
    import sentencepiece

    file = pieces / "tokenizer" / "spiece.model"
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([TEXT.lower()] * 50), model_prefix=str(file.with_suffix("")),
        vocab_size=40, hard_vocab_limit=False, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, minloglevel=2,
    )  # fmt: skip
    expected = sentencepiece.SentencePieceProcessor(model_file=str(file))
    assert loading.load_tokenizer(pieces, "tokenizer", T5Tokenizer)(TEXT.lower()).input_ids == [
        *expected.encode(TEXT.lower()), 1
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        (
            GatedRepoError,
            "licence must be accepted, on https://huggingface.co/some/model; .*HF_TOKEN",
        ),
        (RepositoryNotFoundError, "the hub has no such model, .* correct model.path .*HF_TOKEN"),
    ],
)
def test_a_model_that_the_hub_refuses_is_one_line_that_says_what_to_do(monkeypatch, refused, said):
    """When it is loaded, and when `attnseg doctor` asks."""

    def ask(*_, **__):
        raise refused.__new__(refused)  # without the hub's answer

    monkeypatch.setattr("huggingface_hub.snapshot_download", ask)
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", ask)
    for asked in (
        lambda: load_backbone("some/model", "133a221b", device="cpu"),
        lambda: check_access("some/model"),
    ):
        with pytest.raises(UserError, match=said) as error:
            asked()
        assert "\n" not in str(error.value) and not isinstance(error.value, TemporaryError)


def test_a_hub_that_does_not_answer_refuses_nothing(monkeypatch):
    def ask(*_, **__):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", ask)
    assert check_access("some/model") is False
    monkeypatch.setattr("huggingface_hub.HfApi.auth_check", lambda *_: None)
    assert check_access("some/model") is True
