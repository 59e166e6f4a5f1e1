"""Which of many short sounds are copies of each other: louder, shifted, resampled, through a codec; not another take.

Two takes of a word by one voice have much the same spectrogram, so a fingerprint of coarse energies (Haitsma and Kalker
2002, "A highly robust audio fingerprinting system") merges them, and it needs seconds of sound. Waveforms tell them
apart: aligned at the best lag, copies correlate almost fully and takes do not, for their pitch periods drift apart.
So a sound keeps a small picture of its waveform, and the search has two stages:

1. candidates: the fine magnitude spectrum of that picture, which no shift changes, gives CODES words of 64 bits, the
   signs of random projections (Charikar 2002, "Similarity estimation techniques from rounding algorithms", section 3);
   two sounds are candidates where one word differs in at most RADIUS bits (hamming.near_pairs says at what cost);
2. proof: the cross-correlation of the two pictures at the best lag.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np

from gan_kit.data.prepare.hamming import clusters, near_pairs
from gan_kit.data.prepare.types import Near
from gan_kit.types import UserError

__all__ = ["correlation", "near", "signature"]

log = logging.getLogger(__name__)

POINTS = 3072  # of the waveform's picture: 1.5 kHz of band at 1 s
LENGTH = 2 * POINTS + 1  # of a signature
LOWEST_HZ = 40.0  # below lie hum's fundamental, rumble and offsets
SILENT = 1e-4  # a peak of -80 dBFS
CODES, RADIUS = 8, 8
SAME, ALIKE = 0.88, 0.80  # correlation
OVERLAP = 0.75  # share of the sounds' energy that the best lag brings together
CLICK = 16.0  # a sound no longer than so many points of even power, or
TONE = 8.0  # with no more than so many spectral lines, is like any other: a high correlation proves nothing
SOUND, CLICKING, TONAL, FLAT = range(4)
CHUNK = 256  # sounds or pairs at once
SEED = 20020711


def signature(samples: np.ndarray, rate: float, seconds: float | None = None) -> np.ndarray:
    """samples: (T,) float at `rate` Hz, of which the first `seconds` count -> (LENGTH,) int8, zeros for silence

    Two rows of POINTS: the waveform up to half of POINTS / window Hz, and the envelope of what lies above. Spectrum and
    level are evened out by half, in dB: else a voice's fundamental and its loudest vowel decide alone, and those repeat
    from take to take. The window is the first of 1, 2, 4, ... s that holds the sound but for 1 % of its energy, or all
    `seconds`; which it is stands behind the rows. Comparable between sounds of one value of `seconds`, which is their
    own length by default.
    """
    from scipy.fft import irfft, rfft

    if samples.ndim != 1 or not rate > 0 or (seconds is not None and not seconds > 0):
        raise UserError(f"a signature of shape {samples.shape}, {rate} Hz, {seconds} s; give (T,) and positive numbers")
    seconds = max(1.0, len(samples) / rate if seconds is None else seconds)
    used = np.asarray(samples[: round(seconds * rate)], np.float64)
    used = used - used.mean() if used.size else used
    if np.abs(used).max(initial=0) < SILENT:
        return np.zeros(LENGTH, np.int8)
    used, window, octave = _windowed(used, rate, seconds)
    x = np.zeros(2 * round(window * rate))  # the second half keeps the end from leaking into the start
    x[: used.size] = used
    spectrum = rfft(x)
    edge = POINTS  # bins are 1 / (2 window) Hz apart
    lowest = round(2 * window * LOWEST_HZ)
    above = spectrum.copy()
    above[:edge] = 0
    rows = (_band(spectrum, lowest), _band(rfft(_envelope(above)), min(lowest, edge // 16)))
    energies = (_energy(rows[0]), _energy(above))
    picture = np.zeros((2, POINTS))
    for row, band, energy in zip(picture, rows, energies, strict=True):
        wave = irfft(_evened(band, 201, 1e-5, 0.25), 2 * POINTS)[:POINTS]
        wave = _evened(wave, 121, 1e-4, 0.375)
        row[:] = wave * np.sqrt(energy / max(_energy(wave), 1e-30))
    picture *= 127 / max(np.abs(picture).max(), 1e-30)
    return np.append(np.round(picture).ravel(), octave).astype(np.int8)


def _windowed(x: np.ndarray, rate: float, seconds: float) -> tuple[np.ndarray, float, int]:
    """-> the stretch of x that counts, the window's length in seconds, its octave"""
    sums = np.pad(np.square(x).cumsum(), (1, 0))
    octave = 0
    while 2**octave < seconds:
        size = min(round(2**octave * rate), len(x))
        held = sums[size:] - sums[: len(sums) - size]
        start = int(held.argmax())
        if held[start] >= 0.99 * sums[-1]:
            return x[start : start + size], 2.0**octave, octave
        octave += 1
    return x, seconds, octave


