"""Example inputs of Hugging Face models: shapes that their own processors make, from the configuration alone."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from uniap_core.api import BadValue

if TYPE_CHECKING:
    from torch import nn

SECONDS = 10
"""Length of a waveform, at 16 kHz: what speech corpora are cut to on average (LibriSpeech)."""

RATE = 16_000


class Examples:
    """Makes the keyword arguments of a model's forward call on the meta device.

    Raises
    ------
    BadValue
        When made, if the model needs an input whose shape is not known, naming it.
    """

    def __init__(self, module: nn.Module, config: Any, origin: str) -> None:
        self.config, self.accepts = config, set(inspect.signature(module.forward).parameters)
        self.text = getattr(config, "text_config", None) or config
        self.vision = getattr(config, "vision_config", None) or config
        self.dtype = next(p.dtype for p in module.parameters() if p.is_floating_point())
        main = str(module.main_input_name)
        known = {
            "input_ids": self._words,
            "pixel_values": self._pictures,
            "input_features": self._spectra,
            "input_values": self._sound,
        }
        if main not in known:
            raise BadValue(
                f"{origin}: the model's main input is {main}, and its shape is not known",
                "write a factory that gives one: package.module:factory",
            )
        self.makers: list[Callable[[int, int], dict[str, Any]]] = [known[main]]
        if main == "input_ids" and self._two_towers():
            self.makers.append(self._tiles if "aspect_ratio_ids" in self.accepts else self._pictures)
        self.spoken = main == "input_ids" or bool(getattr(config, "is_encoder_decoder", False))
        self.main = main

    def _two_towers(self) -> bool:
        """Whether pictures enter beside the words, not in place of some of them (that would depend on values)."""
        if "pixel_values" not in self.accepts or not hasattr(self.config, "vision_config"):
            return False
        mixed = ("image_token_id", "image_token_index")
        return "aspect_ratio_ids" in self.accepts or not any(hasattr(self.config, name) for name in mixed)

    @property
    def positions(self) -> int | None:
        """The most positions that the words may have."""
        names = ("max_target_positions", "max_position_embeddings", "n_positions")
        values = (getattr(self.text, name, None) for name in names)
        return next((v for v in values if isinstance(v, int) and v > 0), None)

    def __call__(self, batch: int, length: int) -> dict[str, Any]:
        """The arguments for so many samples of so many positions."""
        import torch

        given: dict[str, Any] = {}
        with torch.device("meta"):
            for make in self.makers:
                given |= make(batch, length)
        if ("use_cache" in self.accepts or "kwargs" in self.accepts) and self.main == "input_ids":
            given["use_cache"] = False
        return given

    def _words(self, batch: int, length: int) -> dict[str, Any]:
        import torch

        given = {"input_ids": torch.zeros(batch, length, dtype=torch.long)}
        if "next_sentence_label" in self.accepts:
            given["next_sentence_label"] = torch.zeros(batch, dtype=torch.long)
        if "decoder_input_ids" in self.accepts and "labels" not in self.accepts:
            given["decoder_input_ids"] = torch.zeros(batch, length, dtype=torch.long)
        if "labels" in self.accepts:
            given["labels"] = torch.zeros(batch, length, dtype=torch.long)
        return given

    def _pictures(self, batch: int, length: int) -> dict[str, Any]:
        import torch

        frames = getattr(self.vision, "num_frames", None)
        shape = (batch, frames) if isinstance(frames, int) else (batch,)
        given = {"pixel_values": torch.zeros(*shape, *self._image(), dtype=self.dtype)}
        if self.vision is self.config and "labels" in self.accepts:
            given["labels"] = torch.zeros(batch, dtype=torch.long)
        return given

    def _image(self) -> tuple[int, int, int]:
        side = self.vision.image_size if isinstance(self.vision.image_size, int) else self.vision.image_size[0]
        return getattr(self.vision, "num_channels", 3), side, side

    def _tiles(self, batch: int, length: int) -> dict[str, Any]:
        """One picture of as many tiles as the model takes, seen by every position (Mllama)."""
        import torch

        tiles = self.vision.max_num_tiles
        return {
            "pixel_values": torch.zeros(batch, 1, tiles, *self._image(), dtype=self.dtype),
            "aspect_ratio_ids": torch.zeros(batch, 1, dtype=torch.long),
            "aspect_ratio_mask": torch.ones(batch, 1, tiles, dtype=torch.long),
            "cross_attention_mask": torch.ones(batch, length, 1, tiles, dtype=torch.long),
        }

    def _spectra(self, batch: int, length: int) -> dict[str, Any]:
        """Mel spectra of the length that the encoder's positions are made for, two frames each (Whisper)."""
        import torch

        frames = 2 * int(getattr(self.config, "max_source_positions", 1500))
        given: dict[str, Any] = {
            "input_features": torch.zeros(batch, self.config.num_mel_bins, frames, dtype=self.dtype)
        }
        if "labels" in self.accepts:
            given["labels"] = torch.zeros(batch, length, dtype=torch.long)
        elif "decoder_input_ids" in self.accepts:
            given["decoder_input_ids"] = torch.zeros(batch, length, dtype=torch.long)
        return given

    def _sound(self, batch: int, length: int) -> dict[str, Any]:
        """A waveform, or the spectra of one where the model counts frames (AST). Labels would need their values."""
        import torch

        frames, bins = getattr(self.config, "max_length", None), getattr(self.config, "num_mel_bins", None)
        if isinstance(bins, int) and isinstance(frames, int):
            return {"input_values": torch.zeros(batch, frames, bins, dtype=self.dtype)}
        return {"input_values": torch.zeros(batch, SECONDS * RATE, dtype=self.dtype)}
