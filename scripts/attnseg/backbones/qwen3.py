"""Texts as Qwen3 reads them, asked in a chat; families of models inherit it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import ModelMixin
from transformers import Qwen2Tokenizer, Qwen3Model

from attnseg.backbones.loading import load_network, load_scheduler, load_tokenizer
from attnseg.backbones.text import Query, checked, places
from attnseg.errors import UserError

WINDOW = 512  # tokens of a text, the chat's around it included
MARK = "\ue000"  # stands for a text


def load_parts(
    folder: Path, networks: Mapping[str, type[ModelMixin]], device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """The parts of a model's folder by name: `networks` of these classes, Qwen3 with its tokenizer, the
    scheduler."""
    every = {**networks, "text_encoder": Qwen3Model}
    return {
        **{n: load_network(folder, n, cls, dtype).to(device) for n, cls in every.items()},
        "tokenizer": load_chat(folder),
        "scheduler": load_scheduler(folder),
    }


def load_chat(folder: Path) -> Qwen2Tokenizer:
    """The tokenizer of a model's folder, with its template of a chat."""
    tokenizer = load_tokenizer(folder, "tokenizer", Qwen2Tokenizer)
    if tokenizer.chat_template is None:
        raise UserError(f"{folder}: tokenizer/ has no chat template; fetch the model again")
    tokenizer.padding_side = "right"
    return tokenizer


class Qwen3Text:
    """A mixin: hidden states of a text in a chat, which the network sees with what is around it."""

    thinking: ClassVar[bool]  # whether the answer may begin with a thought
    device: torch.device
    tokenizer: Qwen2Tokenizer
    text_encoder: Qwen3Model

    def asked(self, text: str) -> str:
        """The chat in which `text` is the question."""
        return self.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}],
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=self.thinking,
        )

    def token_positions(self, query: Query) -> list[list[int]]:
        before = self.asked(MARK).index(MARK)
        spans = [(before + start, before + end) for start, end in query.spans]
        return checked(query, places(self.tokenizer, self.asked(query.text), spans), WINDOW)

    def states(
        self, texts: Sequence[str], layers: Iterable[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Hidden states after some layers, joined on features [B, WINDOW, D], and the mask of what is no
        padding [B, WINDOW]."""
        tokens = self.tokenizer(
            [self.asked(text) for text in texts],
            padding="max_length",
            truncation=True,
            max_length=WINDOW,
            return_tensors="pt",
        ).to(self.device)
        ids, mask = tokens.input_ids, tokens.attention_mask
        parts = zip(ids.split(16), mask.split(16), strict=True)
        found = [
            self.text_encoder(i, attention_mask=m, output_hidden_states=True).hidden_states
            for i, m in parts
        ]
        joined = [torch.cat([states[layer] for layer in layers], -1) for states in found]
        return torch.cat(joined), mask.bool()
