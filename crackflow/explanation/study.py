"""Explanations of a model on photographs: heat maps of each by one or several methods, and scores of the methods.

Synopsis::

    run = study.ExplanationRun(loaded, [Method.INTEGRATED_GRADIENTS], Toward.DECIDED, layers=(), sample=200, seed=0)
    for explanation in run.findings(tiles, batch_size=32):
        explanation.probability, explanation.maps[Method.INTEGRATED_GRADIENTS]      # 0.98, float32 [px, px]
    run.scores()                                                                    # the content of scores.json
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from crackflow.core.backend import APPLICATION_LAYERS, keras
from crackflow.core.config.trained import Method, Toward
from crackflow.data import resize
from crackflow.explanation import faithfulness, saliency
from crackflow.explanation.inputs import LabelledTile
from crackflow.model.model_file import TrainedModel

MAX_PX = 1024  # side up to which a photograph is shown and compared with its mask; larger ones are subsampled


class Explanation(NamedTuple):
    """The explanation of one tile.

    Attributes:
        tile: Subsampled when it is larger than MAX_PX.
        image: uint8 [px, px, C], the input of the network.
        probability: Of cracked, 0..1.
        toward: Whether the maps explain cracked.
        maps: float32 [px, px] each, 0 or more.
    """

    tile: LabelledTile
    image: np.ndarray
    probability: float
    toward: bool
    maps: dict[Method, np.ndarray]


class ExplanationRun:
    """Explains tiles, and scores the methods.

    `sample` is the number of images, drawn at random from `seed`, that are scored against the network, which takes some
    forty times as long as classifying them.
    """

    def __init__(
        self,
        loaded: TrainedModel,
        methods: Sequence[Method],
        toward: Toward,
        layers: Sequence[str],
        sample: int,
        seed: int,
    ) -> None:
        self.loaded, self.toward, self.seed = loaded, toward, seed
        self.explainers = {method: saliency.Explainer(loaded.model, method, layers) for method in methods}
        self.count = self.decided = 0
        self._seconds = dict.fromkeys(methods, 0.0)
        self._sample = _Reservoir(sample, seed)
        self._mask_scores = {
            name: _MaskScores() for name in (*[method.value for method in methods], *faithfulness.BASELINES)
        }

    def findings(self, tiles: Iterable[LabelledTile], batch_size: int) -> Iterator[Explanation]:
        """Yields one explanation per tile, in order."""
        card = self.loaded.card
        blank = np.zeros((batch_size, card.image_px, card.image_px, card.channels), np.uint8)
        for explainer in self.explainers.values():
            explainer(blank[:1] if explainer.method is Method.OCCLUSION else blank, np.ones(len(blank), bool))
        for batch, image in _batches(tiles, batch_size, card.image_px):
            yield from self._explain_batch(batch, image, batch_size)

    def _explain_batch(self, batch: list[LabelledTile], image: np.ndarray, batch_size: int) -> Iterator[Explanation]:
        card = self.loaded.card
        # Always a full batch: another size would trace the network again.
        whole = np.concatenate([image, np.zeros((batch_size - len(image), *image.shape[1:]), np.uint8)])
        probability = self.loaded.probabilities(whole)[: len(batch)]
        cracked = probability >= card.threshold
        toward = {Toward.DECIDED: cracked, Toward.CRACKED: cracked | True, Toward.CLEAN: cracked & False}[self.toward]
        targets = np.concatenate([toward, np.ones(len(whole) - len(batch), bool)])
        maps = {}
        for method, explainer in self.explainers.items():
            start = time.perf_counter()
            count = len(batch) if method is Method.OCCLUSION else len(whole)
            maps[method] = explainer(whole[:count], targets[:count])[: len(batch)]
            self._seconds[method] += time.perf_counter() - start
        self.count += len(batch)
        self.decided += int(cracked.sum())
        for row, tile in enumerate(batch):
            explanation = Explanation(
                tile,
                image[row],
                float(probability[row]),
                bool(toward[row]),
                {method: maps_of_batch[row] for method, maps_of_batch in maps.items()},
            )
            self._sample.add(explanation)
            if self._is_detected_crack(explanation):
                self._score_against_mask(explanation)
            yield explanation

    def _is_detected_crack(self, explanation: Explanation) -> bool:
        """Whether a map can be compared with its mask: of a cracked tile, classified and explained as cracked."""
        mask, decided = explanation.tile.mask, explanation.probability >= self.loaded.card.threshold
        return mask is not None and bool(mask.any()) and explanation.tile.label == 1 and decided and explanation.toward

    def _score_against_mask(self, explanation: Explanation) -> None:
        mask = explanation.tile.mask
        for method, heatmap in explanation.maps.items():
            self._mask_scores[method.value].add(_resize_map(heatmap, mask.shape), mask)
        pixels = explanation.tile.pixels[None]
        for name, baseline in faithfulness.BASELINES.items():
            self._mask_scores[name].add(baseline(pixels)[0], mask)

    def scores(self) -> dict:
        """The content of scores.json.

        Returns:
            explained: number of tiles; decided_cracked: of these, classified as cracked; with_masks: detected cracks
            that have masks; scored: number of tiles scored against the network; methods and baselines: scores by name,
            means over those tiles, and for methods images_per_sec and the scores of the same method on random weights.
        """
        sample = self._sample.items
        rows = {method.value: {} for method in self.explainers}
        baselines = {name: {} for name in faithfulness.BASELINES}
        for name, row in (rows | baselines).items():
            row.update(self._mask_scores[name].means())
        if sample:
            image = np.stack([explanation.image for explanation in sample])
            toward = np.array([explanation.toward for explanation in sample])
            maps = {
                method.value: np.stack([explanation.maps[method] for explanation in sample])
                for method in self.explainers
            } | {name: baseline(image) for name, baseline in faithfulness.BASELINES.items()}
            for name, row in (rows | baselines).items():
                scores = faithfulness.deletion_insertion(self._class_probabilities(toward), image, maps[name])
                row.update({score: float(values.mean()) for score, values in scores.items()})
            for method, row in self._compare_with_random_weights(image, toward, maps).items():
                rows[method.value]["random_weights"] = row
        for method, seconds in self._seconds.items():
            rows[method.value]["images_per_sec"] = self.count / seconds if seconds else None
        return {
            "explained": self.count,
            "decided_cracked": self.decided,
            "with_masks": next(iter(self._mask_scores.values())).count,
            "scored": len(sample),
            "methods": rows,
            "baselines": baselines,
        }

    def _class_probabilities(self, toward: np.ndarray):
        """A function from images to the probability of the class that `toward` names for each."""

        def probabilities(image: np.ndarray) -> np.ndarray:
            parts = [self.loaded.probabilities(image[at : at + 256]) for at in range(0, len(image), 256)]
            cracked = np.concatenate(parts)
            return np.where(toward, cracked, 1 - cracked)

        return probabilities

    def _compare_with_random_weights(
        self, image: np.ndarray, toward: np.ndarray, maps: dict[str, np.ndarray]
    ) -> dict[Method, dict]:
        """Scores of each method on the same network with random weights: likeness to the maps, and where there are
        masks, pointing and energy. The class is the one that was explained for the trained network."""
        random_model = reinitialize(self.loaded.model, self.seed)
        masked = [row for row, explanation in enumerate(self._sample.items) if self._is_detected_crack(explanation)]
        rows = {}
        for method, explainer in self.explainers.items():
            random_explainer = saliency.Explainer(random_model, method, [stage.name for stage in explainer.stages])
            random_maps = np.concatenate(
                [random_explainer(image[at : at + 32], toward[at : at + 32]) for at in range(0, len(image), 32)]
            )
            rows[method] = {"likeness": faithfulness.rank_correlation(maps[method.value], random_maps)}
            mask_scores = _MaskScores()
            for row in masked:
                mask = self._sample.items[row].tile.mask
                mask_scores.add(_resize_map(random_maps[row], mask.shape), mask)
            rows[method] |= {
                name: value for name, value in mask_scores.means().items() if name in ("pointing", "energy")
            }
        return rows


def reinitialize(model: keras.Model, seed: int) -> keras.Model:
    """The same network with new random weights, drawn from `seed`."""
    keras.utils.set_random_seed(seed % 2**32)
    with keras.saving.custom_object_scope(APPLICATION_LAYERS):
        return keras.Model.from_config(model.get_config())


class _MaskScores:
    """Sums of scores against masks."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, float] = {}
        self._overlaps = np.zeros(len(faithfulness.THRESHOLDS))

    def add(self, heatmap: np.ndarray, mask: np.ndarray) -> None:
        for name, values in faithfulness.localization_scores(heatmap[None], mask[None]).items():
            self._sums[name] = self._sums.get(name, 0.0) + float(values[0])
        self._overlaps += faithfulness.overlaps(heatmap[None], mask[None])[0]
        self.count += 1

    def means(self) -> dict[str, float]:
        """Means of pointing, exact, energy, iou and iou_threshold; {} without masks."""
        if not self.count:
            return {}
        best = int(np.argmax(self._overlaps))
        means = {name: total / self.count for name, total in self._sums.items()}
        threshold = float(faithfulness.THRESHOLDS[best])
        return means | {"iou": float(self._overlaps[best]) / self.count, "iou_threshold": threshold}


