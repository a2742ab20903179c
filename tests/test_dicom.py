"""Generated DICOM files: they are read like other photographs, identify people, and no name leaks."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import shutil
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from conftest import ROOT, TINY, Project, make_project, run_glaucoma, run_stage
from PIL import Image
from pydicom import uid
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import convert_color_space
from small import tiny_network
from trees import CLASSES, photograph, write_labels

from glaucoma.base.errors import DataError
from glaucoma.base.files import sha256_file
from glaucoma.dataset.intake import build_index
from glaucoma.model.artifacts import save_model
from glaucoma.model.backbones import build_backbone
from glaucoma.photos import dicom
from glaucoma.photos.images import Unreadable, decode, read_header

NAMES = ("Featherstonehaugh^Ermintrude", "19470803", "MRN-7739")  # of the patient, as headers have them
SECRETS = (b"featherstonehaugh", b"ermintrude", b"19470803", b"1947-08-03", b"mrn-7739", b"o'shaughnessy", b"gallows")
OPTIONS = {"layout": "auto", "classes": CLASSES, "n_folds": 3, "held_out": 0.15, "seed": 0}


def tells(content: bytes | str) -> bool:
    """Whether a secret stands in it, in any case."""
    text = (content.encode() if isinstance(content, str) else content).lower()
    return any(secret in text for secret in SECRETS)


def header(pixels: np.ndarray, colours: str, *, syntax: str = uid.ExplicitVRLittleEndian, **more) -> FileDataset:
    """A DICOM file of an ophthalmic photograph without its pixels, with the identifying data of a clinic's file."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = syntax, uid.generate_uid()
    meta.MediaStorageSOPClassUID = uid.OphthalmicPhotography8BitImageStorage
    data = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
    data.PatientName, data.PatientBirthDate, number = NAMES
    data.PatientID, data.ReferringPhysicianName = number, "O'Shaughnessy^Bartholomew"
    data.PatientAddress, data.Modality, data.ImageLaterality = "12 Gallows Lane", "OP", "R"
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Rows, data.Columns = pixels.shape[:2]
    data.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation, data.PixelRepresentation = colours, 0
    data.BitsAllocated = data.BitsStored = 8 * pixels.dtype.itemsize
    for key, value in more.items():
        setattr(data, key, value)
    data.HighBit = data.BitsStored - 1
    return data


def written(data: FileDataset) -> bytes:
    file = io.BytesIO()
    data.save_as(file, enforce_file_format=True)
    return file.getvalue()


