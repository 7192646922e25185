"""Makes, loads and saves models and tokenizers as ordinary Hugging Face folders."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers import PreTrainedTokenizerFast as FastTokenizer
from transformers.utils.logging import disable_progress_bar

from unlearn_runner.errors import DataError, listed
from unlearn_runner.models.contents import Fault, read_object, vocab_size
from unlearn_runner.models.images import read_images, write_images
from unlearn_runner.models.quiet import quietly
from unlearn_runner.models.shape import Shape

disable_progress_bar()  # transformers would draw one per model that it reads or writes

OWN_CODE: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
"""Of every load: a folder's own code never runs, and nothing is asked on standard input."""
END, PAD = "<|end|>", "<|pad|>"
DTYPES = {"float32": torch.float32, "bf16": torch.float32, "float64": torch.float64}


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, further: Sequence[str] = ()
) -> FastTokenizer:
    """Returns a byte-level BPE tokenizer trained on `texts`; equal texts give equal merges.

    `further` are special tokens beside end and padding.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END, PAD, *further],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    special: dict[str, Any] = {"eos_token": END, "pad_token": PAD}
    if further:
        special["additional_special_tokens"] = list(further)
    return FastTokenizer(tokenizer_object=tokenizer, **special)


def new_model(shape: Shape, tokenizer: Any, seed: int) -> Any:
    """Returns a model of a shape with random weights drawn from `seed` alone.

    The tokenizer is told what the model takes of a picture, if it takes any.
    """
    tokenizer.images = images = shape.images(tokenizer)
    config = shape.config(
        vocab_size=len(tokenizer),
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **({} if images is None else {"images": images}),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _auto(config).from_config(config)


def _auto(config: Any) -> Any:
    """Returns transformers' maker of a model: of the one that sees where none reads text alone."""
    known = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    return AutoModelForCausalLM if known else AutoModelForImageTextToText


def load_model(
    folder: Path,
    precision: str,
    device: torch.device,
    attention: str = "sdpa",
    storage: str = "float32",
) -> Any:
    """Loads a causal LM from a folder in the precision its training stage works in.

    The dtype is always pinned: transformers would otherwise keep the checkpoint's, and updating
    bf16 weights in place loses most AdamW steps (steps are smaller than bf16's spacing).

    Args:
        folder: Of the model.
        precision: Arithmetic of the forward pass: "float32", "bf16" or "float64".
        device: Where to.
        attention: Attention kernel.
        storage: "bf16" or "nf4" for weights that are not trained, under an adapter.

    Raises:
        DataError: If the folder holds no whole model.
    """
    if storage == "nf4":
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        model = _from_folder(folder, dtype, attention, quantization_config=_four_bits(dtype))
        for module in model.modules():
            if hasattr(module, "support_avx512bf16_for_cpu"):
                # Packed in evaluation for a faster kernel, it passes no gradient on ever after.
                module.support_avx512bf16_for_cpu = False
        return model.to(device)
    if storage == "bf16":
        return _from_folder(folder, torch.bfloat16, attention).to(device)
    model = _from_folder(folder, DTYPES[precision], attention)
    return in_precision(model, precision).to(device)


