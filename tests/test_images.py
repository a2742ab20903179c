import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps
from trees import bomb, jpeg, photograph

from glaucoma.photos.images import SUFFIXES, Unreadable, decode, decode_for, read_header, to_pixels

SIZE = (60, 40)  # width, height
RED, GREY = (200, 30, 40), 100


def saved(image, suffix=".png", **options):
    file = io.BytesIO()
    image.save(file, Image.registered_extensions()[suffix], **options)
    return file.getvalue()


def colour(content):
    image = decode(content, max_megapixels=1)
    assert image.mode == "RGB"
    return image.getpixel((5, 5))


@pytest.mark.parametrize("suffix", [*sorted(SUFFIXES), ".JPG", ".WebP"])
def test_every_suffix_decodes_to_rgb_in_either_case(suffix, tmp_path):
    path = tmp_path / f"eye{suffix}"
    photograph(1).save(path)
    image = decode(path, max_megapixels=1)
    assert (image.mode, image.size) == ("RGB", (48, 48))
    assert np.abs(np.asarray(image).astype(int) - np.asarray(photograph(1))).mean() < 8


@pytest.mark.parametrize(
    ("image", "suffix", "expected"),
    [
        (Image.new("L", SIZE, GREY), ".png", (GREY,) * 3),
        (Image.new("1", SIZE, 1), ".png", (255,) * 3),
        (Image.new("RGB", SIZE, RED).quantize(), ".png", RED),
        (Image.new("LA", SIZE, (200, 51)), ".png", (40,) * 3),
        (Image.new("RGBA", SIZE, (200, 100, 50, 51)), ".png", (40, 20, 10)),
        (Image.new("RGBA", SIZE, (200, 100, 50, 0)), ".webp", (0, 0, 0)),
        (Image.new("CMYK", SIZE, (0, 255, 255, 0)), ".tif", (255, 0, 0)),
    ],
    ids=["grey", "1-bit", "palette", "grey-alpha", "half-transparent", "transparent", "cmyk"],
)
def test_every_colour_mode_becomes_rgb_on_black(image, suffix, expected):
    assert colour(saved(image, suffix, **({"lossless": True} if suffix == ".webp" else {}))) == expected


def test_a_cmyk_jpeg_keeps_its_colours():
    red, green, blue = colour(saved(Image.new("CMYK", SIZE, (0, 255, 255, 0)), ".jpg"))
    assert red > 240
    assert max(green, blue) < 15


def test_a_transparent_palette_colour_becomes_black():
    image = Image.new("RGB", SIZE, RED).quantize()
    assert colour(saved(image, transparency=image.getpixel((0, 0)))) == (0, 0, 0)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_scaled_and_not_clipped(suffix):
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16)[None].repeat(40, axis=0)
    image = decode(saved(Image.fromarray(ramp), suffix), max_megapixels=1)
    assert np.array_equal(np.asarray(image)[0, :, 0], np.arange(256))


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_fewer_bits_stored_in_16_are_scaled_by_their_own_range(bits):
    grey = np.asarray(photograph(3).convert("L"))
    image = decode(saved(Image.fromarray(grey.astype(np.uint16) << (bits - 8)), ".png"), max_megapixels=1)
    assert np.abs(np.asarray(image)[..., 0].astype(int) - grey).max() <= 1


def deep_png(levels):
    """16 bits a colour, which Pillow reads but does not write."""
    height, width, _ = levels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_16_bit_colours_are_scaled_and_refused_where_little_is_left_of_them():
    levels = np.asarray(photograph(3)).astype(np.uint16)
    for shift in (8, 7):
        image = decode(deep_png(levels << shift), max_megapixels=1)
        assert np.abs(np.asarray(image).astype(int) - levels).max() <= 2
    with pytest.raises(Unreadable, match="lower 12 of its 16 bits"):
        decode(deep_png(levels << 4), max_megapixels=1)


