"""Read DICOM files: the picture and the parts of the header that a study needs (size, eye, files of one person).

Nothing that identifies a person leaves this module: patients are distinguished by a token that is meaningless outside
the process, and messages of pydicom, which may quote the header, are not passed on.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from glaucoma.photos.images import Unreadable

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

__all__ = ["Header", "NoPhotograph", "installed", "read_frame", "read_head"]

INSTALL = "pip install 'glaucoma[dicom]'"
PACKED = {  # transfer syntaxes whose frames are files in another format
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81)), "JPEG"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{number}" for number in (90, 91)), "JPEG2000"),
}
PLAIN = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5")  # and run lengths
DEFLATED = b"1.2.840.10008.1.2.1.99"  # may unpack to any size before it can be checked
NO_PHOTOGRAPHS = {"OPT": "an OCT volume", "OCT": "an OCT volume", "SEG": "a segmentation"}  # by modality
STARTS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # markers of a JPEG's frame
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOURS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR")
PICTURE = [
    *("Modality", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation"),
    *("PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"),
    *(f"{c}PaletteColorLookupTable{part}" for c in ("Red", "Green", "Blue") for part in ("Descriptor", "Data")),
    *(f"Segmented{c}PaletteColorLookupTableData" for c in ("Red", "Green", "Blue")),
]
PERSON = ["PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate"]
EYE = ["ImageLaterality", "Laterality", "BurnedInAnnotation"]
KEY = os.urandom(32)  # for this process only: without it, a number of a few digits could be guessed from its hash


class NoPhotograph(Unreadable):
    """A DICOM file that is not meant to be a photograph, such as a report or an OCT volume."""


@dataclass(frozen=True)
class Header:
    """The data about its picture in the header of a DICOM file.

    Attributes:
        width, height: pixels.
        frames: number of frames; the first is read.
        eye: R, L or "".
        person: equal for files of one patient, within this process; "" if the header has no patient ID.
        named: whether the given path contains the patient's name, number or birth date.
        burned: whether text is burned into the pixels, according to the header.
    """

    width: int
    height: int
    frames: int = 1
    eye: str = ""
    person: str = field(default="", repr=False)
    named: bool = False
    burned: bool = False


def installed() -> bool:
    """Whether DICOM files can be read."""
    try:
        return bool(_pydicom())
    except Unreadable:
        return False


def read_head(source: Path | bytes, below: Path | None = None) -> Header:
    """Read a header without the pixels.

    Args:
        source: a DICOM file, or its bytes.
        below: a folder that contains the file. If given, the patient is read, and whether the path from there names
            them.

    Raises:
        NoPhotograph: there is no picture, or it is not a photograph.
        Unreadable: pydicom is missing, or the header is damaged.
    """
    data = _read(source, PICTURE + ([*EYE, *PERSON] if below else []))
    told = _header(data)
    if below is None or not isinstance(source, Path):
        return told
    try:
        number, issuer, name, born = (str(data.get(key) or "").strip() for key in PERSON)
        place = source.relative_to(below).as_posix().casefold()
        tells = {number.casefold(), born, *re.findall(r"[^\W\d_]{3,}", name.casefold())}
        return Header(
            told.width,
            told.height,
            told.frames,
            eye=next((side for key in EYE[:2] if (side := str(data.get(key) or "").upper()) in ("R", "L")), ""),
            person=_token(issuer, number) if number else "",
            named=any(len(word) > 2 and re.search(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", place) for word in tells),
            burned=str(data.get(EYE[2]) or "").upper() == "YES",
        )
    except Exception:  # text in an invalid encoding
        raise Unreadable("damaged header") from None


def read_frame(source: Path | bytes, fits: Callable[[int, int], None]) -> Image.Image:
    """Decode the first frame as 8-bit RGB, without applying a display window.

    More than 8 bits are scaled down from the stored range, 16 bits from the used range; MONOCHROME1 is inverted.

    Args:
        source: a DICOM file, or its bytes.
        fits: called with width and height before decoding; raises Unreadable to reject the size.

    Raises:
        Unreadable: with the reason.
    """
    data = _read(source, [*PICTURE, "PixelData"], pixels=True)
    head, colours = _header(data), str(data.get("PhotometricInterpretation"))
    fits(head.width, head.height)
    if "PixelData" not in data or data.get("BitsAllocated", 0) > 16:
        raise Unreadable("32 bits a pixel or more: no agreed way to show them in 8; save it with 8 or 16 bits")
    if colours not in GREY + COLOURS:
        raise Unreadable("its colours are given in a way that is not read here; save it as RGB")
    _look_inside(data, head)
    try:
        from pydicom.pixels import apply_color_lut, pixel_array

        levels, stored = pixel_array(data, index=0), data.BitsStored
        if colours == "PALETTE COLOR":
            levels = apply_color_lut(levels, data)[..., :3]
            stored = 8 * levels.dtype.itemsize
        levels = _in_8_bits(levels, stored)
        return Image.fromarray(255 - levels if colours == "MONOCHROME1" else levels).convert("RGB")
    except Exception as error:  # a codec raises nearly anything
        missing = isinstance(error, RuntimeError) and "missing dependencies" in str(error)
        why = f"its way of compression needs other packages: {INSTALL}" if missing else "cut short or damaged"
        raise Unreadable(why) from None


def _in_8_bits(levels: np.ndarray, stored: int) -> np.ndarray:
    if levels.dtype == np.uint8 and stored == 8:
        return levels
    least = min(0, int(levels.min()))
    bits = stored if stored < 16 else max(8, (int(levels.max()) - least).bit_length())
    most = (1 << bits) - 1
    scaled = (np.arange(1 << 16) * 255 + most // 2) // most
    return scaled.clip(0, 255).astype(np.uint8)[levels.astype(np.int32) - least]


@cache
def _pydicom() -> ModuleType:
    """Import pydicom with its messages silenced.

    Raises:
        Unreadable: it is not installed.
    """
    try:
        import pydicom
        import pydicom.config
    except ImportError:
        raise Unreadable(f"a DICOM file, which needs pydicom: {INSTALL}") from None
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    for name in ("pydicom", "pylibjpeg"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        warnings.filterwarnings("ignore", module=name)
    return pydicom


def _read(source: Path | bytes, tags: list[str], *, pixels: bool = False) -> Dataset:
    """Read only these elements of a file.

    Raises:
        Unreadable: pydicom is missing, or the file cannot be read.
    """
    library = _pydicom()
    try:
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            if DEFLATED in file.read(4096):
                raise Unreadable("a DICOM file that is deflated as a whole: save it in another transfer syntax")
            file.seek(0)
            return library.dcmread(file, specific_tags=tags, stop_before_pixels=not pixels)
    except Unreadable:
        raise
    except OSError as error:
        raise Unreadable(f"cannot be opened ({error.strerror})" if error.strerror else "damaged header") from None
    except Exception:
        raise Unreadable("damaged header") from None


def _header(data: Dataset) -> Header:
    try:
        kind = NO_PHOTOGRAPHS.get(str(data.get("Modality")))
        width, height = int(data.get("Columns") or 0), int(data.get("Rows") or 0)
        frames = int(data.get("NumberOfFrames") or 1)
    except Exception:
        raise Unreadable("damaged header") from None
    if kind or not width * height:
        raise NoPhotograph(f"a DICOM file that is {kind}, no photograph" if kind else "a DICOM file without a picture")
    return Header(width, height, frames)


def _look_inside(data: Dataset, head: Header) -> None:
    """Check the size of a compressed frame before decoding: it may differ from the header's.

    Raises:
        Unreadable: it differs, or the compression is not supported.
    """
    syntax = str(getattr(data, "file_meta", {}).get("TransferSyntaxUID", PLAIN[0]))
    if syntax in PLAIN:
        return
    if syntax not in PACKED:
        raise Unreadable("compressed in a way that is not read here: save it as JPEG, JPEG 2000 or uncompressed")
    try:
        from pydicom.encaps import get_frame

        frame = get_frame(data.PixelData, 0, number_of_frames=head.frames)
        if PACKED[syntax] == "JPEG":
            size, layers = _jpeg_size(frame)
        else:
            with Image.open(io.BytesIO(frame), formats=["JPEG2000"]) as image:
                size, layers = image.size, len(image.getbands())
    except Exception:
        raise Unreadable("cut short or damaged") from None
    if size != (head.width, head.height) or layers != data.get("SamplesPerPixel"):
        raise Unreadable("damaged: its picture is of another size than its header says")


def _jpeg_size(frame: bytes) -> tuple[tuple[int, int], int]:
    """Width and height, and the number of components, from the header of any JPEG; Pillow supports only 8 bits."""
    at = 2
    while frame[at + 1] not in STARTS:
        at += 1 if frame[at + 1] == 0xFF else 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    height, width = (int.from_bytes(frame[at + 5 + skip : at + 7 + skip], "big") for skip in (0, 2))
    return (width, height), frame[at + 9]


def _token(*words: str) -> str:
    return hashlib.blake2b("\0".join(words).encode("utf-8", "replace"), key=KEY, digest_size=16).hexdigest()
