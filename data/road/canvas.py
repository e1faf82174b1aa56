"""Noise and random colors, float32."""

from functools import lru_cache

import cv2
import numpy as np

WIDTH, HEIGHT = 1280, 720  # TuSimple's images, px
NOISE_SIDE = 1024  # px


@lru_cache
def noise_tile(exponent):
    """Periodic (NOISE_SIDE, NOISE_SIDE) noise, mean 0, deviation 1, of amplitude 1 / frequency ** exponent."""
    spectrum = np.fft.rfft2(np.random.default_rng(NOISE_SIDE).standard_normal((NOISE_SIDE, NOISE_SIDE)))
    frequency = np.hypot(np.fft.fftfreq(NOISE_SIDE)[:, None], np.fft.rfftfreq(NOISE_SIDE)[None])
    frequency[0, 0] = np.inf
    tile = np.fft.irfft2(spectrum * frequency**-exponent, (NOISE_SIDE, NOISE_SIDE))
    return (tile / tile.std()).astype(np.float32)


def random_noise(rng, exponent, x, y):
    """Noise tile sampled at maps of tile pixels, which broadcast, shifted at random."""
    shift = rng.integers(0, NOISE_SIDE, 2)
    x, y = np.broadcast_arrays(np.float32(x + shift[0]), np.float32(y + shift[1]))
    return cv2.remap(noise_tile(exponent), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)


def random_color(rng, low, high):
    """Random color between two, one fraction for all channels, so that the hue stays."""
    return np.float32(low) + np.float32(rng.random()) * (np.float32(high) - np.float32(low))