def test_32_bit_pixels_are_refused_because_their_range_is_unknown():
    with pytest.raises(Unreadable, match="32 bits"):
        decode(saved(Image.fromarray(np.zeros((40, 40), np.float32)), ".tif"), max_megapixels=1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
def test_exif_orientation_is_honoured_in_the_picture_and_in_its_size(suffix, orientation):
    stored = photograph(3).crop((0, 0, 48, 36))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.getexif()[0x0112] = orientation
    upright = ImageOps.exif_transpose(stored)
    content = saved(photograph(3).crop((0, 0, 48, 36)), suffix, exif=exif)
    image = decode(content, max_megapixels=1)
    assert read_header(content) == image.size == upright.size
    assert np.abs(np.asarray(image).astype(int) - np.asarray(upright)).mean() < 8


@pytest.mark.parametrize("suffix", [".webp", ".tif", ".png"])
def test_of_several_frames_the_first_counts(suffix):
    frames = [Image.new("RGB", SIZE, (level, level, level)) for level in (200, 0)]
    options = {"lossless": True} if suffix == ".webp" else {}
    content = saved(frames[0], suffix, save_all=True, append_images=frames[1:], **options)
    assert colour(content) == (200, 200, 200)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"Dear colleague,\nplease find attached", "no image: its bytes are of no format"),
        (jpeg(1, size=200)[:2000], "cut short or damaged"),
        (jpeg(1)[:10], "no image|damaged header"),
        (saved(photograph(1))[:1500], "cut short or damaged"),
        (saved(photograph(1), ".tif")[:300], "cut short or damaged|no image|damaged header"),
        (saved(Image.new("RGB", (1, 1))), r"1 × 1 pixels: too small to be a photograph"),
        (saved(Image.new("RGB", (400, 31))), r"400 × 31 pixels: too small"),
        (bomb(20_000, 20_000), r"20000 × 20000 pixels \(400 megapixels\): more than data.max_megapixels, 100"),
    ],
    ids=["empty", "text", "cut", "cut-header", "cut-png", "cut-tiff", "one-pixel", "sliver", "bomb"],
)
def test_what_is_no_photograph_is_refused_with_its_fault(content, reason, tmp_path):
    path = tmp_path / "eye.jpg"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(Unreadable, match=reason):
            decode(source, max_megapixels=100)


def test_a_damaged_png_is_a_verdict_and_no_traceback():
    content = bytearray(saved(photograph(1)))
    content[80:90] = b"\0" * 10
    with pytest.raises(Unreadable, match="damaged"):
        decode(bytes(content), max_megapixels=1)


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(Unreadable, match=r"cannot be opened \(No such file"):
        read_header(tmp_path / "gone.jpg")


def test_the_limit_of_megapixels_is_the_users(tmp_path):
    content = saved(photograph(1, size=200))
    with pytest.raises(Unreadable, match=r"max_megapixels, 0\.03"):
        decode(content, max_megapixels=0.03)
    assert decode(content, max_megapixels=0.04).size == (200, 200)


def test_pixels_are_squashed_to_a_square():
    wide = Image.new("RGB", (200, 100), RED)
    wide.paste((0, 0, 255), (100, 0, 200, 100))
    pixels = to_pixels(decode_for(saved(wide), 32, max_megapixels=1), 32)
    assert (pixels.shape, pixels.dtype) == ((32, 32, 3), np.uint8)
    assert tuple(pixels[0, 0]) == RED
    assert tuple(pixels[31, 31]) == (0, 0, 255)


def test_decoding_a_large_jpeg_at_a_fraction_changes_next_to_nothing():
    content = jpeg(5, size=1024, quality=90)
    quick = to_pixels(decode_for(content, 96, max_megapixels=100), 96).astype(int)
    full = decode(content, max_megapixels=100).resize((96, 96), Image.Resampling.LANCZOS)
    assert decode(content, max_megapixels=100, at_least=192).size == (256, 256)
    assert np.abs(quick - np.asarray(full)).max() <= 6


@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_a_jpeg_cut_short_is_found_at_whatever_scale_it_is_decoded(share):
    content = jpeg(5, size=512, quality=90)
    for at_least in (0, 32):
        decode(content, max_megapixels=1, at_least=at_least)
        with pytest.raises(Unreadable, match="cut short"):
            decode(content[: int(share * len(content))], max_megapixels=1, at_least=at_least)