def _pictures(signatures: np.ndarray) -> np.ndarray:
    """(N, LENGTH) int8 -> (N, 2, POINTS) float32"""
    return np.asarray(signatures[:, :-1], np.float32).reshape(-1, 2, POINTS)


def _band(spectrum: np.ndarray, lowest: int) -> np.ndarray:
    """Bins from `lowest` on, as many as POINTS hold."""
    band = np.zeros(POINTS + 1, np.complex128)
    n = min(POINTS, len(spectrum))
    band[lowest:n] = spectrum[lowest:n]
    return band


def _envelope(spectrum: np.ndarray) -> np.ndarray:
    """Magnitude of the analytic signal."""
    from scipy.fft import ifft

    return np.abs(ifft(np.concatenate([2 * spectrum, np.zeros(len(spectrum) - 2)])))


def _evened(x: np.ndarray, width: int, floor: float, power: float) -> np.ndarray:
    """x over its local energy to some power; `floor` of the largest keeps the faint from being blown up."""
    from scipy.ndimage import uniform_filter1d

    local = np.abs(x) ** 2
    for _ in range(3):  # almost a Gaussian, and far cheaper
        local = uniform_filter1d(local, width)
    return x / np.maximum(local, floor * local.max() + 1e-30) ** power


def _energy(x: np.ndarray) -> float:
    return float((np.abs(x) ** 2).sum())


