"""Photographs of a wall with a scale card, by a virtual pinhole camera.

Synopsis::

    matrix = card_scenes.camera(angle=30, distance_mm=500, focal_px=2000, size=(2000, 1500))
    pixels = card_scenes.photograph(matrix, (2000, 1500))         # uint8 [1500, 2000, 3]
    ends = card_scenes.project(matrix, [(15, 20), (65, 20)])       # mm on the card -> pixels

Light is mixed by the blur, and levels are those of sRGB. The lens has no distortion, the card is flat and evenly lit.
"""

import functools
import io

import numpy as np
from PIL import Image

from crackflow.core.config.card import CardConfig
from crackflow.inference import marker_plane
from crackflow.report import card_drawing

TEXTURE_MM = 0.05  # of a texel of the wall
DPI_MM = 25.4 / card_drawing.PNG_DPI
# Upper left corner of the marker on the texture. The PNG has whole pixels: 0.63 of a pixel is cut off above.
CORNER_MM = card_drawing.MARGIN_MM, card_drawing.TITLE_MM - 0.63 * DPI_MM
BLACK, WHITE, WALL = 0.03, 0.85, 0.25  # light of ink, paper and wall


@functools.cache
def card_texture(marker_mm: float = 50.0) -> np.ndarray:
    """float32 [H, W], light 0..1: the A5 card at TEXTURE_MM."""
    opencv = marker_plane.load_opencv("the scene")
    card = np.asarray(Image.open(io.BytesIO(card_drawing.render(CardConfig(marker_mm=marker_mm), "png"))).convert("L"))
    size = tuple(round(side * DPI_MM / TEXTURE_MM) for side in card.shape[::-1])
    # Exact areas: Pillow's BOX gives each pixel to one texel as a whole. A grey level is the part without ink.
    levels = opencv.resize(card, size, interpolation=opencv.INTER_AREA)
    return (BLACK + (WHITE - BLACK) / 255 * levels).astype(np.float32)


def camera(
    angle: float,
    distance_mm: float,
    focal_px: float,
    size: tuple[int, int],
    aim_mm: tuple[float, float] = (74.0, 105.0),
    azimuth: float = 0.0,
) -> np.ndarray:
    """float64 [3, 3]: from mm on the card (from its upper left corner) to pixels of a photograph of `size`.

    The camera looks at `aim_mm` from `distance_mm`, `angle` degrees from straight ahead, moved towards `azimuth`.
    """
    turn, tilt = np.radians(azimuth), np.radians(angle)
    forward = np.array([-np.sin(tilt) * np.cos(turn), -np.sin(tilt) * np.sin(turn), np.cos(tilt)])
    position = np.array([*aim_mm, 0.0]) - distance_mm * forward
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    intrinsic = np.array([[focal_px, 0, size[0] / 2], [0, focal_px, size[1] / 2], [0, 0, 1.0]])
    return intrinsic @ np.column_stack([rotation[:, :2], -rotation @ position])


def project(matrix: np.ndarray, points: object) -> np.ndarray:
    """float64 [N, 2]: points of the card, [N, 2] in mm, in pixels."""
    values = np.asarray(points, float) @ matrix[:, :2].T + matrix[:, 2]
    return values[:, :2] / values[:, 2:]


def marker_corners(matrix: np.ndarray, marker_mm: float = 50.0) -> np.ndarray:
    """float64 [4, 2]: where the corners of the marker are in the photograph."""
    return project(matrix, marker_mm * np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) + CORNER_MM)


def photograph(
    matrix: np.ndarray,
    size: tuple[int, int],
    marker_mm: float = 50.0,
    blur_px: float = 0.7,
    noise: float = 1.5,
    seed: int = 0,
) -> np.ndarray:
    """uint8 [H, W, 3]: the card on a grey wall, with a Gaussian blur, and noise in levels."""
    opencv = marker_plane.load_opencv("the scene")
    border, many = 20, 3  # texels of wall around the card; samples a pixel in each direction
    texture = np.pad(card_texture(marker_mm), border, constant_values=np.float32(WALL))
    to_texture = np.array([[1 / TEXTURE_MM, 0, border - 0.5], [0, 1 / TEXTURE_MM, border - 0.5], [0, 0, 1]])
    to_sample = np.array([[many, 0, -0.5], [0, many, -0.5], [0, 0, 1.0]])  # from corners to centres
    light = opencv.warpPerspective(
        texture,
        to_sample @ matrix @ np.linalg.inv(to_texture),
        (size[0] * many, size[1] * many),
        flags=opencv.INTER_LINEAR,
        borderValue=WALL,
    )
    light = light.reshape(size[1], many, size[0], many).mean((1, 3))
    light = opencv.GaussianBlur(light, (0, 0), blur_px)
    levels = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    levels = levels + np.random.default_rng(seed).normal(0, noise, levels.shape)
    return np.clip(levels.round(), 0, 255).astype(np.uint8)[..., None].repeat(3, 2)
