"""Audio in: any file or array becomes a mono float32 wave at 16 kHz in [-1, 1].

Reads wav, flac, mp3, ogg and opus through soundfile, by content and not by name; m4a and whatever else FFmpeg knows
through the optional extra `m4a`. Writes nothing. What is not usable audio raises `AudioError`. Rules:

* Channels are averaged, then resampled with soxr's HQ quality.
* Samples beyond full scale (decoded lossy files overshoot, float files may be mixed hot) are clipped, as the 16-bit
  loader of openai-whisper does; a peak above 4 means that they are not in [-1, 1] at all, and is an error.
* A file whose header promises more audio than is there is truncated, and an error. Ogg, Opus and MP3 streams promise
  nothing that can be relied on: they are read to where they end.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import soundfile
import soxr

from uniwhisper.encoded import EncodedFile, handle, open_encoded
from uniwhisper.errors import AudioError

__all__ = [
    "ENCODER_FRAMES_PER_SECOND",
    "HOP_LENGTH",
    "MEL_FRAMES_PER_SECOND",
    "N_FFT",
    "SAMPLE_RATE",
    "WINDOW_SAMPLES",
    "WINDOW_S",
    "AudioInfo",
    "info",
    "read",
    "to_wave",
]


def _divide_exactly(whole: int, part: int) -> int:
    """Return `whole / part`, which must have no remainder: clocks that drift are a bug."""
    quotient, remainder = divmod(whole, part)
    if remainder:
        raise ArithmeticError(f"{whole} is not a multiple of {part}")
    return quotient


# Source of the five constants: openai/whisper (2025-06) whisper/audio.py and the strides in whisper/model.py.
SAMPLE_RATE = 16_000
"""Samples per second of every wave."""
N_FFT = 400
"""Samples in one analysis window, 25 ms."""
HOP_LENGTH = 160
"""Samples from one mel frame to the next, 10 ms."""
WINDOW_S = 30
"""Seconds that a Whisper encoder sees at once."""
_CONV_STRIDE = 2  # of the encoder's second convolution
WINDOW_SAMPLES = WINDOW_S * SAMPLE_RATE
"""Samples that a Whisper encoder sees at once."""
MEL_FRAMES_PER_SECOND = _divide_exactly(SAMPLE_RATE, HOP_LENGTH)
ENCODER_FRAMES_PER_SECOND = _divide_exactly(SAMPLE_RATE, HOP_LENGTH * _CONV_STRIDE)

_MAX_PEAK = 4.0  # 12 dB over full scale: more than any decoder overshoots
_MAX_CHANNELS = 32
_HEADERLESS = {".g722": "g722"}  # nothing in the content tells them from noise, so the name has to: FFmpeg's format
_FINAL_CODES = frozenset({2, 3})  # libsndfile: system error, malformed file; every other code means an unknown format
_NO_RELIABLE_LENGTH = frozenset({"MP3", "MPEG", "OGG"})
_GUESSED_LENGTH = _NO_RELIABLE_LENGTH - {"OGG"}
_UNKNOWN_RIFF_LENGTH = 0x7FFFF000  # programs that stream to a pipe write this or more
_MAX_SAMPLES_PER_BYTE = 8192  # of a silent FLAC in its largest blocks 5461, of silence in Opus and MP3 far fewer
_MARGIN_S = 0.05  # decoded beyond a requested end, so that the resampler's filter does not see one there
_BLOCK_VALUES = 1 << 22  # values decoded at once: ten minutes of 8 channels never lie in memory whole


@dataclass(frozen=True, kw_only=True, slots=True)
class AudioInfo:
    """What a file's header says about its audio."""

    duration_s: float
    """Length; for a stream without a length in its header (some mp3), the decoder's estimate."""
    sample_rate: int
    """The file's own rate, before resampling."""
    num_channels: int
    format: str
    """The container by its content, such as `WAV` or `OGG`."""
    is_exact: bool = True
    """Whether the length is stated; of an MP3 it is guessed from the size, pictures and other tags included."""


