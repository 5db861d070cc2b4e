"""Files of microscopes, satellites and clinics."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def npy(values: NDArray[Any]) -> bytes:
    file = BytesIO()
    np.save(file, values)
    return file.getvalue()


def npz(**arrays: NDArray[Any]) -> bytes:
    file = BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def tiff(values: NDArray[Any], **options: Any) -> bytes:
    import tifffile

    file = BytesIO()
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def dicom(values: NDArray[Any], **tags: Any) -> bytes:
    """An uncompressed file of one frame or several, as a scanner writes it."""
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset

    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.SOPClassUID, file.SOPInstanceUID = pydicom.uid.CTImageStorage, pydicom.uid.generate_uid()
    is_colour = values.shape[-1] == 3
    shape = values.shape[:-1] if is_colour else values.shape
    file.Rows, file.Columns = shape[-2:]
    if len(shape) == 3:
        file.NumberOfFrames = shape[0]
    file.SamplesPerPixel = 3 if is_colour else 1
    file.PhotometricInterpretation = "RGB" if is_colour else "MONOCHROME2"
    if is_colour:
        file.PlanarConfiguration = 0
    bits = values.dtype.itemsize * 8
    file.BitsAllocated, file.BitsStored, file.HighBit = bits, bits, bits - 1
    file.PixelRepresentation = int(values.dtype.kind == "i")
    for name, value in tags.items():
        setattr(file, name, value)
    file.PixelData = values.tobytes()
    written = BytesIO()
    file.save_as(written, enforce_file_format=True)
    return written.getvalue()


def waves(count: int, channels: int, *, side: int = 24, seed: int = 0) -> tuple[NDArray[np.float64], list[str]]:
    """Gratings of two directions, which are the classes, in [0, 1], (N, side, side, C); channels of unequal range."""
    random, grid = np.random.default_rng(seed), np.mgrid[:side, :side] / side
    images = np.empty((count, side, side, channels))
    for number in range(count):
        turned = grid[number % 2] + 0.15 * grid[1 - number % 2] * random.uniform(-1, 1)
        wave = np.sin(2 * np.pi * (4 * turned + random.random())) / 2 + 0.5 + random.normal(0, 0.15, (side, side))
        images[number] = wave[..., None] * np.geomspace(1, 0.01, channels)
    return images.clip(0, 1), ["down" if number % 2 else "across" for number in range(count)]


def write_labels(folder: Path, files: list[Path], labels: list[str]) -> Path:
    rows = [f"{file},{label}" for file, label in zip(files, labels, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    return folder / "labels.csv"
