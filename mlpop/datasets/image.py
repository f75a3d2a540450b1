"""Maps as pictures: 8-bit RGBA, colour map Greys (high is dark), colours scaled map by map.

The picture shows the map's first axis to the right and its second axis upwards. Its red channel
is *small* where the map is high, and the absolute level of the map is lost: only
`(map - min) / (max - min)` can be recovered, to about 1/255.

References:
    Harrower & Brewer 2003, Cartographic Journal 40, 27 (the colours of Greys).
"""

import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlpop.errors import DataError
from mlpop.io.files import write_atomically

_ANCHORS = np.array([255, 240, 217, 189, 150, 115, 82, 37, 0]) / 255.0
GREYS = np.interp(np.linspace(0, 1, 256), np.linspace(0, 1, len(_ANCHORS)), _ANCHORS)
"""(256,) brightness of the colour map Greys from the lowest to the highest level."""

_BYTES = (GREYS * 255).round().astype(np.uint8)


def to_pixels(values: NDArray) -> NDArray[np.uint8]:
    """Picture of a finite map: (n_i, n_j) to (n_j, n_i, 4) RGBA; a constant map is white."""
    low, high = float(values.min()), float(values.max())
    level = (values - low) / (high - low) if high > low else np.zeros(values.shape)
    numbers = np.minimum((level * 256).astype(int), 255)
    grey = _BYTES[numbers].T[::-1]
    return np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=-1)


def write_image(path: Path, values: NDArray) -> None:
    """Write a map as a PNG picture, whole or not at all."""
    buffer = io.BytesIO()
    Image.fromarray(to_pixels(values)).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


MOST_PIXELS = 1 << 24
"""Of the largest picture that is read: 4096 x 4096."""


def read_pixels(path: Path, mode: str) -> NDArray[np.uint8]:
    """Pixels of a picture as it lies in the file, (height, width, colours), `RGB` or `RGBA`.

    Raises:
        DataError: the file is missing or no picture.
    """
    try:
        if not path.is_file() and path.exists():
            raise OSError("is no regular file")
        with Image.open(path) as image:
            if image.width * image.height > MOST_PIXELS:
                raise OSError(
                    f"it has {image.width} x {image.height} pixels; at most {MOST_PIXELS} are read"
                )
            return np.asarray(image.convert(mode))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: cannot be read as a picture: {error}") from None


def read_red(path: Path) -> NDArray[np.float32]:
    """Red channel of a picture as it lies in the file, (height, width), in [0, 1].

    Raises:
        DataError: the file is missing or no picture.
    """
    return read_pixels(path, "RGBA")[..., 0].astype(np.float32) / np.float32(255)