def read(
    file: str | os.PathLike[str] | bytes,
    *,
    start_s: float = 0.0,
    max_duration_s: float | None = None,
    sample_rate: int = SAMPLE_RATE,
    name: str = "audio in memory",
) -> np.ndarray:
    """Return the audio of a file as a float32 wave [samples], mono, in [-1, 1], by default at 16 kHz.

    Args:
        file: An audio file, or the bytes of one; its content decides how it is decoded, whatever its name.
        start_s: Begin so many seconds into it.
        max_duration_s: Read only so much from there; None reads to the end.
        sample_rate: Rate of the wave in Hz; the file is resampled to it from its own.
        name: What messages call it, if it is given as bytes.

    Raises:
        AudioError: There is no such file, it is not audio, it is truncated, it ends before `start_s`, or it holds no
            samples or NaN.
    """
    if max_duration_s is not None and not max_duration_s > 0:
        raise AudioError(f"expected max_duration_s above 0 or None, found {max_duration_s}")
    if not (start_s >= 0 and math.isfinite(start_s)):
        raise AudioError(f"expected start_s of at least 0 seconds, found {start_s}")
    source = open_encoded(file, name)
    lead_s = min(start_s, _MARGIN_S)
    wanted_s = None if max_duration_s is None else lead_s + max_duration_s + _MARGIN_S
    mono, found_rate = _decode(source, start_s - lead_s, wanted_s)
    wave = _finish(mono, found_rate, str(source), sample_rate)[round(lead_s * sample_rate) :]
    if len(wave) == 0:
        raise AudioError(f"expected audio at {start_s:g} s in {source}, found that it ends before: check the times")
    return wave if max_duration_s is None else wave[: max(1, round(max_duration_s * sample_rate))]


def info(file: str | os.PathLike[str] | bytes, *, name: str = "audio in memory") -> AudioInfo:
    """Return what the header of an audio file (or of the bytes of one) says, without decoding more than its end.

    Raises:
        AudioError: There is no such file, it is not audio, or it does not hold what its header promises.
    """
    return _info(open_encoded(file, name))


def _info(file: EncodedFile) -> AudioInfo:
    if file.suffix.lower() in _HEADERLESS:
        return _info_av(file, "a format without a header")
    try:
        sound = soundfile.SoundFile(handle(file))
    except (soundfile.LibsndfileError, TypeError, OSError) as error:
        return _info_av(file, _why_not_soundfile(file, error))
    with sound:
        _check_promise(sound, file)
        return AudioInfo(
            duration_s=sound.frames / sound.samplerate,
            sample_rate=sound.samplerate,
            num_channels=sound.channels,
            format=sound.format,
            is_exact=sound.format not in _GUESSED_LENGTH,
        )


def _check_promise(sound: soundfile.SoundFile, file: EncodedFile) -> None:
    """Raise if the header promises more audio than there is, as far as that shows without decoding everything."""
    if sound.samplerate <= 0:
        raise AudioError(f"expected a sample rate above 0 Hz in {file}, found {sound.samplerate}: fetch it again")
    _check_riff_length(file)
    if sound.frames > _MAX_SAMPLES_PER_BYTE * file.stat().st_size:
        raise AudioError(_truncated(file, f"{sound.frames} frames of audio", f"{file.stat().st_size} bytes"))
    if sound.format == "FLAC" and sound.frames:
        _decode_soundfile(sound, file, sound.frames - 1, None)