def _four_bits(dtype: torch.dtype) -> Any:
    """Returns how linear maps are quantised as they are loaded: QLoRA's NF4, its scales, too."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def load_frozen(
    folder: Path,
    precision: str,
    device: torch.device,
    attention: str = "sdpa",
    base: Path | None = None,
) -> Any:
    """Loads a causal LM for evaluation: bf16 is then how its weights are stored, too.

    Args:
        folder: Of a whole model, or of an adapter.
        precision: Arithmetic, and storage.
        device: Where to.
        attention: Attention kernel.
        base: Folder of the model that the adapter belongs to; none for a whole model. The adapter
            stays beside the weights, in float32: added to bf16 weights most of it would be lost.

    Raises:
        DataError: If a folder does not hold what it should.
    """
    dtype = torch.bfloat16 if precision == "bf16" else DTYPES[precision]
    model = _from_folder(folder if base is None else base, dtype, attention)
    if base is not None:
        model = _with_adapter(model, folder).get_base_model()
    return model.to(device).eval()


def load_classifier(folder: Path, device: torch.device) -> tuple[Any, Any]:
    """Loads a classifier of texts in float32, and its tokenizer.

    Raises:
        DataError: If the folder holds none that is whole.
    """
    classifier = _from_folder(
        folder, torch.float32, "sdpa", maker=AutoModelForSequenceClassification
    )
    try:
        with quietly():
            tokenizer = AutoTokenizer.from_pretrained(folder, **OWN_CODE)
    except Exception as error:  # many kinds, by format; all mean that it cannot be read
        raise DataError(
            f"the tokenizer in {folder} cannot be loaded: {_reason(error)}",
            "save its fast form (tokenizer.json) beside the model with save_pretrained",
        ) from None
    return classifier.to(device).eval(), tokenizer


def merged(base: Path, adapter: Path) -> Any:
    """Returns a causal LM with an adapter added to its weights; float32, on the CPU."""
    return _with_adapter(_from_folder(base, torch.float32, "sdpa"), adapter).merge_and_unload()


def _with_adapter(model: Any, folder: Path) -> Any:
    from peft import PeftModel  # seconds to import

    try:
        with quietly():
            return PeftModel.from_pretrained(model, str(folder), torch_device="cpu")
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise DataError(
            f"the adapter in {folder} cannot be loaded: {_reason(error)}",
            "verify=true: the same command makes a damaged one again",
        ) from None


def for_training(model: Any, checkpointing: bool) -> Any:
    """Returns the model, its adapter attached, as it keeps or computes its activations again.

    The non-reentrant kind of checkpoint: the other one passes no gradient on where its input asks
    for none, as under an adapter behind frozen embeddings, and says nothing.

    Raises:
        DataError: If this kind of model cannot.
    """
    if not checkpointing:
        return model
    if not model.supports_gradient_checkpointing:
        raise DataError(
            f"train.gradient_checkpointing=true: {type(model).__name__} cannot do it",
            "train.gradient_checkpointing=false and a smaller train.micro_batch",
        )
    with quietly():
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def _from_folder(
    folder: Path, dtype: torch.dtype, attention: str, maker: Any = None, **further: Any
) -> Any:
    try:
        with quietly():
            maker = maker or _auto(AutoConfig.from_pretrained(folder, **OWN_CODE))
            loaded: Any = maker.from_pretrained(
                folder,
                dtype=dtype,
                # None is sdpa, but eager where an architecture has none (Gemma 2 caps its scores).
                attn_implementation=None if attention == "sdpa" else attention,
                use_safetensors=True,
                output_loading_info=True,
                **OWN_CODE,
                **further,
            )
    except MemoryError:
        raise
    except Exception as error:  # of many kinds, by what the files say
        raise DataError(
            f"the model in {folder} cannot be loaded: {_reason(error)}",
            "a folder that AutoModelForCausalLM loads, as save_pretrained writes it",
        ) from None
    model, loading = loaded
    if loading["missing_keys"]:
        # transformers fills them with random numbers and goes on.
        raise DataError(
            f"the model in {folder} lacks weights of its architecture "
            f"({type(model).__name__}): {listed(sorted(loading['missing_keys']), 3)}",
            "its config.json belongs to another model, or the files were not all copied",
        )
    return model


def in_precision(model: Any, precision: str) -> Any:
    """Returns the model with weights and arithmetic of a training stage's precision.

    transformers' RMS norms compute in float32 whatever the weights are, so float64 swaps those of
    Llama and its kin for torch's, which have the same parameters. Gemma's, which add one to the
    weight, stay as they are.
    """
    model = model.to(DTYPES[precision])
    if precision == "float64":
        for parent in list(model.modules()):
            for name, norm in list(parent.named_children()):
                if type(norm).__name__ in ("LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm"):
                    exact = nn.RMSNorm(norm.weight.shape, norm.variance_epsilon)
                    exact.weight = norm.weight
                    setattr(parent, name, exact)
    return model


def load_tokenizer(folder: Path) -> Any:
    """Loads the tokenizer that was saved beside a model.

    Where it has no padding token, or one that the model has no embedding for, its end of sequence
    pads: masked, so any token would do.

    Raises:
        DataError: If there is none, or one that cannot tell which characters a token stands for.
    """
    try:
        with quietly():
            tokenizer = AutoTokenizer.from_pretrained(folder, **OWN_CODE)
    except Exception as error:  # many kinds, by format; all mean that it cannot be read
        raise DataError(
            f"the tokenizer in {folder} cannot be loaded: {_reason(error)}",
            "save its fast form (tokenizer.json) beside the model with save_pretrained",
        ) from None
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        lack = "an end-of-sequence token" if tokenizer.is_fast else "character offsets (it is slow)"
        raise DataError(
            f"the tokenizer in {folder} has no {lack}",
            "save its fast form (tokenizer.json) with eos_token set beside the model",
        )
    tokenizer.num_embeddings = size = _num_embeddings(folder)
    try:
        tokenizer.images = read_images(folder, tokenizer)
    except Fault as fault:
        raise DataError(
            f"the model in {folder} sees in a way that is not known: {fault.problem}",
            "a folder of a LLaVA-1.5 architecture, its processor's files beside it",
        ) from None
    beyond = size is not None and (tokenizer.pad_token_id or 0) >= size
    if tokenizer.pad_token_id is None or beyond:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _num_embeddings(folder: Path) -> int | None:
    """Returns how many ids the model beside a tokenizer has rows for; none beside an adapter."""
    try:
        return vocab_size(read_object(folder / "config.json"))
    except (FileNotFoundError, Fault):
        return None


def _reason(error: Exception) -> str:
    """Returns why something cannot be loaded, in one line."""
    text = " ".join(str(error).split())
    if "trust_remote_code" in text or "custom code" in text:
        return "it needs code of its own (auto_map), which is never run"
    if "ignore_mismatched_sizes" in text:  # the report that it points to is hidden
        return "its weights have other sizes than its config.json says"
    return (
        text if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: {text}"
    )[:200]


def save(
    model: Any,
    tokenizer: Any,
    folder: Path,
    dtype: str = "float32",
    state: dict[str, torch.Tensor] | None = None,
) -> None:
    """Saves model and tokenizer as an ordinary safetensors folder; the model is left as it is.

    Args:
        model: A transformers model.
        tokenizer: Saved beside it.
        folder: Where.
        dtype: Number format of the stored weights: "float32", "bf16" or "float16".
        state: The model's weights, where the model itself holds only pieces of them.
    """
    wanted = {"bf16": torch.bfloat16, "float16": torch.float16}.get(dtype, torch.float32)
    if state is not None:
        state = {n: x.to(wanted) if x.is_floating_point() else x for n, x in state.items()}
        model.save_pretrained(folder, state_dict=state)
        _name_dtype(folder, wanted)
    else:
        if model.dtype != wanted:
            model = deepcopy(model).to(wanted)
        model.save_pretrained(folder)
    save_tokenizer(tokenizer, folder)


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Saves a tokenizer, and beside it what its model takes of a picture."""
    tokenizer.save_pretrained(folder)
    write_images(getattr(tokenizer, "images", None), folder)


def _name_dtype(folder: Path, dtype: torch.dtype) -> None:
    """Makes a saved configuration name the number format of weights that were given apart."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["dtype"] = str(dtype).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
