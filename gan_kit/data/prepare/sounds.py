"""Files of sound as clips of one length, rate and level."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash

from gan_kit.data.prepare import sound_duplicates
from gan_kit.data.prepare.kinds import SOUNDS, says
from gan_kit.data.prepare.sound_signal import clipped_share, db, loud_part, lufs, mixed, resampled, rms, stereo_kind
from gan_kit.data.prepare.types import Domain, Found, Item, Near, Unusable
from gan_kit.data.prepare.wav import check_header, checked
from gan_kit.types import UserError

__all__ = ["Sounds"]

FITS = ("pad", "crop", "slice")
LEVELS = {"peak": "dBFS", "loudness": "LUFS", "none": ""}
SNDFILE = frozenset(
    {
        "aiff",
        "au",
        "avr",
        "caf",
        "flac",
        "ircam",
        "mp3",
        "nist",
        "ogg",
        "paf",
        "pvf",
        "rf64",
        "svx",
        "voc",
        "w64",
        "wav",
    }
)
UNKNOWN = 1 << 60  # libsndfile's count for a FLAC written into a pipe
BLOCK = 1 << 20  # samples decoded at once
MAX_SAMPLES = 1 << 27  # of all channels: half a gigabyte
LOSSY_BITS = {"ULAW": 13, "ALAW": 13, "IMA_ADPCM": 11, "MS_ADPCM": 11}  # about, in 16-bit files' worth
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32, "FLOAT": 24, "DOUBLE": 32, "ALAC_16": 16}


@dataclass(frozen=True)
class Decoded:
    """x: (T, C) float32, full scale at 1"""

    x: np.ndarray
    rate: int
    encoding: str


@dataclass(frozen=True)
class Sounds(Domain):
    """Sounds of all kinds -> clips (channels, clip_samples) int16 at `sample_rate` Hz.

    fit: a sound longer than a clip keeps its start ("pad"), its middle ("crop"), or gives a clip every `hop_samples`
        ("slice", by default without overlap); zeros fill up what is shorter
    min_remainder: "slice" keeps a last clip of which so large a share is sound
    normalise, level: the file's peak in dBFS, its "loudness" in LUFS (the peak stays below full scale), "none"
    trim_db: cuts off what, at the start and the end, is so many dB below the loudest 10 ms; leaves trim_margin_seconds
    dc: takes out each channel's mean
    min_seconds, max_seconds: shorter and longer files are refused, long ones before they are decoded
    silent_db, clipped_share: where the flags "silent" (RMS in dBFS) and "clipped" begin
    nonfinite: "refuse" files with NaN or infinite samples, or "zero" these samples
    """

    sample_rate: int
    clip_samples: int
    channels: int = 1
    fit: str = "pad"
    hop_samples: int | None = None
    min_remainder: float = 0.5
    normalise: str = "peak"
    level: float | None = None
    trim_db: float | None = None
    trim_margin_seconds: float = 0.02
    dc: bool = True
    min_seconds: float = 0.0
    max_seconds: float = 600.0
    silent_db: float = -60.0
    clipped_share: float = 0.0005
    nonfinite: str = "refuse"

    name = "audio"
    kinds = SOUNDS
    flags = frozenset({"silent", "clipped", "dc offset", "short", "out of phase"})
    version = 1

    def __post_init__(self) -> None:
        for name in ("sample_rate", "clip_samples", "max_seconds"):
            if not getattr(self, name) > 0:
                raise UserError(f"{name}={getattr(self, name)}; set data.{name} above 0")
        if self.channels not in (1, 2):
            raise UserError(f"channels={self.channels}; set data.channels to 1 or 2")
        for name, value, known in (
            ("fit", self.fit, FITS),
            ("normalise", self.normalise, tuple(LEVELS)),
            ("nonfinite", self.nonfinite, ("refuse", "zero")),
        ):
            if value not in known:
                raise UserError(f"no {name}={value!r}; have {', '.join(known)}")
        if self.hop_samples is not None and not 0 < self.hop_samples <= self.clip_samples:
            raise UserError(f"hop_samples={self.hop_samples}; set data.hop_samples from 1 to {self.clip_samples}")
        if not 0 < self.min_remainder <= 1:
            raise UserError(f"min_remainder={self.min_remainder}; set data.min_remainder above 0, at most 1")
        if self.level is not None and self.level > 0:
            raise UserError(f"level={self.level} {LEVELS[self.normalise]} is above full scale; set data.level below 0")
        if self.trim_db is not None and not self.trim_db > 0:
            raise UserError(f"trim_db={self.trim_db}; set data.trim_db above 0, such as 40")
        if self.trim_margin_seconds < 0 or not 0 <= self.min_seconds <= self.max_seconds:
            raise UserError(
                f"trim_margin_seconds={self.trim_margin_seconds}, min_seconds={self.min_seconds}, "
                f"max_seconds={self.max_seconds}; set none below 0 and min_seconds below max_seconds"
            )
        try:
            import soundfile  # noqa: F401
        except (ImportError, OSError) as e:  # OSError: no libsndfile
            raise UserError(f"sounds are read by soundfile ({e}); pip install 'gan-kit[audio]'") from e

    @property
    def spec(self) -> dict[str, Any]:
        return {"sample_rate": self.sample_rate}

    def items(self, data: bytes, found: Found) -> Iterator[Item]:
        sound = decoded(data, found.kind, self.max_seconds)
        facts, flags, actions = self._described(sound)
        if facts["seconds"] < self.min_seconds:
            raise Unusable(f"{facts['seconds']:.3g} s, shorter than min_seconds={self.min_seconds:g}")
        quality = self._quality(sound, facts)
        x = np.nan_to_num(sound.x, nan=0.0, posinf=0.0, neginf=0.0)
        x = x - x.mean(0) if self.dc else x
        x, done = mixed(x, self.channels)
        actions += done
        if sound.rate != self.sample_rate:
            x = resampled(x, sound.rate, self.sample_rate)
            actions.append(f"{sound.rate} Hz to {self.sample_rate} Hz")
        start, end = 0, len(x)
        if self.trim_db is not None:
            start, end = loud_part(x, self.sample_rate, self.trim_db, self.trim_margin_seconds)
            if end - start < len(x):
                actions.append("silence cut off")
        if "silent" not in flags:
            x, done = self._levelled(x, start, end)
            actions += done
        for part, first, last in self._parts(start, end):
            clip = x[first:last]
            told, changes, warned = dict(facts), list(actions), list(flags)
            source = sound.x
            if self.fit == "slice":
                scale = sound.rate / self.sample_rate
                source = sound.x[int(first * scale) : max(int(first * scale) + 1, round(last * scale))]
                told["start_seconds"] = round(first / self.sample_rate, 4)
                if "silent" not in warned and db(rms(clip)) < self.silent_db:
                    warned.append("silent")
            if len(clip) < self.clip_samples:
                changes.append("zeros to length")
            elif self.fit != "slice" and end - start > self.clip_samples:
                changes.append(f"{self.fit} to length" if self.fit == "crop" else "end cut off")
            if len(clip) < self.clip_samples / 10:
                warned.append("short")
            if np.abs(clip).max(initial=0) > 1 + 2**-15:
                changes.append("limited to full scale")
                warned.append("clipped")
            yield Item(
                x=_int16(clip, self.clip_samples),
                digest=_hashed(source, sound.rate),
                signature=self._signature(clip),
                quality=quality,
                part=part,
                facts=told,
                actions=tuple(changes),
                flags=tuple(dict.fromkeys(warned)),
            )

    def near(self, signatures: np.ndarray, progress: bool = False, workers: int = 1) -> Near:
        return sound_duplicates.near(signatures, progress)

    def sheet(self, rows: list[np.ndarray], columns: int) -> bytes:
        """Each clip's waveform above its spectrogram (0 Hz at the foot, 80 dB from black to white)."""
        from PIL import Image

        if columns < 1:
            raise UserError(f"a sheet of {columns} columns; give 1 or more")
        w, h, gap = 192, 96, 4
        across, down = min(columns, max(1, len(rows))), -(-len(rows) // columns)
        sheet = Image.new("L", (across * (w + gap) + gap, max(1, down) * (h + gap) + gap), 255)
        for i, row in enumerate(rows):
            picture = Image.fromarray(_portrait(row.mean(0) / 32768, w, h))
            sheet.paste(picture, (gap + i % columns * (w + gap), gap + i // columns * (h + gap)))
        out = io.BytesIO()
        sheet.save(out, "PNG")
        return out.getvalue()

    def _described(self, sound: Decoded) -> tuple[dict[str, Any], list[str], list[str]]:
        """-> facts, flags, actions; raises Unusable for no samples, or NaN"""
        x, flags, actions = sound.x, [], []
        if len(x) == 0:
            raise Unusable("a header without sound")
        finite = np.isfinite(x)
        if not finite.all():
            bad = f"NaN or infinite in {int((~finite).sum()):,} of {x.size:,} samples"
            if self.nonfinite == "refuse":
                raise Unusable(bad)
            actions.append("NaN to zero")
            x = np.where(finite, x, 0)
        dc = float(np.abs(x.mean(0, dtype=np.float64)).max())
        steady = x - x.mean(0)
        loudness, clipped = db(rms(steady)), clipped_share(x)
        facts = {
            "seconds": round(len(x) / sound.rate, 4),
            "sample_rate": sound.rate,
            "channels": x.shape[1],
            "encoding": sound.encoding,
            "peak_db": round(db(float(np.abs(x).max())), 2),
            "rms_db": round(loudness, 2),
            "dc": round(dc, 5),
            "clipped": round(clipped, 6),
        }
        if loudness < self.silent_db:
            flags.append("silent")
        if clipped > max(self.clipped_share, 3 / x.size):
            flags.append("clipped")
        if dc > 0.01:
            flags.append("dc offset")
        if dc > 0.001 and self.dc:
            actions.append("offset removed")
        if x.shape[1] == 2 and "silent" not in flags:
            facts["stereo"] = kind = stereo_kind(steady)
            if kind == "out of phase":
                flags.append(kind)
        return facts, flags, actions

    def _quality(self, sound: Decoded, facts: dict[str, Any]) -> float:
        """An octave of rate (up to the set's) counts as 16 bits, 1 % of clipping as 2, a minute as half a bit."""
        bits = BITS.get(sound.encoding, LOSSY_BITS.get(sound.encoding, 10))
        rate = np.log2(min(sound.rate, self.sample_rate))
        return float(32 * rate + 2 * bits - 400 * facts["clipped"] + min(facts["seconds"], self.max_seconds) / 60)

    def _levelled(self, x: np.ndarray, start: int, end: int) -> tuple[np.ndarray, list[str]]:
        peak = float(np.abs(x[start:end]).max())
        if self.normalise == "none" or peak == 0:
            return x, []
        if self.normalise == "peak":
            level = -1.0 if self.level is None else self.level
            return x * np.float32(10 ** (level / 20) / peak), [f"peak to {level:g} dBFS"]
        level = -23.0 if self.level is None else self.level
        now = lufs(x[start:end], self.sample_rate)
        if now == -np.inf:
            return x, ["too quiet for a loudness"]
        gain = 10 ** ((level - now) / 20)
        if gain * peak > 1:
            return x * np.float32(1 / peak), ["loudness held by the peak"]
        return x * np.float32(gain), [f"loudness to {level:g} LUFS"]

    def _parts(self, start: int, end: int) -> Iterator[tuple[str, int, int]]:
        """-> the part's name, its first sample and the one behind its last"""
        size, length = self.clip_samples, end - start
        if self.fit == "slice":
            hop = self.hop_samples or size
            for k in range(max(1, -(-length // hop))):
                first = start + k * hop
                last = min(first + size, end)
                if k == 0 or last - first >= self.min_remainder * size:
                    yield f"clip {k}", first, last
            return
        first = start + max(0, length - size) // 2 if self.fit == "crop" else start
        yield "", first, min(first + size, end)

    def _signature(self, clip: np.ndarray) -> np.ndarray:
        energies = (clip.astype(np.float64) ** 2).sum(0)
        mono = clip.mean(1)
        if (mono.astype(np.float64) ** 2).sum() < 0.05 * energies.mean():  # out of phase
            mono = clip[:, int(energies.argmax())]
        return sound_duplicates.signature(mono, self.sample_rate, self.clip_samples / self.sample_rate)


# Decoding


def decoded(data: bytes, kind: str, max_seconds: float) -> Decoded:
    """Raises Unusable with the reason."""
    if kind not in SOUNDS:
        raise Unusable(f"{says(kind)}, no sound")
    if kind not in SNDFILE:
        return _by_av(data, kind, max_seconds)
    data = checked(data, kind)
    import soundfile

    class Forwards(soundfile.SoundFile):
        def seekable(self) -> bool:
            return False  # else each block is followed by a seek, which fails where the length is unknown

    blocks: list[np.ndarray] = []
    rate = 0
    try:
        with Forwards(io.BytesIO(data)) as file:
            rate, channels, frames = file.samplerate, file.channels, 0
            check_header(channels, rate)
            if file.frames < UNKNOWN:
                _check_length(file.frames, rate, channels, max_seconds)
            # a header may tell less than there is: what is read is counted, too
            while True:
                size = min(BLOCK // channels, max(4096, file.frames - frames + 1))
                block = file.read(size, dtype="float32", always_2d=True)
                if len(block) == 0:
                    break
                blocks.append(block)
                frames += len(block)
                _check_length(frames, rate, channels, max_seconds)
            x = np.concatenate(blocks) if blocks else np.zeros((0, channels), np.float32)
            return Decoded(x, rate, file.subtype)
    except (RuntimeError, ValueError, TypeError, OverflowError, OSError, MemoryError) as e:
        message = e.error_string if isinstance(e, soundfile.LibsndfileError) else str(e)
        message = message.removeprefix("Error : ").strip().rstrip(".") or type(e).__name__
        raise Unusable(f"cut short or damaged: {message}" if rate else f"libsndfile: {message}") from None


def _check_length(frames: int, rate: int, channels: int, max_seconds: float) -> None:
    if frames > max_seconds * rate:
        raise Unusable(f"{frames / rate:.6g} s, longer than max_seconds={max_seconds:g}")
    if frames * channels > MAX_SAMPLES:
        raise Unusable(f"{frames:,} samples of {channels} channels at {rate} Hz, more than memory is meant for")


def _by_av(data: bytes, kind: str, max_seconds: float) -> Decoded:
    try:
        import av
    except ImportError:
        raise Unusable(f"{says(kind)} needs PyAV: pip install 'gan-kit[av]'") from None
    try:
        with av.open(io.BytesIO(data)) as container:
            if not container.streams.audio:
                raise Unusable(f"{says(kind)} without a track of sound")
            return _track(container, max_seconds)
    except (av.FFmpegError, ValueError, OSError, MemoryError) as e:
        raise Unusable(f"ffmpeg: {getattr(e, 'strerror', None) or e}") from None


def _track(container: Any, max_seconds: float) -> Decoded:
    from av import AudioResampler

    stream = container.streams.audio[0]
    rate, channels = stream.rate, stream.codec_context.channels
    check_header(channels, rate)
    told = stream.duration and float(stream.duration * stream.time_base)
    _check_length(int((told or 0) * rate), rate, channels, max_seconds)
    planar, blocks, frames = AudioResampler(format="fltp"), [], 0
    for frame in container.decode(stream):
        for same in planar.resample(frame):
            blocks.append(same.to_ndarray().T)
            frames += len(blocks[-1])
            _check_length(frames, rate, channels, max_seconds)
    if told and frames < 0.98 * told * rate - 0.1 * rate:
        raise Unusable(f"cut short: its header tells of {told:.2f} s, {frames / rate:.2f} s are there")
    x = np.concatenate(blocks) if blocks else np.zeros((0, channels), np.float32)
    return Decoded(np.ascontiguousarray(x), rate, stream.codec_context.name)


def _int16(x: np.ndarray, length: int) -> np.ndarray:
    """(T, C) -> (C, length) int16, zeros behind"""
    out = np.zeros((x.shape[1], length), np.int16)
    out[:, : len(x)] = np.clip(np.round(x.T * 32768), -32768, 32767)
    return out


def _hashed(x: np.ndarray, rate: int) -> bytes:
    digest = xxhash.xxh3_128(f"{x.shape} {rate} Hz".encode())
    digest.update(np.ascontiguousarray(x + np.float32(0), "<f4").tobytes())  # some decoders give -0.0
    return digest.digest()


def _portrait(x: np.ndarray, w: int, h: int) -> np.ndarray:
    """(T,) in [-1, 1] -> (h, w) uint8: waveform above, spectrogram below"""
    from PIL import Image

    half = h // 2
    columns = np.array_split(x, w) if len(x) >= w else [x[i * len(x) // w :][:1] for i in range(w)]
    low = np.array([c.min(initial=0) for c in columns])
    high = np.array([c.max(initial=0) for c in columns])
    heights = np.linspace(1, -1, half)[:, None]
    wave = np.where((heights <= high + 1 / half) & (heights >= low - 1 / half), 0, 224)
    size = 256
    x = np.pad(x, (0, max(0, size - len(x))))
    frames = np.lib.stride_tricks.sliding_window_view(x, size)[:: max(1, len(x) // (2 * w))] * np.hanning(size)
    power = 20 * np.log10(np.abs(np.fft.rfft(frames)).T[::-1] / size + 1e-10)
    shades = np.clip((power - power.max()) / 80 + 1, 0, 1) * 255
    spectrum = np.asarray(Image.fromarray(shades.astype(np.uint8)).resize((w, h - half), Image.Resampling.BOX))
    return np.concatenate([wave.astype(np.uint8), spectrum])