def to_wave(array: Any, sample_rate: int) -> np.ndarray:
    """Return an array or tensor of audio as a float32 wave [samples], mono, 16 kHz, in [-1, 1].

    Args:
        array: Floats in [-1, 1], or int16, int32, or uint8 in full scale; a NumPy array, a torch tensor on any device,
            or a list of floats. Either [samples], or two-dimensional, where the shorter axis is taken for the channels
            (at most 32), whether it comes first ([2, 48000], torchaudio) or last ([48000, 2], soundfile).
        sample_rate: Samples per second of `array`.

    Raises:
        AudioError: The array has no samples, another shape or type, NaN, or values far outside [-1, 1].
    """
    if not isinstance(sample_rate, (int, np.integer)) or sample_rate <= 0:
        raise AudioError(f"expected a sample rate in Hz as a positive whole number, found {sample_rate!r}")
    values = _full_scale(_to_numpy(array))
    if values.size == 0:
        raise AudioError(f"expected audio with at least one sample, found an array of shape {values.shape}")
    if values.ndim == 2:
        channel_axis = 0 if values.shape[0] <= values.shape[1] else 1
        if values.shape[channel_axis] > _MAX_CHANNELS:
            raise AudioError(
                f"expected [channels, samples] or [samples, channels] with at most {_MAX_CHANNELS} channels, "
                f"found an array of shape {values.shape}: pass one clip at a time"
            )
        values = values.mean(axis=channel_axis, dtype=np.float32)
    elif values.ndim != 1:
        raise AudioError(f"expected audio as [samples] or with one axis of channels, found shape {values.shape}")
    return _finish(values, int(sample_rate), "the array")


def _decode(file: EncodedFile, start_s: float, max_duration_s: float | None) -> tuple[np.ndarray, int]:
    """Return the mono samples of `file` and its rate, by soundfile where it knows the format, else by FFmpeg."""
    if file.suffix.lower() in _HEADERLESS:
        return _decode_av(file, start_s, max_duration_s, "a format without a header")
    try:
        sound = soundfile.SoundFile(handle(file))
    except (soundfile.LibsndfileError, TypeError, OSError) as error:
        return _decode_av(file, start_s, max_duration_s, _why_not_soundfile(file, error))
    with sound:
        _check_riff_length(file)
        start = round(start_s * sound.samplerate)
        if start >= sound.frames > 0 and start > 0:
            raise AudioError(f"expected audio at {start_s:g} s in {file}, found {sound.frames / sound.samplerate:g} s")
        return _decode_soundfile(sound, file, start, max_duration_s), sound.samplerate


def _why_not_soundfile(file: EncodedFile, error: Exception) -> str:
    """Return soundfile's reason for not knowing the format; raise where FFmpeg would not do better."""
    if isinstance(error, OSError) or (isinstance(error, soundfile.LibsndfileError) and error.code in _FINAL_CODES):
        raise AudioError(f"expected readable audio in {file}, found: {error}. Fetch or make the file again") from error
    return str(error)


