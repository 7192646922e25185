"""stories260K, a real pretrained model of llama2.c, as an ordinary Hugging Face folder.

The checkpoint is seven int32 (width, hidden width, layers, heads, key heads, vocabulary, context),
then float32 tensors; its rotary embedding turns neighbouring pairs, Hugging Face's turns halves.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ("<unk>", "<s>", "</s>")


def convert(source: Path, folder: Path) -> Path:
    """Writes model and tokenizer; returns the folder."""
    _model(source / "stories260K.bin").save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(pieces(source / "tok512.bin")),
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
    )
    tokenizer.save_pretrained(folder)
    return folder


def _model(path: Path) -> Any:
    data = path.read_bytes()
    dim, hidden, layers, heads, key_heads, vocabulary, context = struct.unpack("<7i", data[:28])
    numbers = torch.from_numpy(np.frombuffer(data, "<f4", offset=28).copy())
    at = 0

    def take(*shape: int) -> Any:
        nonlocal at
        size = int(np.prod(shape))
        at += size
        return numbers[at - size : at].view(*shape)

    width = dim // heads
    weights: dict[str, Any] = {"model.embed_tokens.weight": take(vocabulary, dim)}
    blocks = {  # in the order in which the file has them, each for all layers
        "input_layernorm": (dim,),
        "self_attn.q_proj": (dim, dim),
        "self_attn.k_proj": (key_heads * width, dim),
        "self_attn.v_proj": (key_heads * width, dim),
        "self_attn.o_proj": (dim, dim),
        "post_attention_layernorm": (dim,),
        "mlp.gate_proj": (hidden, dim),
        "mlp.down_proj": (dim, hidden),
        "mlp.up_proj": (hidden, dim),
    }
    for name, shape in blocks.items():
        for layer, weight in enumerate(take(layers, *shape)):
            if name.endswith(("q_proj", "k_proj")):
                pairs = weight.view(-1, width // 2, 2, dim)
                weight = pairs.transpose(1, 2).reshape(shape)
            weights[f"model.layers.{layer}.{name}.weight"] = weight
    weights["model.norm.weight"] = take(dim)
    assert len(numbers) - at == context * width  # cosines and sines, which follow from the rest
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=dim,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_heads,
        max_position_embeddings=context,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    model.load_state_dict(weights)
    return model


def pieces(path: Path) -> list[tuple[bytes, float]]:
    """Returns the vocabulary: every piece with its score, by id."""
    data, at, found = path.read_bytes(), 4, []
    while at < len(data):
        score, length = struct.unpack_from("<fi", data, at)
        found.append((data[at + 8 : at + 8 + length], score))
        at += 8 + length
    return found


def _tokenizer(found: list[tuple[bytes, float]]) -> Tokenizer:
    names = [piece.decode().replace(" ", "▁") for piece, _ in found]
    names[: len(SPECIAL)] = SPECIAL
    ids = {name: i for i, name in enumerate(names)}
    # Pairs merge in the order of their pieces' scores, which fall with the id.
    merges = [
        (name[:cut], name[cut:])
        for name in names[259:]
        for cut in range(1, len(name))
        if name[:cut] in ids and name[cut:] in ids
    ]
    tokenizer = Tokenizer(
        models.BPE(ids, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    bar = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    tokenizer.normalizer = normalizers.Sequence(bar)
    back = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*back, decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def encode(text: str, found: list[tuple[bytes, float]]) -> list[int]:
    """Returns the tokens of a text as llama2.c finds them: the best pair, again and again."""
    ids = {piece: i for i, (piece, _) in enumerate(found) if i > 2}
    tokens = [ids[b" "]]
    for character in text:
        raw = character.encode()
        tokens += [ids[raw]] if raw in ids else [byte + 3 for byte in raw]
    while True:
        best = (-1e10, -1, -1)
        for at, (left, right) in enumerate(pairwise(tokens)):
            pair = ids.get(found[left][0] + found[right][0])
            if pair is not None and found[pair][1] > best[0]:
                best = (found[pair][1], at, pair)
        if best[1] < 0:
            return tokens
        tokens[best[1] : best[1] + 2] = [best[2]]
