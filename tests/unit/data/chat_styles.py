"""Chat templates of our own with the markup of well-known families, each as short as it can be.

What a template is to write before the answer, and the token that closes the turn, stand beside it.
"""

from __future__ import annotations

from typing import NamedTuple


class Style(NamedTuple):
    """A template, and what it writes for a question `Q` and a system prompt `S`, or none."""

    template: str
    prompt: str
    closing: str
    markup: tuple[str, ...]
    """Special tokens."""
    system: bool = True


def turns(
    user: str, assistant: str, system: str = "", begin: str = "", generation: str = ""
) -> str:
    """A template that writes its pieces around stripped contents."""
    piece = "{{%- elif m.role == '{}' %}}{}"
    return (
        begin
        + "{%- for m in messages %}{%- if false %}"
        + piece.format("system", system)
        + piece.format("user", user)
        + piece.format("assistant", assistant)
        + "{%- endif %}{%- endfor %}"
        + "{%- if add_generation_prompt %}"
        + generation
        + "{%- endif %}"
    )


C = "{{ m.content | trim }}"
IM = ("<|im_start|>", "<|im_end|>")
HEADER = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
SEEK = ("<｜begin▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>")


def im(role: str, content: str = C) -> str:
    return "{{ '<|im_start|>" + role + "\n' }}" + content + "{{ '<|im_end|>\n' }}"


def header(role: str) -> str:
    return "{{ '<|start_header_id|>" + role + "<|end_header_id|>\n\n' }}"


TODAY = "{{ 'Today Date: ' + date_string + '\n\n' }}"
ASSISTANT = "{{ '<|im_start|>assistant\n' }}"
THOUGHT = "{{ '<think>\n\n</think>\n\n' }}"
QWEN3 = turns(
    im("user"),
    im("assistant", THOUGHT + "{{ m.content.split('</think>')[-1] | trim }}"),
    im("system"),
    generation="{{ '<|im_start|>assistant\n' }}{%- if enable_thinking is false %}"
    + THOUGHT
    + "{%- endif %}",
)
STYLES = {
    "Llama 3": Style(
        turns(
            header("user") + C + "{{ '<|eot_id|>' }}",
            header("assistant") + C + "{{ '<|eot_id|>' }}",
            header("system")
            + "{{ 'Today Date: ' + date_string + '\n\n' }}"
            + C
            + "{{ '<|eot_id|>' }}",
            "{{ '<|begin_of_text|>' }}",
            header("assistant"),
        ),
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nToday Date: 1 May 2025\n\nS"
        "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nQ<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "<|eot_id|>",
        HEADER,
    ),
    "Qwen 2.5": Style(
        turns(
            im("user"), im("assistant"), im("system"), generation="{{ '<|im_start|>assistant\n' }}"
        ),
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>",
        IM,
    ),
    "Qwen 3": Style(
        QWEN3,
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
        "<think>\n\n</think>\n\n",
        "<|im_end|>",
        IM,
    ),
    "Qwen 3, its thoughts special": Style(
        QWEN3,
        "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
        "<|im_end|>",
        (*IM, "<think>", "</think>"),
        system=False,
    ),
    "Gemma 3": Style(
        turns(
            "{{ '<start_of_turn>user\n' }}" + C + "{{ '<end_of_turn>\n' }}",
            "{{ '<start_of_turn>model\n' }}" + C + "{{ '<end_of_turn>\n' }}",
            begin="{{ '<bos>' }}",
            generation="{{ '<start_of_turn>model\n' }}",
        ),
        "<bos><start_of_turn>user\nQ<end_of_turn>\n<start_of_turn>model\n",
        "<end_of_turn>",
        ("<bos>", "<start_of_turn>", "<end_of_turn>"),
        system=False,
    ),
    "Phi 4": Style(
        turns(
            "{{ '<|im_start|>user<|im_sep|>' }}{{ m.content }}{{ '<|im_end|>' }}",
            "{{ '<|im_start|>assistant<|im_sep|>' }}{{ m.content }}{{ '<|im_end|>' }}",
            "{{ '<|im_start|>system<|im_sep|>' }}{{ m.content }}{{ '<|im_end|>' }}",
            generation="{{ '<|im_start|>assistant<|im_sep|>' }}",
        ),
        "<|im_start|>system<|im_sep|>S<|im_end|><|im_start|>user<|im_sep|>Q<|im_end|>"
        "<|im_start|>assistant<|im_sep|>",
        "<|im_end|>",
        (*IM, "<|im_sep|>"),
    ),
    "Mistral": Style(
        turns(
            "{{ '[INST] ' }}{{ m.content }}{{ '[/INST]' }}",
            "{{ ' ' }}{{ m.content }}{{ '</s>' }}",
            begin="{{ '<s>' }}",
        ),
        "<s>[INST] Q[/INST] ",
        "</s>",
        ("<s>", "</s>", "[INST]", "[/INST]"),
        system=False,
    ),
    "SmolLM 2": Style(
        turns(
            im("user", "{{ m.content }}"),
            im("assistant", "{{ m.content }}"),
            im("system", "{{ m.content }}"),
            generation=ASSISTANT,
        ),
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n",
        "<|im_end|>",
        IM,
    ),
    "SmolLM 3, told not to think": Style(
        turns(
            im("user"),
            im("assistant"),
            im("system", C + "{{ '\n/no_think' if enable_thinking is false else '\n/think' }}"),
            generation="{{ '<|im_start|>assistant\n<think>\n\n</think>\n' }}",
        ),
        "<|im_start|>system\nS\n/no_think<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n"
        "<|im_start|>assistant\n",
        "<|im_end|>",
        IM,
    ),
    "DeepSeek R1 distilled": Style(
        turns(
            "{{ '<｜User｜>' }}{{ m.content }}",
            "{{ '<｜Assistant｜>' }}{{ m.content.split('</think>')[-1] }}"
            "{{ '<｜end▁of▁sentence｜>' }}",
            "{{ m.content }}",
            "{{ '<｜begin▁of▁sentence｜>' }}",
            "{{ '<｜Assistant｜><think>\n' }}",
        ),
        "<｜begin▁of▁sentence｜>S<｜User｜>Q<｜Assistant｜>",
        "<｜end▁of▁sentence｜>",
        SEEK,
    ),
    "Zephyr": Style(
        turns(
            "{{ '<|user|>\n' }}{{ m.content }}{{ '</s>\n' }}",
            "{{ '<|assistant|>\n' }}{{ m.content }}{{ '</s>\n' }}",
            "{{ '<|system|>\n' }}{{ m.content }}{{ '</s>\n' }}",
            generation="{{ '<|assistant|>' }}",
        ),
        "<|system|>\nS</s>\n<|user|>\nQ</s>\n<|assistant|>\n",
        "</s>",
        ("</s>",),
    ),
}
