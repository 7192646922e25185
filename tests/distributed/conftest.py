"""What the tests on ranks share: a model that no number of ranks divides, and rows."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def place(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of odd shapes that has begun to learn the rows, the rows, their start logprobs."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from unlearn_runner.evaluation.probes.logprobs import probe
    from unlearn_runner.models.load import load_model, save

    folder = tmp_path_factory.mktemp("ranks")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = LlamaConfig(
        **{"vocab_size": 401, "hidden_size": 30, "intermediate_size": 51},
        **{"num_hidden_layers": 2, "num_attention_heads": 3, "num_key_value_heads": 1},
        **{"max_position_embeddings": 128, "tie_word_embeddings": True, "bos_token_id": None},
        **{"eos_token_id": tiny.tokenizer.eos_token_id, "pad_token_id": tiny.pad},
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for row in tiny.rows * 3:
        ids = torch.tensor([row.ids])
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    save(model, tiny.tokenizer, folder / "model")
    exact = load_model(folder / "model", "float64", torch.device("cpu")).eval()
    start = [p.logprob for p in probe(exact, tiny.forget, tiny.pad, 20, "start logprobs")]
    torch.set_num_threads(threads)
    rows = {"forget": tiny.forget, "retain": tiny.retain, "start": start, "pad": tiny.pad}
    (folder / "rows.pkl").write_bytes(pickle.dumps(rows))
    return folder
