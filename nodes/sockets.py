"""The pack's own socket types and what travels through them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..referee_core.interfaces import Denoiser, Prior, Referee

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..referee_core.losses import RefereeLoss
    from ..referee_core.measurements import Measurement
    from ..referee_core.prompt_tokens import Inserted

RefereeSocket = io.Custom("REFEREE")
LossSocket = io.Custom("REFEREE_LOSS")
AugmentationSocket = io.Custom("REFEREE_AUGMENTATION")
PriorSocket = io.Custom("REFEREE_PRIOR")
AveragingSocket = io.Custom("REFEREE_AVERAGING")
HistorySocket = io.Custom("REFEREE_HISTORY")
PromptSocket = io.Custom("REFEREE_PROMPT")
MeasurementSocket = io.Custom("REFEREE_MEASUREMENT")

CATEGORY = "referee"
PROMPTS = "referee_prompts"  # the folder of learned tokens in ComfyUI's models


@dataclass(frozen=True)
class LoadedReferee:
    """REFEREE: a referee, and the patcher through which ComfyUI's memory manager moves its network.

    whole_captions: it learned to say yes to the caption of all that is there only, so it denies a part of it.
    """

    referee: Referee
    patcher: "ModelPatcher"
    whole_captions: bool = False


@dataclass(frozen=True)
class LoadedLoss:
    """REFEREE_LOSS: a loss of the core and the patchers of its referees."""

    loss: "RefereeLoss"
    patchers: tuple["ModelPatcher", ...]


@dataclass(frozen=True)
class LoadedPrior:
    """REFEREE_PRIOR: a MODEL with its guidance, and what makes a prior of the core from its predictions."""

    model: "ModelPatcher"
    positive: list
    negative: list
    cfg: float
    make: Callable[[Denoiser], Prior]


@dataclass(frozen=True)
class LoadedPrompt:
    """REFEREE_PROMPT: learned tokens, and ComfyUI's name of the kind of model whose text encoder they are for."""

    inserted: "Inserted"
    family: str

    @property
    def widths(self) -> set[int]:
        return {tokens.shape[-1] for tokens in self.inserted.tokens.values()}


@dataclass(frozen=True)
class LoadedMeasurement:
    """REFEREE_MEASUREMENT: how a picture is measured, once its size is known.

    Attributes:
        make: from height and width of the whole picture to a measurement of the core, which accepts this size;
            ValueError where there is none.
        factor: how many times larger the picture's sides are than those of what is measured.
        masks: how many the measurement has. One serves any number of pictures.
    """

    make: Callable[[int, int], "Measurement"]
    factor: int = 1
    masks: int = 1

    def check_count(self, pictures: int) -> None:
        """Raises ValueError if the masks are not for so many pictures."""
        if self.masks not in (1, pictures):
            raise ValueError(
                f"The input 'mask' of Measurement holds {self.masks} masks, but there are {pictures} pictures to "
                "measure: connect one mask, or one for each picture."
            )
