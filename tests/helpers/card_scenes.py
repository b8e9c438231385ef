"""Photographs of a wall with a scale card, by a virtual pinhole camera."""

import functools
import io

import numpy as np
from PIL import Image

from crackflow.core.config.card import CardConfig
from crackflow.inference import marker_plane
from crackflow.report import card_drawing

TEXTURE_MM = 0.05  # of a texel of the wall
# Upper left corner of the marker on the texture. The PNG has whole pixels: 0.63 of a pixel of 600 dpi is cut above.
CORNER_MM = 15.0, 20.0 - 0.63 * 25.4 / 600


@functools.cache
def card_texture(marker_mm=50.0):
    """float32 [H, W], light 0..1: the A5 card at TEXTURE_MM."""
    card = Image.open(io.BytesIO(card_drawing.render(CardConfig(marker_mm=marker_mm), "png"))).convert("L")
    size = tuple(round(side * 25.4 / 600 / TEXTURE_MM) for side in card.size)
    # Pillow's BOX would give each pixel to one texel as a whole.
    levels = marker_plane.load_opencv("test").resize(np.asarray(card), size, interpolation=3)  # INTER_AREA
    return (0.03 + 0.82 / 255 * levels).astype(np.float32)  # of ink and paper; a grey level is the part without ink


def camera(angle, distance_mm, focal_px, size, aim_mm=(74.0, 105.0), azimuth=0.0):
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


def project(matrix, points):
    """float64 [N, 2]: points of the card, mm, in pixels."""
    values = np.asarray(points, float) @ matrix[:, :2].T + matrix[:, 2]
    return values[:, :2] / values[:, 2:]


def photograph(matrix, size, marker_mm=50.0, blur_px=0.7, noise=1.5, seed=0, supersampling=3):
    """uint8 [H, W, 3]: the card on a grey wall, blurred, with noise in levels."""
    opencv = marker_plane.load_opencv("test")
    card, border = card_texture(marker_mm), 20
    texture = np.pad(card, border, constant_values=np.float32(0.25))
    to_texture = np.array([[1 / TEXTURE_MM, 0, border - 0.5], [0, 1 / TEXTURE_MM, border - 0.5], [0, 0, 1]])
    many = supersampling
    to_sample = np.array([[many, 0, -0.5], [0, many, -0.5], [0, 0, 1.0]])  # pixel corners -> centres of samples
    warp = to_sample @ matrix @ np.linalg.inv(to_texture)
    light = opencv.warpPerspective(
        texture, warp, (size[0] * many, size[1] * many), flags=opencv.INTER_AREA, borderValue=0.25
    )
    light = light.reshape(size[1], many, size[0], many).mean((1, 3))
    light = opencv.GaussianBlur(light, (0, 0), blur_px)
    levels = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    levels = levels + np.random.default_rng(seed).normal(0, noise, levels.shape)
    return np.clip(levels.round(), 0, 255).astype(np.uint8)[..., None].repeat(3, 2)
