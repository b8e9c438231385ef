"""Show where a trained model looks, and how faithful its heat maps are.

  python -m crackflow.explain --model=runs/metu --images=photos --out=why
  python -m crackflow.explain --model=runs/metu --images=deepcrack/images --masks=deepcrack/masks --patch_px=128 \\
    --method=integrated_gradients,grad_cam,layer_cam --out=why

Leaves in the folder: report.html; overlays/ and explanations.csv, one row per image; contact_sheet.png; filters/ of the
first layer and of the stages, or of --layers; activations/ of one image; scores.json: how well the maps explain the
model and, with masks, how well they hit the cracks. Photographs that cannot be read are listed in rejected.csv.
"""

import collections
import os

import numpy as np

from crackflow.core import atomic, callable_module, console, csv_files, flags, runtime, system_files
from crackflow.core.backend import keras
from crackflow.core.config.trained import ExplainConfig
from crackflow.core.errors import UserError
from crackflow.data import overlays
from crackflow.explanation import inputs, saliency
from crackflow.explanation.study import Explanation, ExplanationRun
from crackflow.model import model_file
from crackflow.report import run_page
from crackflow.training import run_folder

SCORES = "scores.json"
COLUMNS = ("path", "probability", "decided", "explained", "overlay")
OWNED_FILES = ("explanations.csv", "rejected.csv", "contact_sheet.png", run_folder.REPORT)
OWNED_FILES += ("overlays/*.png", "filters/*.png", "activations/*.png")
SHEET_ROWS = 24  # of the contact sheet: the first images of each decision, half of each when there are enough
SHEET_PX = 160  # side of an image in the contact sheet


def run(config: ExplainConfig) -> dict:
    """Explains every photograph, and writes the results.

    Args:
        config: Of the command.

    Returns:
        The content of scores.json.

    Raises:
        UserError: A flag is wrong, or no photograph can be used.
    """
    runtime.configure(config.seed, config.threads, deterministic=False)
    loaded = model_file.load(config.model)
    explanation_run = _create_run(config, loaded)
    passed_over: collections.Counter = collections.Counter()
    files, rejected = inputs.list_images(config.images, config.masks, config.out, passed_over)
    with atomic.folder(config.out, SCORES, config.overwrite, OWNED_FILES) as stage:
        explanations = _explain_images(config, explanation_run, files, rejected, stage)
        layers = _save_layer_images(config, loaded.model, explanations, stage)
        csv_files.save(os.path.join(stage, "rejected.csv"), ("path", "reason"), rejected)
        content = _scores_content(config, loaded, explanation_run)
        atomic.save_json(stage, SCORES, content)
        run_page.write(_report(config, loaded, content, explanations, layers), os.path.join(stage, run_folder.REPORT))
    for line in _format_summary(content, rejected):
        console.info(line)
    if passed_over:
        console.info(system_files.summary(passed_over))
    console.info(
        f"overlays {os.path.join(config.out, 'overlays')}, report {os.path.join(config.out, run_folder.REPORT)}"
    )
    return content


def _create_run(config: ExplainConfig, loaded: model_file.TrainedModel) -> ExplanationRun:
    layer_names = {layer.name for layer in loaded.model.layers}
    unknown = [name for name in config.layers if name not in layer_names]
    stage_names = [stage.name for stage in saliency.feature_maps(loaded.model)]
    if unknown:
        raise UserError(
            f"--layers: expected layers of {loaded.card.network}, whose stages are {', '.join(stage_names)}; "
            f"received {', '.join(unknown)}"
        )
    stages = [name for name in config.layers if name in stage_names]
    return ExplanationRun(loaded, config.method, config.toward, stages, config.sample, config.seed)