def near(signatures: np.ndarray, progress: bool = False) -> Near:
    """signatures: (N, LENGTH) int8, perhaps a memmap. -> pairs that hang together as all pairs would

    Pairs inside a cluster that others already join are left out. Doubtful: "alike" (correlation between ALIKE and
    SAME), "overlap" (equal where they meet, which is too little of them), and equal ones among "flat" (silence),
    "tone" and "click" sounds, which prove nothing. Cost: N spectra, CODES searches by hamming.near_pairs among N words
    of 64 bits, and one spectrum a candidate. Memory: 8 CODES bytes a sound, CODES (2 N + 1,000,000) pairs at most.
    """
    n = len(signatures)
    if signatures.shape[1:] != (LENGTH,) or signatures.dtype != np.int8:
        raise UserError(f"signatures {signatures.shape} of {signatures.dtype}; give (N, {LENGTH}) int8")
    words, kinds = _described(signatures, progress)
    flat = np.flatnonzero(kinds == FLAT)
    pairs = _candidates(words, kinds, progress)
    component = np.arange(n)
    same, doubtful = [np.zeros((0, 2), np.int64)], [np.stack([flat[:-1], flat[1:]], 1)]
    reasons = ["flat"] * max(0, len(flat) - 1)
    for start, end in _steps(len(pairs), max(16 * CHUNK, n // 8), progress):
        # those that earlier pairs joined need no proof: a cluster of k costs about k, not k^2
        block = pairs[start:end]
        block = block[component[block[:, 0]] != component[block[:, 1]]]
        score, share = correlation(signatures, block)
        weak = np.maximum(kinds[block[:, 0]], kinds[block[:, 1]])
        proven = (score >= SAME) & (share >= OVERLAP)
        for word, chosen in (
            ("click", proven & (weak == CLICKING)),
            ("tone", proven & (weak == TONAL)),
            ("overlap", (score >= SAME) & ~proven),
            ("alike", (score >= ALIKE) & (score < SAME) & (share >= OVERLAP) & (weak == SOUND)),
        ):
            doubtful.append(block[chosen])
            reasons += [word] * int(chosen.sum())
        same.append(block[proven & (weak == SOUND)])
        component = clusters(n, np.concatenate(same))
    return _sorted_near(np.concatenate(same), np.concatenate(doubtful), reasons)


def _described(signatures: np.ndarray, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """-> words (N, CODES) uint64, kinds (N,): SOUND, CLICKING, TONAL or FLAT"""
    from scipy.fft import rfft
    from scipy.ndimage import gaussian_filter1d, uniform_filter1d

    bins = POINTS // 2 + 1
    planes = np.random.default_rng(SEED).standard_normal((2 * bins, 64 * CODES)).astype(np.float32)
    words = np.zeros((len(signatures), CODES), np.uint64)
    kinds = np.zeros(len(signatures), np.int8)
    for start, end in _steps(len(signatures), CHUNK, progress):
        picture = _pictures(signatures[start:end])
        magnitude = np.abs(rfft(picture, axis=-1))
        power = (magnitude**2).sum(1)
        tone, click = _spread(power) <= TONE, _spread((picture**2).sum(1)) <= CLICK
        kinds[start:end] = np.select([~picture.any((1, 2)), tone, click], [FLAT, TONAL, CLICKING], SOUND)
        smooth = gaussian_filter1d(magnitude, 2, axis=-1)
        detail = (smooth - uniform_filter1d(smooth, 65, axis=-1)).reshape(end - start, -1)
        packed = np.packbits(detail @ planes > 0, axis=1, bitorder="little")
        words[start:end] = packed.view("<u8")
    return words, kinds


def _candidates(words: np.ndarray, kinds: np.ndarray, progress: bool) -> np.ndarray:
    """-> (P, 2) int64, i < j, those of the fewest different bits first"""
    found = [np.zeros(0, np.int64)]
    n = len(words)
    weak = (kinds == TONAL) | (kinds == CLICKING)  # for a person to look at: one chain of equal words is enough
    for members, count, radii in ((kinds == SOUND, CODES, (RADIUS, RADIUS // 2, 0)), (weak, 1, (0,))):
        rows = np.flatnonzero(members)
        for k in range(count if len(rows) > 1 else 0):
            pairs = rows[_within(np.ascontiguousarray(words[rows, k : k + 1]), radii, progress)]
            found.append(pairs[:, 0] * n + pairs[:, 1])
    pairs = np.stack(np.divmod(np.unique(np.concatenate(found)), max(n, 1)), 1)
    distance = np.zeros(len(pairs), np.int64)
    for word in words.T:
        different = word[pairs[:, 0]] ^ word[pairs[:, 1]]
        distance += np.unpackbits(different.view(np.uint8).reshape(-1, 8), axis=1).sum(1, dtype=np.int64)
    return pairs[np.argsort(distance, kind="stable")]


def _within(words: np.ndarray, radii: tuple[int, ...], progress: bool) -> np.ndarray:
    """Near pairs at the widest radius that gives not too many: thousands of hums are all near to each other."""
    most = 1_000_000 + 2 * len(words)
    for radius in radii:
        try:
            return near_pairs(words, radius, progress=progress, most=most)
        except UserError:
            log.warning("more than %d pairs of sounds within %d bits: looking for nearer ones only", most, radius)
    return np.zeros((0, 2), np.int64)


def correlation(signatures: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How alike each of (P, 2) pairs of rows is, at the lag and the sign that bring them together best.

    -> score (P,) in [0, 1]: the correlation of the stretch where both sound; share (P,) in [0, 1]: how much of their
    energy lies in it, as a geometric mean. score * share is the plain normalised cross-correlation.
    """
    from scipy.fft import rfft

    score, share = np.zeros(len(pairs)), np.zeros(len(pairs))
    for start in range(0, len(pairs), CHUNK):
        block = pairs[start : start + CHUNK]
        left, right = signatures[block[:, 0]], signatures[block[:, 1]]
        a, b = _pictures(left), _pictures(right)
        cross = rfft(a, 2 * POINTS) * rfft(b, 2 * POINTS).conj()
        peak, lag = _best_lag(cross)
        power_a, power_b = (a**2).sum(1), (b**2).sum(1)
        (a0, a1), (b0, b1) = _support(power_a), _support(power_b)
        first = np.clip(np.maximum(a0 - lag, b0), 0, POINTS)
        last = np.clip(np.minimum(a1 - lag, b1), first, POINTS)
        whole = np.sqrt(power_a.sum(1) * power_b.sum(1))
        met = np.sqrt(_between(power_a, first + lag, last + lag) * _between(power_b, first, last))
        end = start + len(block)
        comparable = left[:, -1] == right[:, -1]
        score[start:end] = comparable * np.minimum(peak / np.maximum(met, 1e-9), 1)
        share[start:end] = np.minimum(met / np.maximum(whole, 1e-9), 1)
    return score, share


def _best_lag(cross: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """cross: (P, 2, POINTS + 1), spectra of correlations -> their highest value (P,), and at which lag (P,) int64.

    A picture holds frequencies up to half its rate: between two points of lag a peak may lose a third of its height, so
    lags are searched at half points, and at sixteenths about the best.
    """
    from scipy.fft import irfft

    low, high = 2 * irfft(cross, 4 * POINTS).transpose(1, 0, 2)
    best = (high + np.abs(low)).argmax(1)  # only the waveform has a sign
    sign = np.sign(np.take_along_axis(low, best[:, None], 1))
    omega = np.pi / POINTS * np.arange(POINTS + 1)
    turned = (sign * cross[:, 0] + cross[:, 1]) * np.exp(0.5j * omega * best[:, None])
    turned[:, 1:-1] *= 2  # the negative frequencies
    offsets = np.arange(-4, 5) / 16
    peaks = (turned @ np.exp(1j * omega[:, None] * offsets).astype(np.complex64)).real / (2 * POINTS)
    lag = np.round(best / 2).astype(np.int64)
    return np.maximum(peaks.max(1), 0), np.where(lag < POINTS, lag, lag - 2 * POINTS)


def _support(power: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, POINTS) -> where the sounds begin and end, but for 0.2 % of their energy at each side."""
    sums = power.cumsum(1, dtype=np.float64)
    total = sums[:, -1:]
    return (sums < 0.002 * total).sum(1), np.minimum((sums < 0.998 * total).sum(1) + 1, POINTS)


def _spread(power: np.ndarray) -> np.ndarray:
    """(N, K) -> (N,): the K of an even row, 1 where all is in one place (the inverse participation ratio)"""
    return power.sum(1) ** 2 / np.maximum((power**2).sum(1), 1e-30)


def _between(power: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    sums = np.pad(power.cumsum(1, dtype=np.float64), ((0, 0), (1, 0)))
    rows = np.arange(len(power))
    return sums[rows, np.clip(last, 0, POINTS)] - sums[rows, np.clip(first, 0, POINTS)]


def _steps(total: int, size: int, progress: bool) -> Iterator[tuple[int, int]]:
    from tqdm import tqdm

    for start in tqdm(range(0, total, size), desc="sounds alike", disable=None if progress else True):
        yield start, min(start + size, total)


def _sorted_near(same: np.ndarray, doubtful: np.ndarray, reasons: list[str]) -> Near:
    order = np.lexsort((doubtful[:, 1], doubtful[:, 0]))
    return Near(
        same[np.lexsort((same[:, 1], same[:, 0]))].astype(np.int64),
        doubtful[order].astype(np.int64),
        tuple(reasons[k] for k in order),
    )
