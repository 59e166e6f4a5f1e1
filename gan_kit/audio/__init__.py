"""Sound: spectra, and networks of waveforms. They meet losses and trainers in conf/, never by import."""

from __future__ import annotations

from gan_kit.lazy import lazy_names

# Where each public name lives, imported at first use.
__getattr__, __all__ = lazy_names(
    __name__,
    {
        "spectral": "LogMel Spectrogram check_sound griffin_lim istft log_mel mel_filterbank mel_to_magnitude stft",
        "discriminators": "PeriodDiscriminator ResolutionDiscriminator ScaleDiscriminator VocoderDiscriminator",
        "losses": "Distance STFTDistance",
        "snake": "AntiAliased Snake",
        "streaming": "Stream vocode",
        "vocoder": "HiFiGAN hifigan",
        "vocos": "Vocos",
        "wavegan": "WaveGANDiscriminator WaveGANGenerator phase_shuffle",
    },
)