def _explain_images(config, explanation_run, files, rejected, stage) -> list[Explanation]:
    """Writes the overlays, the table and the contact sheet; returns the explanations in the contact sheet."""
    os.makedirs(os.path.join(stage, "overlays"))
    by_decision, rows, classes = {True: [], False: []}, [], explanation_run.loaded.card.classes
    reading = config.patch_px, config.min_crack_fraction, config.max_megapixels, rejected
    with console.progress_bar(len(files), "explaining") as advance:
        tiles = inputs.iter_tiles(_report_progress(files, advance), explanation_run.loaded.card.channels, *reading)
        for number, explanation in enumerate(explanation_run.findings(tiles, config.batch_size), start=1):
            file = f"overlays/{number:06d}.png"
            with open(os.path.join(stage, file), "wb") as opened:
                opened.write(
                    overlays.as_png(overlays.overlay(explanation.tile.pixels, explanation.maps[config.method[0]]))
                )
            decided = explanation.probability >= explanation_run.loaded.card.threshold
            names = classes[decided], classes[explanation.toward]
            rows.append((explanation.tile.name, f"{explanation.probability:.6f}", *names, file))
            if len(by_decision[decided]) < SHEET_ROWS:
                by_decision[decided].append(explanation)
    if not rows:
        raise UserError(
            f"--images: expected photographs, none of {len(files):,} files can be used; the first: "
            + (": ".join(rejected[0]) if rejected else "no part of it is clearly cracked or clean")
        )
    csv_files.save(os.path.join(stage, "explanations.csv"), COLUMNS, rows)
    clean_count = min(len(by_decision[False]), SHEET_ROWS // 2)
    cracked = by_decision[True][: SHEET_ROWS - clean_count]
    sheet_explanations = cracked + by_decision[False][: SHEET_ROWS - len(cracked)]
    grid = [_sheet_row(explanation, bool(config.masks), config.method) for explanation in sheet_explanations]
    with open(os.path.join(stage, "contact_sheet.png"), "wb") as opened:
        opened.write(overlays.as_png(overlays.sheet(grid, SHEET_PX, _sheet_columns(config))))
    return sheet_explanations


def _report_progress(files, advance):
    for file in files:
        yield file
        advance(1)


def _sheet_row(explanation: Explanation, with_mask: bool, methods) -> list[np.ndarray]:
    pixels = explanation.tile.pixels
    mask = [(explanation.tile.mask[..., None] * 255).astype(np.uint8)] if with_mask else []
    return [pixels, *mask, *(overlays.overlay(pixels, explanation.maps[method]) for method in methods)]


def _save_layer_images(
    config, model: keras.Model, explanations: list[Explanation], stage: str
) -> list[tuple[str, bytes]]:
    """Writes filters/*.png and activations/*.png of the first layer and every stage, or of --layers; returns (caption,
    PNG) of each."""
    layer_images = []
    convolutions = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    stage_names = [stage_map.name for stage_map in saliency.feature_maps(model)]
    layers = config.layers or (next(name for name in convolutions if model.get_layer(name).trainable), *stage_names)
    for name in ("filters", "activations"):
        os.makedirs(os.path.join(stage, name))
    for name in layers:
        layer = model.get_layer(name)
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel.shape.rank == 4:
            layer_images.append((f"filters of {name}", overlays.as_png(overlays.filters(layer.kernel.numpy()))))
            _save_png(stage, "filters", name, layer_images[-1][1])
        if isinstance(layer.output_shape, tuple) and len(layer.output_shape) == 4:
            maps = keras.Model(model.inputs, layer.output)(explanations[0].image[None], training=False)
            drawn = overlays.activations(np.asarray(maps, np.float32)[0])
            layer_images.append((f"what {name} makes of {explanations[0].tile.name}", overlays.as_png(drawn)))
            _save_png(stage, "activations", name, layer_images[-1][1])
    return layer_images


def _save_png(stage: str, kind: str, name: str, data: bytes) -> None:
    with open(os.path.join(stage, kind, f"{name.replace('/', '_')}.png"), "wb") as opened:
        opened.write(data)


def _report(config, loaded, content, explanations, layers) -> run_page.Report:
    card, names = loaded.card, ", ".join(method.value.replace("_", " ") for method in config.method)
    pictures = []
    for explanation in explanations:
        row = overlays.sheet([_sheet_row(explanation, bool(config.masks), config.method)], SHEET_PX)
        decided = card.classes[explanation.probability >= card.threshold]
        pictures.append((f"{explanation.tile.name}: {decided}, {explanation.probability:.4f}", overlays.as_png(row)))
    return run_page.Report(
        title=f"crackflow: {card.network} explained",
        headline=f"{names}: {content['explained']:,} pictures of {os.path.basename(os.path.abspath(config.images))}.",
        data={},
        evaluations=[],
        history=[],
        facts={
            "Model": f"{card.network}, {loaded.model.count_params():,} parameters",
            "Threshold": f"{card.threshold:.3f}, chosen on validation data by {card.threshold_rule}",
            "From left to right": ", ".join(_sheet_columns(config)),
        },
        flags=flags.as_flagfile(config),
        versions=runtime.versions(),
        explained=run_page.Explained(content, pictures, layers),
    )


def _sheet_columns(config) -> list[str]:
    return ["photograph", *(["mask"] if config.masks else []), *(method.value for method in config.method)]


def _scores_content(config: ExplainConfig, loaded: model_file.TrainedModel, explanation_run: ExplanationRun) -> dict:
    card = loaded.card
    facts = {"network": card.network, "image_px": card.image_px, "threshold": card.threshold}
    stages = {
        method.value: [stage.name for stage in explainer.stages]
        for method, explainer in explanation_run.explainers.items()
    }
    return facts | {"default": config.method[0].value, "layers": stages} | explanation_run.scores()


def _format_summary(content: dict, rejected: list[tuple[str, str]]) -> list[str]:
    lines = [f"explained {content['explained']:,}, decided cracked {content['decided_cracked']:,}"]
    for name, row in (content["methods"] | content["baselines"]).items():
        parts = []
        if "pointing" in row:
            parts.append(
                f"hits the crack in {100 * row['pointing']:.1f} %, {100 * row['energy']:.0f} % of its sum on it"
            )
        if "deletion" in row:
            parts.append(f"deletion {row['deletion']:.3f}, insertion {row['insertion']:.3f}")
        if "random_weights" in row:
            parts.append(f"likeness to random weights {row['random_weights']['likeness']:.2f}")
        if row.get("images_per_sec"):
            parts.append(f"{row['images_per_sec']:,.0f} images/s")
        lines += [f"{name}: {'; '.join(parts)}"] if parts else []
    if rejected:
        lines.append(f"left out: {len(rejected):,}, each with its reason in rejected.csv")
    return lines


callable_module.install(__name__, ExplainConfig, run)
if __name__ == "__main__":
    flags.main(ExplainConfig, run, __doc__)
