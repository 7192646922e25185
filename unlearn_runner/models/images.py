"""What a model takes of pictures, as its folder says it: in LLaVA's files, beside the tokenizer's.

An adapter's folder has them, too: whoever loads it encodes rows without a look at its base.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from unlearn_runner.data.picture import PLACEHOLDER, ImageInput
from unlearn_runner.models.contents import Fault, read_object

PICTURES, PROMPTS = "preprocessor_config.json", "processor_config.json"
"""How a picture is prepared, and what stands for it in a prompt."""
LLAVA = "LlavaProcessor"


def sees(folder: Path) -> bool:
    """Returns whether a folder is of a model that is shown pictures as LLaVA is."""
    path = folder / PROMPTS
    return path.is_file() and read_object(path).get("processor_class") == LLAVA


def read_images(folder: Path, tokenizer: Any) -> ImageInput | None:
    """Returns what a folder's model takes of a picture.

    None of a model that reads text alone, and of one of another family, which then does.

    Raises:
        Fault: If the files are not as LLaVA-1.5 has them.
    """
    if not sees(folder):
        return None
    prompts = read_object(folder / PROMPTS)
    # transformers 5 writes one file where there were two.
    pictures = prompts.get("image_processor") or read_object(folder / PICTURES)
    known = (
        ("image_token", PLACEHOLDER, prompts.get("image_token", PLACEHOLDER)),
        ("strategy", "default", prompts.get("vision_feature_select_strategy")),
        ("num_additional_image_tokens", 1, prompts.get("num_additional_image_tokens", 1)),
    )
    for name, expected, found in known:
        if found != expected:
            raise Fault(f"its {PROMPTS} has {name} {str(found)[:40]!r}, and {expected!r} is known")
    kind = str(pictures.get("image_processor_type"))
    if not kind.startswith("CLIPImageProcessor"):
        raise Fault(f"its pictures are prepared by {kind[:40]}, and CLIPImageProcessor is known")
    try:
        crop = pictures["crop_size"]
        return ImageInput(
            size=int(crop["height"] if isinstance(crop, dict) else crop),
            patch=int(prompts["patch_size"]),
            token=int(tokenizer.convert_tokens_to_ids(PLACEHOLDER)),
            mean=tuple(map(float, pictures["image_mean"])),
            deviation=tuple(map(float, pictures["image_std"])),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())[:80]
        raise Fault(f"its {PICTURES} or {PROMPTS} cannot be followed: {reason}") from None


def write_images(images: ImageInput | None, folder: Path) -> None:
    """Writes the two files, as transformers reads them, of a model that is shown pictures."""
    if images is None:
        return
    pictures = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": images.size},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": images.size, "width": images.size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": images.mean,
        "image_std": images.deviation,
        "processor_class": LLAVA,
    }
    prompts = {
        "processor_class": LLAVA,
        "image_token": PLACEHOLDER,
        "patch_size": images.patch,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    for name, content in ((PICTURES, pictures), (PROMPTS, prompts)):
        text = json.dumps(content, indent=2, sort_keys=True)
        (folder / name).write_text(text + "\n", encoding="utf-8")
