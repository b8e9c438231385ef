"""A model on photographs: where it looked in each of them, by one method or several, and what the maps are worth.

Synopsis::

    study = study.ExplanationRun(loaded, [Method.INTEGRATED_GRADIENTS], Toward.DECIDED, layers=(), sample=200, seed=0)
    for finding in study.findings(pieces, batch_size=32):
        finding.probability, finding.maps[Method.INTEGRATED_GRADIENTS]      # 0.98, float32 [px, px]
    study.scores()                                                          # the content of scores.json
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

MAX_PX = 1024  # side of a photograph that is shown and met with its mask; larger ones are thinned


class Explanation(NamedTuple):
    """`piece`: thinned where it is larger than MAX_PX; `image`: uint8 [px, px, C], what the network saw of it;
    `probability`: 0..1, of cracked; `toward`: whether the maps speak for cracked; `maps`: float32 [px, px] each, 0 or
    more."""

    piece: LabelledTile
    image: np.ndarray
    probability: float
    toward: bool
    maps: dict[Method, np.ndarray]


class ExplanationRun:
    """Explains and keeps the score. `sample`: how many pictures, drawn at random from `seed`, are scored against the
    network, which takes some forty times as long as deciding them."""

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
        self._drawn = _Reservoir(sample, seed)
        self._hits = {name: _MaskScores() for name in (*[method.value for method in methods], *faithfulness.BASELINES)}

    def findings(self, pieces: Iterable[LabelledTile], batch_size: int) -> Iterator[Explanation]:
        """One for each piece, in their order."""
        card = self.loaded.card
        blank = np.zeros((batch_size, card.image_px, card.image_px, card.channels), np.uint8)
        for explainer in self.explainers.values():
            explainer(blank[:1] if explainer.method is Method.OCCLUSION else blank, np.ones(len(blank), bool))
        for some, image in _batches(pieces, batch_size, card.image_px):
            yield from self._explained(some, image, batch_size)

    def _explained(self, some: list[LabelledTile], image: np.ndarray, batch_size: int) -> Iterator[Explanation]:
        card = self.loaded.card
        # Always a whole batch: another size would trace the network anew.
        whole = np.concatenate([image, np.zeros((batch_size - len(image), *image.shape[1:]), np.uint8)])
        probability = self.loaded.probabilities(whole)[: len(some)]
        cracked = probability >= card.threshold
        toward = {Toward.DECIDED: cracked, Toward.CRACKED: cracked | True, Toward.CLEAN: cracked & False}[self.toward]
        sides = np.concatenate([toward, np.ones(len(whole) - len(some), bool)])
        maps = {}
        for method, explainer in self.explainers.items():
            start = time.perf_counter()
            only = len(some) if method is Method.OCCLUSION else len(whole)
            maps[method] = explainer(whole[:only], sides[:only])[: len(some)]
            self._seconds[method] += time.perf_counter() - start
        self.count += len(some)
        self.decided += int(cracked.sum())
        for row, piece in enumerate(some):
            found = Explanation(
                piece,
                image[row],
                float(probability[row]),
                bool(toward[row]),
                {method: of[row] for method, of in maps.items()},
            )
            self._drawn.offer(found)
            if self._is_found_crack(found):
                self._hit(found)
            yield found

    def _is_found_crack(self, found: Explanation) -> bool:
        """Whether its map can be asked to lie on its mask."""
        mask, decided = found.piece.mask, found.probability >= self.loaded.card.threshold
        return mask is not None and bool(mask.any()) and found.piece.label == 1 and decided and found.toward

    def _hit(self, found: Explanation) -> None:
        mask = found.piece.mask
        for method, one in found.maps.items():
            self._hits[method.value].add(_stretched(one, mask.shape), mask)
        shown = found.piece.pixels[None]
        for name, baseline in faithfulness.BASELINES.items():
            self._hits[name].add(baseline(shown)[0], mask)

    def scores(self) -> dict:
        """`explained`: pieces; `decided_cracked`; `with_masks`: found cracks that have masks; `scored`: pieces scored
        against the network; `methods` and `baselines`: for each of them its scores, means over those pieces, and for
        methods images_per_sec and what the same method makes of random weights."""
        drawn = self._drawn.kept
        rows = {method.value: {} for method in self.explainers}
        baselines = {name: {} for name in faithfulness.BASELINES}
        for name, row in (rows | baselines).items():
            row.update(self._hits[name].means())
        if drawn:
            image = np.stack([one.image for one in drawn])
            toward = np.array([one.toward for one in drawn])
            maps = {method.value: np.stack([one.maps[method] for one in drawn]) for method in self.explainers} | {
                name: baseline(image) for name, baseline in faithfulness.BASELINES.items()
            }
            for name, row in (rows | baselines).items():
                judged = faithfulness.deletion_insertion(self._of_class(toward), image, maps[name])
                row.update({score: float(values.mean()) for score, values in judged.items()})
            for method, row in self._random(image, toward, maps).items():
                rows[method.value]["random_weights"] = row
        for method, seconds in self._seconds.items():
            rows[method.value]["images_per_sec"] = self.count / seconds if seconds else None
        return {
            "explained": self.count,
            "decided_cracked": self.decided,
            "with_masks": next(iter(self._hits.values())).count,
            "scored": len(drawn),
            "methods": rows,
            "baselines": baselines,
        }

    def _of_class(self, toward: np.ndarray):
        """Images -> probability of the class that `toward` names for each."""

        def probabilities(image: np.ndarray) -> np.ndarray:
            parts = [self.loaded.probabilities(image[at : at + 256]) for at in range(0, len(image), 256)]
            cracked = np.concatenate(parts)
            return np.where(toward, cracked, 1 - cracked)

        return probabilities

    def _random(self, image: np.ndarray, toward: np.ndarray, maps: dict[str, np.ndarray]) -> dict[Method, dict]:
        """What each method makes of the same network with random weights: its likeness to the maps, and where there are
        masks, pointing and energy. It is asked for the class that the trained network decided for."""
        strange = reinitialize(self.loaded.model, self.seed)
        masked = [row for row, one in enumerate(self._drawn.kept) if self._is_found_crack(one)]
        rows = {}
        for method, explainer in self.explainers.items():
            other = saliency.Explainer(strange, method, [stage.name for stage in explainer.stages])
            # Where the random network looks for the class that the trained one decided for.
            theirs = np.concatenate(
                [other(image[at : at + 32], toward[at : at + 32]) for at in range(0, len(image), 32)]
            )
            rows[method] = {"likeness": faithfulness.rank_correlation(maps[method.value], theirs)}
            hits = _MaskScores()
            for row in masked:
                mask = self._drawn.kept[row].piece.mask
                hits.add(_stretched(theirs[row], mask.shape), mask)
            rows[method] |= {name: value for name, value in hits.means().items() if name in ("pointing", "energy")}
        return rows


def reinitialize(model: keras.Model, seed: int) -> keras.Model:
    """The same network with weights drawn anew from `seed`."""
    keras.utils.set_random_seed(seed % 2**32)
    with keras.saving.custom_object_scope(APPLICATION_LAYERS):
        return keras.Model.from_config(model.get_config())


class _MaskScores:
    """Scores against masks, added up."""

    def __init__(self) -> None:
        self.count = 0
        self._sums: dict[str, float] = {}
        self._overlaps = np.zeros(len(faithfulness.THRESHOLDS))

    def add(self, one: np.ndarray, mask: np.ndarray) -> None:
        for name, values in faithfulness.localization_scores(one[None], mask[None]).items():
            self._sums[name] = self._sums.get(name, 0.0) + float(values[0])
        self._overlaps += faithfulness.overlaps(one[None], mask[None])[0]
        self.count += 1

    def means(self) -> dict[str, float]:
        """pointing, exact, energy, iou and iou_threshold; nothing without masks."""
        if not self.count:
            return {}
        best = int(np.argmax(self._overlaps))
        found = {name: total / self.count for name, total in self._sums.items()}
        threshold = float(faithfulness.THRESHOLDS[best])
        return found | {"iou": float(self._overlaps[best]) / self.count, "iou_threshold": threshold}


class _Reservoir:
    """`size` of all findings offered, each equally likely: Vitter 1985, ACM Trans. Math. Softw. 11:37, algorithm R."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.kept, self._seen = size, [], 0
        self._generator = np.random.default_rng(seed)

    def offer(self, found: Explanation) -> None:
        self._seen += 1
        if len(self.kept) < self.size:
            self.kept.append(found)
        elif (place := int(self._generator.integers(self._seen))) < self.size:
            self.kept[place] = found