def plain(pixels: np.ndarray, colours: str, **more) -> bytes:
    """An uncompressed file."""
    data = header(pixels, colours, **more)
    data.PixelData = pixels.tobytes()
    data["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    return written(data)


def packed(pixels: np.ndarray, colours: str, syntax: str, **more) -> bytes:
    """A file whose frame is a JPEG or a JPEG 2000 made by Pillow."""
    file = io.BytesIO()
    if syntax in (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit):
        Image.fromarray(pixels).save(file, "JPEG", quality=95)
    else:
        lossy = {"irreversible": True, "quality_mode": "dB", "quality_layers": [45]}
        options = {} if syntax == uid.JPEG2000Lossless else lossy
        Image.fromarray(pixels).save(file, "JPEG2000", no_jp2=True, mct=pixels.ndim == 3, **options)
    data = header(pixels, colours, syntax=syntax, **more)
    data.PixelData = encapsulate([file.getvalue()])
    return written(data)


RGB = np.asarray(photograph(3, size=64))
GREEN = RGB[..., 1].copy()
GREEN[0, 0] = 255  # so that the used range is the stored range
DEEP = GREEN.astype(np.uint16)
FILES = {
    "RGB": plain(RGB, "RGB"),
    "implicit": plain(RGB, "RGB", syntax=uid.ImplicitVRLittleEndian),
    "planes": plain(
        np.moveaxis(RGB, 2, 0).copy(), "RGB", Rows=64, Columns=64, SamplesPerPixel=3, PlanarConfiguration=1
    ),
    "YBR_FULL": plain(convert_color_space(RGB, "RGB", "YBR_FULL"), "YBR_FULL"),
    "RGB of 16 bits": plain(RGB.astype(np.uint16) * 257, "RGB"),
    "MONOCHROME2": plain(GREEN, "MONOCHROME2"),
    "MONOCHROME1": plain(255 - GREEN, "MONOCHROME1"),
    "12 bits": plain(DEEP * 16, "MONOCHROME2", BitsStored=12),
    "12 of 16 bits": plain((DEEP.clip(1, 255) * 16).clip(0, 4095), "MONOCHROME2"),
    "16 bits": plain(DEEP * 257, "MONOCHROME2"),
    "16 bits, inverted": plain(65535 - DEEP * 257, "MONOCHROME1"),
    "signed": plain((DEEP * 16).astype(np.int16) - 2048, "MONOCHROME2", BitsStored=12, PixelRepresentation=1),
    "JPEG": packed(RGB, "YBR_FULL_422", uid.JPEGBaseline8Bit),
    "JPEG of grey": packed(GREEN, "MONOCHROME2", uid.JPEGBaseline8Bit),
    "JPEG 2000": packed(RGB, "YBR_RCT", uid.JPEG2000Lossless),
    "JPEG 2000, lossy": packed(RGB, "YBR_ICT", uid.JPEG2000),
    "JPEG 2000 of 16 bits": packed(DEEP * 257, "MONOCHROME2", uid.JPEG2000Lossless),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_kind_of_picture_is_read_as_the_photograph_that_it_is(kind: str, tmp_path: Path):
    (tmp_path / "1.2.840.1").write_bytes(FILES[kind])
    for source in (FILES[kind], tmp_path / "1.2.840.1"):
        assert read_header(source) == (64, 64)
        image = decode(source, max_megapixels=1)
        assert image.mode == "RGB"
        grey = "bits" in kind or "grey" in kind or kind in ("MONOCHROME1", "MONOCHROME2", "signed")
        expected = np.repeat(GREEN[..., None], 3, axis=2) if grey and "RGB" not in kind else RGB
        off = np.abs(np.asarray(image).astype(int) - expected)
        assert off.mean() < (8 if kind == "JPEG" else 2), off.mean()  # a JPEG halves the colours' resolution
        assert lossy(kind) or off.max() <= 2


def lossy(kind: str) -> bool:
    return kind.startswith("JPEG") and kind not in ("JPEG 2000", "JPEG 2000 of 16 bits")


def test_lossless_jpeg_jpeg_ls_run_lengths_and_palettes_are_read():
    """Files shipped with pydicom, if its data are complete: no library here writes them."""
    folder = Path(pydicom.__file__).parent / "data/test_files"
    for name in (
        "MR_small_RLE",
        "MR_small_jpeg_ls_lossless",
        "SC_rgb_rle",
        "examples_palette",
        "MR_small_jp2klossless",
    ):
        assert decode(folder / f"{name}.dcm", max_megapixels=1).mode == "RGB"


def test_of_several_frames_the_first_is_read():
    frames = np.stack([RGB, RGB[::-1]])
    data = header(RGB, "RGB", NumberOfFrames=2)
    data.PixelData = frames.tobytes()
    np.testing.assert_array_equal(np.asarray(decode(written(data), max_megapixels=1)), RGB)


def test_each_file_that_cannot_be_used_is_a_sentence_without_a_word_of_its_header():
    whole = FILES["RGB"]
    bomb = header(RGB, "RGB", Rows=60000, Columns=60000)
    bomb.PixelData = bytes(100)
    inner = header(RGB, "YBR_FULL_422", syntax=uid.JPEGBaseline8Bit)  # the frame's size differs from the header's
    file = io.BytesIO()
    Image.new("RGB", (640, 64)).save(file, "JPEG")
    inner.PixelData = encapsulate([file.getvalue()])
    report = header(RGB, "RGB", Modality="SR")
    del report.Rows, report.Columns
    deflated = header(RGB, "RGB", syntax=uid.DeflatedExplicitVRLittleEndian)
    deflated.PixelData = RGB.tobytes()
    volume = plain(RGB, "RGB", Modality="OPT")
    cases = [
        (whole[: len(whole) // 2], "cut short or damaged"),
        (whole[:140], "without a picture"),
        (written(bomb), "more than data.max_megapixels"),
        (written(inner), "another size than its header says"),
        (written(report), "without a picture"),
        (written(deflated), "deflated"),
        (volume, "an OCT volume, no photograph"),
        (plain(RGB, "HSV"), "colours are given in a way"),
    ]
    rng = np.random.default_rng(0)
    for place in rng.integers(132, len(FILES["JPEG"]), 200):
        for kind in ("JPEG", "JPEG 2000", "implicit"):
            content = bytearray(FILES[kind])
            content[place % len(content)] ^= 0xFF
            cases.append((bytes(content), ""))
    for content, words in cases:
        told = fault(content)
        assert words in told
        assert not tells(told)


def fault(content: bytes) -> str:
    """Why a file cannot be used; "" if it can."""
    try:
        decode(content, max_megapixels=1)
    except Unreadable as why:
        return str(why)
    return ""


@pytest.fixture
def without_pydicom(monkeypatch: pytest.MonkeyPatch):
    dicom._pydicom.cache_clear()
    monkeypatch.setitem(sys.modules, "pydicom", None)
    yield
    dicom._pydicom.cache_clear()


@pytest.mark.usefixtures("without_pydicom")
def test_where_the_extra_is_missing_the_message_says_to_install_it(tmp_path):
    with pytest.raises(Unreadable, match=r"pip install 'glaucoma\[dicom\]'"):
        decode(FILES["RGB"], max_megapixels=1)
    with pytest.raises(DataError, match=r"40 photographs in .* are DICOM files, which need pydicom") as caught:
        build_index(clinic(tmp_path), **OPTIONS)
    assert "glaucoma[dicom]" in caught.value.remedy


# A clinic's folder


def clinic(root: Path, *, people: int = 20, size: int = 64, suffix: str = ".dcm", ids=lambda n: f"MRN-7739{n:02}"):
    """Both eyes of several people, half of them in each class, every kind of file in turn; named like exports."""
    for number in range(people):
        for eye in "RL":
            condition = "normal" if number % 2 else "abnormal"
            (root / condition).mkdir(parents=True, exist_ok=True)
            pixels = np.asarray(photograph(100 * number + ord(eye), size=size, condition=condition))
            about = {"ImageLaterality": eye, "PatientID": ids(number)}
            at = number % 4
            if at == 0:
                content = plain(pixels, "RGB", **about)
            elif at == 1:
                content = packed(pixels, "YBR_FULL_422", uid.JPEGBaseline8Bit, **about)
            elif at == 2:
                content = packed(pixels, "YBR_RCT", uid.JPEG2000Lossless, **about)
            else:
                content = plain(pixels, "RGB", syntax=uid.ImplicitVRLittleEndian, **about)
            (root / condition / f"1.2.826.{7 * number % 40}.{ord(eye)}{suffix}").write_bytes(content)
    return root


def test_folds_keep_the_people_of_headers_together_under_made_up_names(tmp_path, capsys):
    root = clinic(tmp_path / "photos", suffix="")
    index, metrics = build_index(root, **OPTIONS)
    assert (metrics["images"], metrics["patients"], metrics["both_eyes"]) == (40, 20, 20)
    assert (index.groupby(["fold", "patient"])["split"].nunique() == 1).all()
    assert index["patient"].str.fullmatch(r"dicom-[0-9a-f]{12}").all()
    assert set(index["eye"]) == {"OD", "OS"}
    assert (index["width"] == 64).all()
    assert "DICOM headers tell 20 people, 20 with both eyes" in capsys.readouterr().err
    again, _ = build_index(root, **OPTIONS)
    assert again.equals(index)
    alone, _ = build_index(root, **OPTIONS, patients="none")
    assert "patient" not in alone


def test_a_table_comes_before_headers_and_one_number_for_all_tells_no_people(tmp_path, capsys):
    root = clinic(tmp_path / "photos", suffix="", ids=lambda n: "ANONYMOUS")
    index, _ = build_index(root, **OPTIONS)
    assert "patient" not in index
    assert "1 patient number for 40 images" in capsys.readouterr().err
    rows = [
        {"image": path.name, "label": path.parent.name, "patient": str(number // 2)}
        for number, path in enumerate(sorted(path for path in root.rglob("*") if path.is_file()))
    ]
    write_labels(root, rows)
    index, _ = build_index(root, **{**OPTIONS, "layout": "labels"})
    assert set(index["patient"]) == {str(number) for number in range(20)}
    assert set(index["eye"]) == {"OD", "OS"}


def test_what_is_no_photograph_is_left_out_and_burned_in_text_frames_and_telling_names_are_told(tmp_path, capsys):
    root = clinic(tmp_path / "photos")
    (root / "normal/volume.dcm").write_bytes(plain(RGB, "RGB", Modality="OPT"))
    (root / "normal/DICOMDIR").write_bytes(FILES["RGB"])
    telling = np.asarray(photograph(77, size=64))
    (root / "normal/ermintrude_2.dcm").write_bytes(plain(telling, "RGB", BurnedInAnnotation="YES"))
    many = header(RGB, "RGB", NumberOfFrames=2, PatientID="MRN-1")
    many.PixelData = np.stack([RGB, RGB]).tobytes()
    (root / "abnormal/frames.dcm").write_bytes(written(many))
    left_out = tmp_path / "left_out.csv"
    _, metrics = build_index(root, **OPTIONS, left_out=left_out)
    assert metrics["images"] == 42
    assert "normal/volume.dcm,file" in left_out.read_text()
    said = capsys.readouterr().err
    assert "1 DICOM file with several frames" in said
    assert "1 DICOM file with text burned into the picture" in said
    assert "1 DICOM file with paths that hold the patient's name" in said
    assert not tells(said)


# No name leaks


def everything(folder: Path) -> dict[str, bytes]:
    """Everything in a folder, with archives and Git objects unpacked."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        content = path.read_bytes()
        name = path.relative_to(folder).as_posix()
        found[name] = content
        if zipfile.is_zipfile(io.BytesIO(content)):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                found |= {f"{name}/{member}": archive.read(member) for member in archive.namelist()}
        elif content[:2] == b"\x1f\x8b":
            found[f"{name}/unpacked"] = gzip.decompress(content)
        elif content[:1] == b"x":
            with contextlib.suppress(zlib.error):
                found[f"{name}/unpacked"] = zlib.decompress(content)
    return found


def nobody_is_named(folder: Path, *said: str) -> None:
    told = everything(folder)
    assert told
    assert [name for name, content in told.items() if tells(content) or tells(name)] == []
    assert not any(map(tells, said))


def test_the_secrets_would_be_found(tmp_path):
    (tmp_path / "one.zip").write_bytes(b"")
    with zipfile.ZipFile(tmp_path / "one.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside", FILES["RGB"])
    (tmp_path / "object").write_bytes(zlib.compress(b"blob\0" + FILES["RGB"]))
    for name in ("one.zip/inside", "object/unpacked"):
        assert tells(everything(tmp_path)[name])


@pytest.mark.workflow
@pytest.mark.slow
def test_index_audit_pixels_explore_and_predict_read_a_clinics_files_and_name_nobody(tmp_path, monkeypatch, capfd):
    photos, home = clinic(tmp_path / "photos", size=96), tmp_path / "home"
    (photos / "normal/1.2.826.999.dcm").write_bytes(FILES["RGB"][:2000])  # damaged
    home.mkdir()
    shutil.copy(ROOT / "params.yaml", home)
    project = Project(home)
    project.set(
        {
            "data.root": str(photos),
            "data.image_size": 32,
            "data.crop": "none",
            "data.unreadable": "drop",
            "crossval.n_folds": 3,
            "crossval.held_out": 0.2,
            "crossval.folds": [0, 1],
            "audit.waive": ["shortcut"],
        }
    )
    for stage in ("index", "audit", "pixels", "explore"):
        run_stage(stage, home)
    assert len((home / "data/pixels.csv").read_text().splitlines()) == 41
    save_model(tiny_network(), home / "models/one.keras", {})
    monkeypatch.chdir(home)
    out = home / "predicted.json"
    assert run_glaucoma("predict", "models/one.keras", photos, "--format", "json", "--out", out) == 3
    told = json.loads(out.read_text())
    assert sum(row["probability"] is not None for row in told) == 40
    assert run_glaucoma("audit", photos, "--json") in (0, 4)
    nobody_is_named(home, *capfd.readouterr())


@pytest.mark.slow
def test_a_whole_run_of_dvc_on_a_clinics_files_names_nobody(tmp_path):
    """All of its outputs are searched: the cache, Git objects, models, pages, logs, DVC's own files.

    Nor do they name whose folder the photographs and the backbone's weights lie in, but where DVC has to.
    """
    theirs = tmp_path / "Wigglesworth Prudence"
    photos, weights = clinic(theirs / "photos", size=96), theirs / "lite0.keras"
    build_backbone("EfficientNetLite0", TINY["data.image_size"], "none").save(weights)
    (tmp_path / "link").symlink_to(theirs)
    project = make_project(tmp_path / "home/glaucoma")
    project.set({"data.root": str(photos), "crossval.n_folds": 2, "crossval.held_out": 0.2, "data.crop": "none"})
    project.set({"backbone.weights": str(weights), "audit.waive": ["shortcut"]})
    ran = project.dvc("repro", timeout=580)
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "Results")
    assert project.json("metrics/index.json")["patients"] == 20
    commands = [
        ("predict", "crossval", str(tmp_path / "link/photos"), "--explain", "heat", "--out", "predicted.csv"),
        ("export", "controls/fold0"),
    ]
    done = [ran, *(project.run("glaucoma", *words) for words in commands)]
    nobody_is_named(tmp_path / "home", *(text for one in done for text in (one.stdout, one.stderr)))
    told = [name for name, content in everything(project.root).items() if b"wigglesworth" in content.lower()]
    assert [name for name in told if not name.startswith((".git/", ".dvc/"))] == ["dvc.lock", "params.yaml"]
    assert not [text for one in done for text in (one.stdout, one.stderr) if "wigglesworth" in text.lower()]
    for name in ("backbone/backbone.json", "stage1.json", "controls/fold0.json", "stage3.json"):
        assert "lite0.keras" in (project / "models" / name).read_text()
        assert sha256_file(weights) in (project / "models" / name).read_text()