@np.errstate(all="ignore")  # samples that are no numbers are found and reported later
def _decode_soundfile(
    sound: soundfile.SoundFile, file: EncodedFile, start: int, max_duration_s: float | None
) -> np.ndarray:
    """Return the mono samples from frame `start` on, at the file's own rate, block by block."""
    wanted = sound.frames - start
    if max_duration_s is not None:
        wanted = min(wanted, math.ceil(max_duration_s * sound.samplerate))
    block_frames = max(1, _BLOCK_VALUES // sound.channels)
    blocks: list[np.ndarray] = []
    found = 0
    while found < wanted:
        try:
            if start and not found:
                sound.seek(start)
            block = sound.read(min(block_frames, wanted - found), dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise AudioError(_truncated(file, f"{wanted} frames of audio", f"{error} after frame {found}")) from error
        if len(block) == 0:
            break
        blocks.append(block[:, 0] if sound.channels == 1 else block.mean(axis=1, dtype=np.float32))
        found += len(block)
    if found < wanted and sound.format not in _NO_RELIABLE_LENGTH:
        raise AudioError(_truncated(file, f"{wanted} frames of audio", f"{found}"))
    return np.concatenate(blocks) if blocks else np.zeros(0, np.float32)


def _mono(block: np.ndarray) -> np.ndarray:
    """Return the mean of the channels of a block [frames, channels]; two are added, which is 30 times as fast."""
    if block.shape[1] == 1:
        return block[:, 0]
    if block.shape[1] == 2:
        return (block[:, 0] + block[:, 1]) * np.float32(0.5)
    return block.mean(axis=1, dtype=np.float32)


def _check_riff_length(file: EncodedFile) -> None:
    """Raise if the data chunk of a RIFF wave is longer than the file: libsndfile reads such a file without a word."""
    with file.open("rb") as raw:
        size_bytes = raw.seek(0, os.SEEK_END)
        raw.seek(0)
        head = raw.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return
        while len(header := raw.read(8)) == 8:
            name, length = struct.unpack("<4sI", header)
            if name != b"data":
                raw.seek(length + length % 2, os.SEEK_CUR)
                continue
            there = size_bytes - raw.tell()
            if there < length < _UNKNOWN_RIFF_LENGTH:
                raise AudioError(_truncated(file, f"{length} bytes of audio", f"{there}"))
            return


def _truncated(file: EncodedFile, expected: str, found: str) -> str:
    """Return the message for a file that ends or breaks before its header says."""
    return f"expected {expected} in {file}, as its header says; found {found}: truncated or damaged, fetch it again"


@np.errstate(all="ignore")
def _decode_av(file: EncodedFile, start_s: float, max_duration_s: float | None, reason: str) -> tuple[np.ndarray, int]:
    """Return the mono samples of the first audio stream of `file` through FFmpeg, and their rate.

    Decodes from the beginning: seeking in compressed streams is not exact to the sample.
    """
    av = _import_av(file, reason)
    blocks: list[np.ndarray] = []
    found = 0
    try:
        with av.open(handle(file), format=_HEADERLESS.get(file.suffix.lower())) as container:
            stream = _audio_stream(container, file, reason)
            sample_rate = stream.codec_context.sample_rate
            resampler = av.AudioResampler(format="fltp", layout=stream.codec_context.layout, rate=sample_rate)
            start = round(start_s * sample_rate)
            wanted = math.inf if max_duration_s is None else start + max_duration_s * sample_rate
            for frame in container.decode(stream):
                for planes in resampler.resample(frame):
                    blocks.append(planes.to_ndarray().mean(axis=0, dtype=np.float32))
                    found += len(blocks[-1])
                if found >= wanted:
                    break
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(_unreadable(file, f"soundfile: {reason}; FFmpeg: {error}")) from error
    return np.concatenate(blocks)[start:] if blocks else np.zeros(0, np.float32), sample_rate


def _info_av(file: EncodedFile, reason: str) -> AudioInfo:
    """Return what FFmpeg says about the first audio stream of `file`, decoding it where no length is stated."""
    av = _import_av(file, reason)
    try:
        with av.open(handle(file), format=_HEADERLESS.get(file.suffix.lower())) as container:
            stream = _audio_stream(container, file, reason)
            if stream.duration is not None and stream.time_base is not None:
                duration_s = float(stream.duration * stream.time_base)
            else:
                samples, sample_rate = _decode_av(file, 0.0, None, reason)
                duration_s = len(samples) / sample_rate
            context = stream.codec_context
            if not 0 <= duration_s * context.sample_rate <= _MAX_SAMPLES_PER_BYTE * file.stat().st_size:
                raise ValueError(f"{duration_s:g} s of audio in {file.stat().st_size} bytes")
            return AudioInfo(
                duration_s=duration_s,
                sample_rate=context.sample_rate,
                num_channels=context.channels,
                format=container.format.name.upper(),
            )
    except (av.FFmpegError, ValueError) as error:
        raise AudioError(_unreadable(file, f"soundfile: {reason}; FFmpeg: {error}")) from error


def _import_av(file: EncodedFile, reason: str) -> Any:
    """Return the optional module `av`, or raise with the way to install it."""
    try:
        import av
    except ImportError as error:
        reason = f"soundfile: {reason}; for m4a and others: pip install 'uniwhisper[m4a]'"
        raise AudioError(_unreadable(file, reason)) from error
    return av


def _audio_stream(container: Any, file: EncodedFile, reason: str) -> Any:
    """Return the first audio stream of an open FFmpeg container."""
    if not container.streams.audio:
        raise AudioError(_unreadable(file, f"soundfile: {reason}; FFmpeg: no audio in {container.format.name}"))
    context = container.streams.audio[0].codec_context
    if context is None or context.sample_rate <= 0 or context.channels <= 0:
        raise AudioError(_unreadable(file, f"soundfile: {reason}; FFmpeg: no decoder for its audio stream"))
    return container.streams.audio[0]


def _unreadable(file: EncodedFile, reasons: str) -> str:
    """Return the message for content that no decoder knows, with its first bytes."""
    with file.open("rb") as raw:
        start = raw.read(12)
    return f"expected audio (wav, flac, mp3, ogg, opus, ...) in {file}, found content that begins {start!r} ({reasons})"


def _to_numpy(array: Any) -> np.ndarray:
    """Return a NumPy view of an array, a list, or a torch tensor, without importing torch."""
    if hasattr(array, "detach"):
        tensor = array.detach().cpu()
        array = tensor.float() if tensor.is_floating_point() else tensor  # NumPy has no bfloat16
    try:
        return np.asarray(array)
    except ValueError as error:
        raise AudioError(f"expected one array of numbers, found lists of different lengths: {error}") from error


def _full_scale(values: np.ndarray) -> np.ndarray:
    """Return samples of any accepted type as float32, integers divided by their full scale."""
    if np.issubdtype(values.dtype, np.floating):
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is reported as such
            return values.astype(np.float32)
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128.0) / 128.0
    if values.dtype in (np.int16, np.int32):
        return (values / float(1 << (8 * values.dtype.itemsize - 1))).astype(np.float32)
    raise AudioError(
        f"expected float, int16, int32 or uint8 samples, found {values.dtype}: "
        "its full scale is not known, divide by it to get floats in [-1, 1]"
    )


def _finish(mono: np.ndarray, sample_rate: int, where: str, wanted_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Return mono samples of any rate as a wave of their own: checked, at the wanted rate, within [-1, 1]."""
    _check_samples(mono, where)
    if sample_rate != wanted_rate:
        try:
            mono = soxr.resample(mono, sample_rate, wanted_rate, quality="HQ")
        except (ValueError, RuntimeError) as error:
            raise AudioError(f"expected a usable sample rate in {where}, found {sample_rate} Hz: {error}") from error
        if len(mono) == 0:
            raise AudioError(
                f"expected at least one sample at {wanted_rate / 1000:g} kHz in {where}, found less: leave it out"
            )
    return np.clip(mono, -1.0, 1.0)  # after resampling, whose filter rings beyond the peak of a full-scale edge


def _check_samples(mono: np.ndarray, where: str) -> None:
    """Raise unless `mono` has samples, all finite and of a plausible size."""
    if len(mono) == 0:
        raise AudioError(f"expected audio with at least one sample in {where}, found 0 s: leave it out")
    peak = float(max(mono.max(), -mono.min()))
    if not math.isfinite(peak):
        bad = np.flatnonzero(~np.isfinite(mono))
        raise AudioError(
            f"expected finite samples in {where}, found {len(bad)} NaN or infinite of {len(mono)}, "
            f"the first at sample {bad[0]}: repair or leave it out"
        )
    if peak > _MAX_PEAK:
        advice = "divide by the full scale (32768 for 16-bit values) or by the peak"
        raise AudioError(f"expected samples in [-1, 1] in {where}, found a peak of {peak:g}: {advice}")