def _batches(pieces: Iterable[LabelledTile], size: int, px: int) -> Iterator[tuple[list[LabelledTile], np.ndarray]]:
    """Pieces, and what the network sees of them, uint8 [B, px, px, C]."""
    some, image = [], []
    for piece in pieces:
        image.append(_fitted(piece.pixels, px))
        some.append(_bounded(piece))
        if len(some) == size:
            yield some, np.stack(image)
            some, image = [], []
    if some:
        yield some, np.stack(image)


def _fitted(values: np.ndarray, px: int) -> np.ndarray:
    return values if values.shape[:2] == (px, px) else resize.resize_array(values, px)


def _bounded(piece: LabelledTile) -> LabelledTile:
    """`piece`, with every other pixel or fewer where it is larger than can be shown: a batch of photographs of 48
    megapixels and their masks, and all that is kept for the scores, would be gigabytes."""
    step = -(-max(piece.pixels.shape[:2]) // MAX_PX)
    if step == 1:
        return piece
    mask = None if piece.mask is None else piece.mask[::step, ::step].copy()
    return piece._replace(pixels=piece.pixels[::step, ::step].copy(), mask=mask)


def _stretched(one: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """float32 `shape`: the map on its piece's own pixels, linear."""
    if one.shape == shape:
        return one
    rows, columns = (_linear(size, cells) for size, cells in zip(shape, one.shape, strict=True))
    return rows @ one @ columns.T


def _linear(size: int, cells: int) -> np.ndarray:
    """float32 [size, cells]: weights of linear interpolation between the centres of `cells` equal parts of `size`."""
    grid = saliency.FeatureMap("", (cells, cells), (size / cells,) * 2, ((size / cells - 1) / 2,) * 2)
    return saliency.overlay_weights(grid, size)[0]
