"""Shapes of small models made from scratch, with a tokenizer trained on the spot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from annotated_types import Ge, Le

from unlearn_runner.data.picture import PLACEHOLDER, ImageInput
from unlearn_runner.errors import ConfigError

MAX_WEIGHTS = 10**11
"""Of a model made here."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama-architecture decoder."""

    family: ClassVar[str] = "llama"
    """As transformers calls it."""
    special_tokens: ClassVar[tuple[str, ...]] = ()
    """Further tokens that no text is made of."""

    hidden_size: Annotated[int, Ge(8), Le(65536)] = 128
    intermediate_size: Annotated[int, Ge(8), Le(262144)] = 384
    num_layers: Annotated[int, Ge(1), Le(1024)] = 4
    num_heads: Annotated[int, Ge(1), Le(1024)] = 4
    tie_embeddings: bool = True
    context: Annotated[int, Ge(16), Le(1048576)] = 512
    """Longest sequence in tokens."""

    def __post_init__(self) -> None:
        each = self.hidden_size * (4 * self.hidden_size + 3 * self.intermediate_size)
        if self.num_layers * each > MAX_WEIGHTS:
            raise ConfigError(
                f"model.shape: {self.num_layers} layers of {each:.1e} weights; allowed: "
                f"{MAX_WEIGHTS:.0e} weights in all"
            )
        self.check_heads()

    def check_heads(self) -> None:
        """Refuses a hidden size that the heads cannot share.

        Raises:
            ConfigError: If it is no multiple of what they need.
        """
        pairs = 2 * self.num_heads
        if self.hidden_size % pairs:
            raise ConfigError(
                f"model.shape.hidden_size={self.hidden_size} must be a multiple of twice "
                f"model.shape.num_heads={self.num_heads}: rotary positions need an even head size",
                f"model.shape.hidden_size={-(-self.hidden_size // pairs) * pairs}",
            )

    @property
    def sees(self) -> bool:
        """Whether the model is shown pictures."""
        return False

    def images(self, tokenizer: Any) -> ImageInput | None:
        """Returns what the model takes of a picture; none where it reads text alone."""
        return None

    def config(self, **tokens: Any) -> Any:
        """Returns the transformers configuration.

        Args:
            tokens: `vocab_size`, and the ids of the tokenizer's special tokens.
        """
        from transformers import LlamaConfig

        return LlamaConfig(
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            num_key_value_heads=self.num_heads,
            max_position_embeddings=self.context,
            tie_word_embeddings=self.tie_embeddings,
            attention_dropout=0.0,
            **tokens,
        )


@dataclass(frozen=True)
class NeoShape(Shape):
    """Sizes of a GPT-Neo-architecture decoder: learned positions, every second layer local."""

    family: ClassVar[str] = "gpt_neo"

    window: Annotated[int, Ge(1)] = 256
    """Tokens that a local layer looks back."""

    def check_heads(self) -> None:
        """Refuses a hidden size that is no multiple of the number of heads."""
        heads = self.num_heads
        if self.hidden_size % heads:
            raise ConfigError(
                f"model.shape.hidden_size={self.hidden_size} must be a multiple of "
                f"model.shape.num_heads={heads}",
                f"model.shape.hidden_size={-(-self.hidden_size // heads) * heads}",
            )

    def config(self, **tokens: Any) -> Any:
        """Returns the transformers configuration, without dropout, as the released models are."""
        from transformers import GPTNeoConfig

        kinds = [("global", "local")[i % 2] for i in range(self.num_layers)]
        return GPTNeoConfig(
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_layers=self.num_layers,
            num_heads=self.num_heads,
            attention_types=[[[kind], 1] for kind in kinds],
            max_position_embeddings=self.context,
            window_size=self.window,
            tie_word_embeddings=self.tie_embeddings,
            **tokens,
        )


@dataclass(frozen=True)
class LlavaShape(Shape):
    """Sizes of a LLaVA-architecture model: CLIP's vision tower, two linear maps, Llama's decoder.

    A picture is as many tokens as it has patches. Deviation from LLaVA-1.5: the tower's last block
    is read, not the last but one, as no block is there without use.
    """

    family: ClassVar[str] = "llava"
    special_tokens: ClassVar[tuple[str, ...]] = (PLACEHOLDER,)

    image_size: Annotated[int, Ge(8), Le(4096)] = 32
    """Pixels of a side."""
    patch_size: Annotated[int, Ge(2), Le(4096)] = 8
    vision_hidden_size: Annotated[int, Ge(8), Le(65536)] = 64
    vision_layers: Annotated[int, Ge(1), Le(1024)] = 2
    vision_heads: Annotated[int, Ge(1), Le(1024)] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        for whole, part in (("image_size", "patch_size"), ("vision_hidden_size", "vision_heads")):
            size, by = getattr(self, whole), getattr(self, part)
            if size % by:
                raise ConfigError(
                    f"model.shape.{whole}={size} must be a multiple of model.shape.{part}={by}",
                    f"model.shape.{whole}={-(-size // by) * by}",
                )

    @property
    def sees(self) -> bool:
        """It does."""
        return True

    def images(self, tokenizer: Any) -> ImageInput:
        """Returns what the model takes of a picture."""
        token = tokenizer.convert_tokens_to_ids(PLACEHOLDER)
        return ImageInput(self.image_size, self.patch_size, token)

    def config(self, **tokens: Any) -> Any:
        """Returns the transformers configuration."""
        from transformers import CLIPVisionConfig, LlavaConfig

        how: ImageInput = tokens.pop("images")
        vision = CLIPVisionConfig(
            hidden_size=self.vision_hidden_size,
            intermediate_size=4 * self.vision_hidden_size,
            num_hidden_layers=self.vision_layers,
            num_attention_heads=self.vision_heads,
            image_size=self.image_size,
            patch_size=self.patch_size,
        )
        return LlavaConfig(
            vision_config=vision,
            text_config=super().config(**tokens),
            image_token_index=how.token,
            image_seq_length=how.tokens,
            vision_feature_layer=-1,
            vision_feature_select_strategy="default",
            tie_word_embeddings=self.tie_embeddings,
        )
