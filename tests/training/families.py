"""Tiny random models of the architecture families people unlearn, each with its own prompting.

Tokenizers are trained on the spot in the two forms that matter: bytes (GPT-2 and what followed it)
and sentencepiece's (Llama 2, Gemma, Mistral). The chat templates are the families' own; they are
cut by what only tools and several turns need.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

VOCABULARY = 700
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
GATED = {**SIZES, "intermediate_size": 64, "num_key_value_heads": 1}

LLAMA3 = """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
QWEN = """\
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. ' }}
    {{- 'You are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role != 'system' or not loop.first %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>\\n' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>\\n' + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""


@dataclass(frozen=True)
class Family:
    """One architecture with the tokenizer and the template of its published models."""

    option: str
    """Of the `model` group."""
    config: Callable[[], Any]
    tokenizer: Callable[[Sequence[str]], Tokenizer]
    tokens: dict[str, str]
    """bos, eos, pad, unk."""
    tokenizer_class: str
    turns: tuple[str, ...] = ()
    """Further special tokens, of the chat template."""
    bos: bool = False
    """Whether the tokenizer puts a beginning of sequence in front by itself."""
    chat: str | None = None
    generation: dict[str, Any] = field(default_factory=dict)
    """What the published generation_config.json asks for."""

    def make(self, folder: Path, texts: Sequence[str]) -> Path:
        """Writes a folder as `save_pretrained` does; returns it."""
        backend = self.tokenizer(texts)
        specials = list(dict.fromkeys((*self.tokens.values(), *self.turns)))
        backend.add_special_tokens(specials)
        if self.bos:
            bos = self.tokens["bos"]
            backend.post_processor = processors.TemplateProcessing(
                single=f"{bos} $A", special_tokens=[(bos, backend.token_to_id(bos))]
            )
        tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend,
            chat_template=self.chat,
            additional_special_tokens=list(self.turns),
            **{f"{name}_token": token for name, token in self.tokens.items()},
        )
        config = self.config()
        config.vocab_size = len(tokenizer)
        for name in ("bos", "eos", "pad"):
            token = self.tokens.get(name)
            setattr(config, f"{name}_token_id", token and tokenizer.convert_tokens_to_ids(token))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if "norm" not in name and parameter.dim() > 1:
                parameter.data.mul_(4)  # as far from uniform as a trained model's logits
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        _amend(folder / "tokenizer_config.json", {"tokenizer_class": self.tokenizer_class})
        _amend(folder / "generation_config.json", self.generation)
        return folder


def _amend(path: Path, more: dict[str, Any]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))


def _bytes(texts: Sequence[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _pieces(texts: Sequence[str], first: str) -> Tokenizer:
    """Returns a tokenizer as sentencepiece's: words begin with a bar, odd characters are bytes."""
    bars = normalizers.Replace(" ", "▁")
    normalizer = normalizers.Sequence([*([normalizers.Prepend("▁")] if first else []), bars])
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizer
    learner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    special = ["<unk>", *(f"<0x{i:02X}>" for i in range(256))]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY + 256, special_tokens=special, show_progress=False
    )
    learner.train_from_iterator([t.replace("\n", " ") for t in texts], trainer)
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    tokenizer = Tokenizer(
        models.BPE(learned["vocab"], merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizer
    spaces = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(
        [*spaces, *([decoders.Strip(" ", 1, 0)] if first else [])]
    )
    return tokenizer


def _barred(texts: Sequence[str]) -> Tokenizer:
    return _pieces(texts, "▁")


def _unbarred(texts: Sequence[str]) -> Tokenizer:
    return _pieces(texts, "")


def _config(name: str, **values: Any) -> Callable[[], Any]:
    return lambda: getattr(transformers, name)(**values)


GEMMA_TOKENS = {"bos": "<bos>", "eos": "<eos>", "pad": "<pad>", "unk": "<unk>"}
TURNS = ("<start_of_turn>", "<end_of_turn>", "<mask>")
SENTENCE = {"bos": "<s>", "eos": "</s>", "unk": "<unk>"}
ENDOFTEXT = {"bos": "<|endoftext|>", "eos": "<|endoftext|>"}

FAMILIES = {
    "llama3": Family(
        "llama32_1b",
        _config("LlamaConfig", **GATED, tie_word_embeddings=True, max_position_embeddings=2048),
        _bytes,
        {"bos": "<|begin_of_text|>", "eos": "<|eot_id|>"},
        "PreTrainedTokenizerFast",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|end_of_text|>"),
        bos=True,
        chat=LLAMA3,
        generation={"do_sample": True, "temperature": 0.6, "top_p": 0.9},
    ),
    "llama2": Family(
        "llama2_7b",
        _config("LlamaConfig", **GATED, tie_word_embeddings=False, max_position_embeddings=512),
        _barred,
        SENTENCE,
        "LlamaTokenizer",
        bos=True,
        generation={"do_sample": True, "temperature": 0.6, "top_p": 0.9, "max_length": 512},
    ),
    "phi": Family(
        "phi",
        _config("PhiConfig", **SIZES, intermediate_size=64, max_position_embeddings=512),
        _bytes,
        ENDOFTEXT,
        "CodeGenTokenizer",
    ),
    "qwen2": Family(
        "qwen25_1_5b",
        _config("Qwen2Config", **GATED, tie_word_embeddings=True, max_position_embeddings=2048),
        _bytes,
        {"eos": "<|im_end|>", "pad": "<|endoftext|>"},
        "Qwen2Tokenizer",
        ("<|im_start|>", "<|im_end|>"),
        chat=QWEN,
        generation={"do_sample": True, "repetition_penalty": 1.1, "top_k": 20, "top_p": 0.8},
    ),
    "gemma": Family(
        "gemma",
        _config("GemmaConfig", **GATED, head_dim=16, max_position_embeddings=2048),
        _unbarred,
        GEMMA_TOKENS,
        "GemmaTokenizer",
        TURNS,
        bos=True,
        chat=GEMMA,
    ),
    "gemma2": Family(
        "gemma2_2b",
        _config(
            "Gemma2Config",
            **GATED,
            head_dim=16,
            sliding_window=32,
            query_pre_attn_scalar=16,
            final_logit_softcapping=3.0,
            attn_logit_softcapping=5.0,
            max_position_embeddings=2048,
        ),
        _unbarred,
        GEMMA_TOKENS,
        "GemmaTokenizer",
        TURNS,
        bos=True,
        chat=GEMMA,
    ),
    "mistral": Family(
        "zephyr",
        _config("MistralConfig", **GATED, sliding_window=64, max_position_embeddings=2048),
        _barred,
        {**SENTENCE, "pad": "</s>"},
        "LlamaTokenizer",
        bos=True,
        chat=ZEPHYR,
    ),
    "gpt_neox": Family(
        "hf",
        _config("GPTNeoXConfig", **SIZES, intermediate_size=64, max_position_embeddings=512),
        _bytes,
        ENDOFTEXT,
        "GPTNeoXTokenizer",
        ("<|padding|>",),
    ),
    "gpt_neo": Family(
        "hf",
        _config(
            "GPTNeoConfig",
            hidden_size=32,
            num_layers=2,
            num_heads=2,
            intermediate_size=64,
            attention_types=[[["global", "local"], 1]],
            window_size=32,
            max_position_embeddings=512,
        ),
        _bytes,
        ENDOFTEXT,
        "GPT2Tokenizer",
    ),
}
