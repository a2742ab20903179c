"""One photograph: its size from the header, its pixels as 8-bit RGB, or one sentence on why it cannot be read.

DICOM files are read by glaucoma.photos.dicom, which needs an extra; all others by Pillow.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

__all__ = [
    "DICOM",
    "SMALLEST_SIDE",
    "SUFFIXES",
    "Unreadable",
    "decode",
    "decode_for",
    "is_dicom",
    "quantisation",
    "read_header",
    "to_pixels",
]

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".webp"})
DICOM = frozenset({".dcm", ".dicom"})  # and names without a suffix, or with one of digits
SMALLEST_SIDE = 32  # pixels; anything smaller is an icon or a placeholder, no photograph

KEPT = 63  # grey levels that have to be left of a 16-bit colour
FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF")  # by content; keeps Pillow's rarer parsers out
ORIENTATION = 0x0112  # Exif tag
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height

# Pillow's own bomb check has a fixed limit; `max_megapixels` is checked instead, from the header
Image.MAX_IMAGE_PIXELS = None


class Unreadable(Exception):  # noqa: N818 - it is a verdict on a file, which callers collect
    """Why a file cannot be used as a photograph: one short sentence without the file's name."""


def is_dicom(source: Path | bytes) -> bool:
    """Whether a file, or its bytes, begin as DICOM does; also False where it cannot be opened."""
    try:
        if isinstance(source, bytes):
            return source[128:132] == b"DICM"
        if not source.is_file():  # to open a pipe is to wait for a writer
            return False
        with source.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_header(source: Path | bytes) -> tuple[int, int]:
    """Width and height in pixels as a viewer shows them (after Exif orientation), without decoding pixels.

    Raises:
        Unreadable: no header of a known format.
    """
    if is_dicom(source):
        from glaucoma.photos.dicom import read_head

        head = read_head(source)
        return head.width, head.height
    with _open(source) as image:
        return _size(image)


def quantisation(source: Path | bytes) -> list[int] | None:
    """The 64 luminance divisors of a JPEG, from its header, in any order; None for other formats.

    Raises:
        Unreadable: no header of a known format.
    """
    if is_dicom(source):
        return None
    with _open(source) as image:
        tables = getattr(image, "quantization", None)
        return list(tables[min(tables)]) if tables else None


def decode(source: Path | bytes, *, max_megapixels: float, at_least: int = 0) -> Image.Image:
    """Decode a photograph, upright, as RGB.

    The first frame counts where there are several; what is transparent becomes black; grey of 9 to 16 bits is scaled
    to 8 bits from the bits that it uses: a camera's 12 bits are often stored in 16.

    Args:
        source: a file, or its bytes.
        max_megapixels: larger images are refused before they are decoded.
        at_least: where > 0, a JPEG may be decoded at a half, a quarter or an eighth of its size, which is faster, as
            long as both sides stay at least this long (pixels).

    Raises:
        Unreadable: why it cannot be used.
    """

    def fits(width: int, height: int) -> None:
        if width * height > max_megapixels * 1e6:
            size = f"{width} × {height} pixels ({width * height / 1e6:.0f} megapixels)"
            raise Unreadable(f"{size}: more than data.max_megapixels, {max_megapixels:g}")
        if min(width, height) < SMALLEST_SIDE:
            raise Unreadable(f"{width} × {height} pixels: too small to be a photograph (under {SMALLEST_SIDE} a side)")

    if is_dicom(source):
        from glaucoma.photos.dicom import read_frame

        return read_frame(source, fits)
    with _open(source) as image:
        fits(*_size(image))
        if at_least:
            image.draft(None, (at_least, at_least))
        deep = any("RGB;16" in str(tile) for tile in image.tile)
        try:
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image), deep=deep)
        except Unreadable:
            raise
        # A damaged file can make a codec raise nearly anything, SyntaxError and struct.error included
        except Exception as error:
            raise Unreadable(f"cut short or damaged ({error})") from error


def to_pixels(image: Image.Image, size: int) -> np.ndarray:
    """Squash an RGB image to a square.

    Returns:
        uint8, (size, size, 3), 0–255, RGB; antialiased (Lanczos).
    """
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def decode_for(source: Path | bytes, size: int, *, max_megapixels: float) -> Image.Image:
    """Decode what of a photograph it takes to squash it to `size` pixels a side; of a large JPEG a smaller copy.

    Raises:
        Unreadable: why it cannot be used.
    """
    # Twice the target is nearly all the Lanczos filter can tell apart: against full decoding, ACRIMA at 224 px differs
    # by at most 9 grey levels in any pixel and 0.5 in an image's mean; at 96 px, in 40 % of the time, by 23 and 1.0
    return decode(source, max_megapixels=max_megapixels, at_least=2 * size)


def _open(source: Path | bytes) -> Image.Image:
    try:
        if isinstance(source, Path) and source.exists() and not source.is_file() and not source.is_dir():
            raise Unreadable("a pipe, socket or device, no file")
        if not (source if isinstance(source, bytes) else source.stat().st_size):
            raise Unreadable("empty (0 bytes)")
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except Unreadable:
        raise
    except UnidentifiedImageError:
        known = "JPEG, PNG, TIFF, BMP, WebP, DICOM"
        raise Unreadable(f"no image: its bytes are of no format known here ({known})") from None
    except Exception as error:  # a parser's own errors, as in `decode`, or the file system's
        if isinstance(error, OSError) and error.errno:
            raise Unreadable(f"cannot be opened ({error.strerror})") from error
        raise Unreadable(f"damaged header ({error})") from error


def _size(image: Image.Image) -> tuple[int, int]:
    """Upright width and height. Pillow swaps a TIFF's by itself, and would decode a PNG to look for late Exif data."""
    width, height = image.size
    if image.format == "TIFF":
        return width, height
    try:
        orientation = Image.Image.getexif(image).get(ORIENTATION)
    except Exception:  # damaged Exif data: the picture itself may be whole
        orientation = None
    return (height, width) if orientation in SIDEWAYS else (width, height)


def _to_rgb(image: Image.Image, *, deep: bool) -> Image.Image:
    """As 8-bit RGB; of `deep` images Pillow has kept the upper 8 of 16 bits a colour."""
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint32)
        most = (1 << max(8, int(grey.max()).bit_length())) - 1
        image = Image.fromarray(((grey * 255 + most // 2) // most).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise Unreadable("32 bits a pixel: no agreed way to show them in 8; save it with 8 or 16 bits")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    image = image.convert("RGB")
    if deep:
        most = (1 << int(np.asarray(image).max()).bit_length()) - 1
        if most < KEPT:
            bits = f"only the lower {8 + most.bit_length()} of its 16 bits a colour are used"
            raise Unreadable(f"{bits}, and Pillow keeps the upper 8; save it with 8 bits a colour")
        image = image.point([round(level * 255 / most) if level <= most else 255 for level in range(256)] * 3)
    return image
