"""Fluent Speech Commands by intent: action, object and location of an order, 31 combinations, as SUPERB scores it.

X-ARES's tars may not state them; the publisher's tables do.

Source: Lugosch et al., arXiv 1904.03670, section 4 (31 intents; a clip counts where all three slots are right);
https://github.com/s3prl/s3prl (downstream/fluent_commands: the intent task of SUPERB).
"""

from __future__ import annotations

from uniwhisper.evaluate.tasks._spec import TaskSpec
from uniwhisper.types import Clip

__all__ = ["SPEC"]

_SLOTS = ("action", "object", "location")


def _intent(clip: Clip) -> tuple[str, ...]:
    values = [clip.annotation.attributes.get(slot, "") for slot in _SLOTS]
    return ("+".join(values),) if all(values) else ()


SPEC = TaskSpec(
    name="fluent_speech_commands_intents",
    title="Fluent Speech Commands (31 intents)",
    source="fluent_speech_commands",
    domain="speech",
    kind="clip",
    metric="accuracy",
    num_classes=31,
    chance=1 / 31,
    num_test_clips=3793,
    label=_intent,
    group_kind="speaker",
    reference="arXiv 1904.03670, section 4; the paper and X-ARES tell 248 wordings apart instead",
    about="31 intents (action, object, location) of orders to a smart home; counts in no average of the paper.",
)
