"""The fundus camera: uneven light, stray light, blur, sensor noise, tone curve and JPEG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from glaucoma.synthetic.anatomy import Camera

__all__ = ["encode_jpeg", "photograph"]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in JPEG


def photograph(scene: np.ndarray, camera: Camera, size: int, rng: np.random.Generator) -> np.ndarray:
    """Photograph a scene.

    Args:
        scene: reflectance in linear light, (k·size, k·size, 3), float32, for a whole supersampling factor k.
        camera: the settings.
        size: pixels per side of the photograph.
        rng: source of sensor noise.

    Returns:
        The photograph, (size, size, 3), uint8, sRGB.
    """
    factor = scene.shape[0] // size
    light = _illumination(camera, scene.shape[0])
    image = scene * light[..., None]
    veil = image[::4, ::4].mean(axis=(0, 1)) * np.array(
        [0.9, 1.0, 1.15], np.float32
    )  # scattered light is a little bluer
    image = image * (1 - camera.haze) + veil * camera.haze * light[..., None]
    image *= _field(camera, scene.shape[0])[..., None]
    spread = camera.blur * scene.shape[0]
    # the focus of eye and lens differs slightly between colours
    blurred = [gaussian_filter(image[..., c], spread * s, truncate=3) for c, s in enumerate((1.1, 1.0, 1.2))]
    image = np.stack(blurred, axis=-1).reshape(size, factor, size, factor, 3).mean(axis=(1, 3))

    grey = image @ LUMA
    image = grey[..., None] + camera.saturation * (image - grey[..., None])
    image *= np.array([camera.red_gain, 1.0, camera.blue_gain], np.float32)
    image = np.maximum(image, 0) * _gain(image, camera)
    image = _tone(image + _sensor_noise(image, camera, rng), camera)
    return np.rint(image * 255).astype(np.uint8)


def encode_jpeg(image: np.ndarray, bits: float) -> bytes:
    """Encode a square picture as JPEG with the quality (30–97) whose file size is nearest to the size given by `bits`.

    The file size thus depends on the drawn value, not on the picture's content. `bits` is per pixel at 448 pixels per
    side; smaller pictures have more detail per pixel, so it is scaled by the square root of the ratio.
    """
    side = len(image)
    wanted = bits * np.sqrt(448 / side) * side**2 / 8
    low, high = 30, 97
    while low < high:  # the lowest quality that reaches the size
        middle = (low + high) // 2
        low, high = (middle + 1, high) if len(_encode(image, middle)) < wanted else (low, middle)
    nearest = (_encode(image, quality) for quality in (low, max(low - 1, 30)))
    return min(nearest, key=lambda data: abs(len(data) - wanted))


def _encode(image: np.ndarray, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres' y, (side, 1), and x, (1, side), in picture widths."""
    places = (np.arange(side, dtype=np.float32) + 0.5) / side
    return places[:, None], places[None, :]


def _illumination(camera: Camera, side: int) -> np.ndarray:
    """Illumination of each pixel: cos⁴ fall-off around an axis that is usually off-centre."""
    y, x = _grid(side)
    squared = (x - camera.light_x) ** 2 + (y - camera.light_y) ** 2
    return 1 / (1 + camera.vignetting * 1.6 * squared) ** 2


def _field(camera: Camera, side: int) -> np.ndarray:
    """1 within the camera's round field, 0 outside; its edge cuts a side or a corner of some pictures."""
    if camera.field_edge < 0.85:
        return np.ones((side, side), np.float32)
    radius = 1.4
    away = 0.5 + 1.2 * (1 - camera.field_edge) - radius  # 0.50–0.68 picture widths lie between centre and edge
    y, x = _grid(side)
    centre_x, centre_y = 0.5 + away * np.cos(camera.field_angle), 0.5 + away * np.sin(camera.field_angle)
    outside = np.hypot(x - centre_x, y - centre_y) - radius
    return np.clip(0.5 - outside / 0.008, 0.004, 1).astype(np.float32)


def _gain(image: np.ndarray, camera: Camera) -> float:
    """The exposure for the drawn mean brightness, like a camera's metering; bisection on a coarse copy."""
    coarse = image[::8, ::8]
    low, high = -8.0, 8.0
    for _ in range(24):
        middle = (low + high) / 2
        mean = float((_tone(coarse * np.exp(middle), camera) @ LUMA).mean())
        low, high = (middle, high) if mean < camera.exposure else (low, middle)
    return float(np.exp(low))


def _sensor_noise(image: np.ndarray, camera: Camera, rng: np.random.Generator) -> np.ndarray:
    """Shot noise (variance proportional to the light) and read noise, slightly smoothed as by demosaicing."""
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise = gaussian_filter(noise, (0.55, 0.55, 0)) * 1.6
    return noise * np.sqrt(camera.noise**2 * image + (0.15 * camera.noise) ** 2)


def _tone(image: np.ndarray, camera: Camera) -> np.ndarray:
    """The tone curve: a shoulder that preserves highlights, then gamma; 0–1."""
    shoulder = 1.5
    exposed = (1 - np.exp(-shoulder * np.maximum(image, 0))) / (1 - np.exp(-shoulder))
    return np.minimum(exposed, 1) ** np.float32(1 / camera.gamma)
