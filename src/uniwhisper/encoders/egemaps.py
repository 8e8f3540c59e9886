"""`egemaps`: the 88 eGeMAPS functionals of openSMILE, one row a clip, the floor of paralinguistic tasks.

Reads nothing, has no weights. `whole_clip` says that there is one row for a whole clip, so tasks with times and
transcription cannot be run with it. Clips shorter than 0.1 s are extended with zeros, because the analysis windows of
openSMILE give NaN below. Needs the optional extra `egemaps`.

Source: Eyben et al., The Geneva Minimalistic Acoustic Parameter Set (GeMAPS), IEEE Transactions on Affective Computing
    7(2), 2016; the set eGeMAPSv02 of opensmile 2.6, https://audeering.github.io/opensmile-python/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.embed import Encoder
from uniwhisper.encoders._family import Family, Model, find, require_option
from uniwhisper.errors import EncoderError
from uniwhisper.files import content_hash

__all__ = ["FAMILY", "EgemapsEncoder", "claims", "load"]

FAMILY = Family(
    name="egemaps",
    about="the 88 eGeMAPS functionals of openSMILE, one row a clip: a floor without weights",
    models=(
        Model(
            name="egemaps",
            hub_id="",
            title="eGeMAPS (openSMILE)",
            training_known=True,
            license="openSMILE research licence, non-commercial",
        ),
    ),
)
_NUM_FUNCTIONALS = 88
_SHORTEST_S = 0.1


class EgemapsEncoder:
    """One row of 88 functionals a clip; see the module's docstring."""

    name = "egemaps"
    sample_rate = SAMPLE_RATE
    dim = _NUM_FUNCTIONALS
    hop_ms = 0.0
    """There is no hop: a row stands for the whole clip."""
    whole_clip = True
    trained_on: tuple[str, ...] = ()
    training_known = True
    license = FAMILY.models[0].license

    def __init__(self, smile: Any, version: str) -> None:
        self._smile = smile
        self.fingerprint = content_hash(["eGeMAPSv02 functionals", version, _SHORTEST_S, 1])

    def frames(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return one row `[1, 88]` of each wave.

        Raises:
            EncoderError: openSMILE gives values that are not finite.
        """
        return [self._row(wave, number) for number, wave in enumerate(waves)]

    def _row(self, wave: np.ndarray, number: int) -> np.ndarray:
        missing = max(0, round(_SHORTEST_S * SAMPLE_RATE) - len(wave))
        values = self._smile.process_signal(np.pad(wave, (0, missing)), SAMPLE_RATE).to_numpy(dtype=np.float32)
        num_finite = int(np.isfinite(values).sum())
        if values.shape != (1, _NUM_FUNCTIONALS) or num_finite < _NUM_FUNCTIONALS:
            raise EncoderError(
                f"egemaps: expected {_NUM_FUNCTIONALS} finite values for wave {number} "
                f"({len(wave) / SAMPLE_RATE:.2f} s), found {list(values.shape)}, {num_finite} of them finite"
            )
        return values


def claims(name: str) -> bool:
    """Return whether `name` is this family's only one."""
    return find(FAMILY.models, name) is not None


def load(name: str, *, device: str = "cpu", precision: str = "fp32") -> Encoder:
    """Return the encoder; it computes on the CPU, whatever `device` is.

    Raises:
        EncoderError: opensmile is not installed.
        ConfigError: A precision other than fp32 is asked for.
    """
    require_option("name", name, ("egemaps",))
    require_option("precision", precision, ("fp32",))
    try:
        import opensmile
    except ImportError as e:
        raise EncoderError(f"egemaps needs openSMILE: pip install 'uniwhisper[egemaps]' ({e})") from e
    smile = opensmile.Smile(
        feature_set=opensmile.FeatureSet.eGeMAPSv02, feature_level=opensmile.FeatureLevel.Functionals
    )
    return EgemapsEncoder(smile, opensmile.__version__)
