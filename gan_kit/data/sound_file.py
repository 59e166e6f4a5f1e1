"""One sound file as networks take it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gan_kit.data.prepare.kinds import HEAD_BYTES, kind_of
from gan_kit.data.prepare.sound_signal import mixed, resampled
from gan_kit.data.prepare.sounds import decoded
from gan_kit.data.prepare.types import Unusable
from gan_kit.types import UserError

__all__ = ["SUFFIXES", "read_recording", "read_sound"]

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".aif", ".aiff", ".opus", ".m4a")


def read_sound(path: Path, sample_rate: int, max_seconds: float = 3600) -> np.ndarray:
    """Any file that `gan_kit.prepare` reads -> (1, T) float32 in [-1, 1], mixed to mono, resampled.

    Raises UserError for a file that can't be read, holds no sound or is longer than `max_seconds`.
    """
    try:
        data = path.read_bytes()
        sound = decoded(data, kind_of(data[:HEAD_BYTES], path.name), max_seconds)
    except (Unusable, OSError) as error:
        raise UserError(f"{path}: {error}") from None
    if not len(sound.x) or not np.isfinite(sound.x).all():
        raise UserError(f"{path} holds {'no samples' if not len(sound.x) else 'NaN or infinite samples'}")
    mono, _ = mixed(sound.x, 1)
    return np.ascontiguousarray(resampled(mono, sound.rate, sample_rate).T, np.float32)


def read_recording(path: Path) -> tuple[np.ndarray, int]:
    """A WAV of a published data set -> (T, 1) in [-1, 1], its channels' mean, and its rate in Hz.

    Raises UserError where it is damaged, or soundfile isn't there.
    """
    try:
        sound = decoded(path.read_bytes(), "wav", max_seconds=60)
    except (Unusable, OSError) as error:
        raise UserError(f"{path} can't be used ({error}); fetch it again") from error
    except ImportError as error:
        raise UserError(f"recordings are read by soundfile ({error}); pip install 'gan-kit[audio]'") from error
    return sound.x.mean(1, keepdims=True), sound.rate