class _Reservoir:
    """A sample of `size` of all items added, each equally likely: Vitter 1985, ACM Trans. Math. Softw. 11:37,
    algorithm R."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.items, self._seen = size, [], 0
        self._generator = np.random.default_rng(seed)

    def add(self, item: Explanation) -> None:
        self._seen += 1
        if len(self.items) < self.size:
            self.items.append(item)
        elif (index := int(self._generator.integers(self._seen))) < self.size:
            self.items[index] = item


def _batches(
    tiles: Iterable[LabelledTile], size: int, image_px: int
) -> Iterator[tuple[list[LabelledTile], np.ndarray]]:
    """Tiles, and the inputs of the network, uint8 [B, px, px, C]."""
    batch, image = [], []
    for tile in tiles:
        image.append(_resize_image(tile.pixels, image_px))
        batch.append(_subsample(tile))
        if len(batch) == size:
            yield batch, np.stack(image)
            batch, image = [], []
    if batch:
        yield batch, np.stack(image)


def _resize_image(values: np.ndarray, image_px: int) -> np.ndarray:
    return values if values.shape[:2] == (image_px, image_px) else resize.resize_array(values, image_px)


def _subsample(tile: LabelledTile) -> LabelledTile:
    """`tile`, subsampled when it is larger than MAX_PX: a batch of photographs of 48 megapixels and their masks, and
    the sample for the scores, would be gigabytes."""
    step = -(-max(tile.pixels.shape[:2]) // MAX_PX)
    if step == 1:
        return tile
    mask = None if tile.mask is None else tile.mask[::step, ::step].copy()
    return tile._replace(pixels=tile.pixels[::step, ::step].copy(), mask=mask)


def _resize_map(heatmap: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """float32 `shape`: the map on the pixels of its tile, interpolated linearly."""
    if heatmap.shape == shape:
        return heatmap
    rows, columns = (_interpolation_weights(size, cells) for size, cells in zip(shape, heatmap.shape, strict=True))
    return rows @ heatmap @ columns.T


def _interpolation_weights(size: int, cells: int) -> np.ndarray:
    """float32 [size, cells]: weights of linear interpolation between the centres of `cells` equal parts of `size`."""
    grid = saliency.FeatureMap("", (cells, cells), (size / cells,) * 2, ((size / cells - 1) / 2,) * 2)
    return saliency.overlay_weights(grid, size)[0]
