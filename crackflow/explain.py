"""Where a trained model looks, and how far that can be believed.

  python -m crackflow.explain --model=runs/metu --images=photos --out=why
  python -m crackflow.explain --model=runs/metu --images=deepcrack/images --masks=deepcrack/masks --patch_px=128 \\
    --method=integrated_gradients,grad_cam,layer_cam --out=why

Leaves in the folder: report.html; overlays/ and explanations.csv, one picture a row; contact_sheet.png; filters/ of the
first and of chosen layers; activations/ of one picture; scores.json: how well the maps explain the model and, with
masks, how well they hit the cracks. Photographs that cannot be read are listed in rejected.csv.
"""

import collections
import os

import numpy as np

from crackflow.core import atomic, console, csv_files, flags, runtime, system_files
from crackflow.core.backend import keras
from crackflow.core.config.trained import ExplainConfig
from crackflow.core.errors import UserError
from crackflow.data import overlays
from crackflow.explanation import inputs, saliency, study
from crackflow.model import model_file
from crackflow.report import run_page
from crackflow.training import run_folder

SCORES = "scores.json"
COLUMNS = ("path", "probability", "decided", "explained", "overlay")
OWNED_FILES = ("explanations.csv", "rejected.csv", "contact_sheet.png", run_folder.REPORT)
OWNED_FILES += ("overlays/*.png", "filters/*.png", "activations/*.png")
SHEET_ROWS = 24  # of the contact sheet: the first pictures of each decision, half and half where there are enough
SHOWN_PX = 160  # of a picture in the contact sheet


def run(config: ExplainConfig) -> dict:
    """Explain every photograph, write the results; returns the content of scores.json. Raises: UserError."""
    runtime.configure(config.seed, config.threads, deterministic=False)
    loaded = model_file.load(config.model)
    study = _study(config, loaded)
    passed_over: collections.Counter = collections.Counter()
    files, rejected = inputs.list_images(config.images, config.masks, config.out, passed_over)
    with atomic.folder(config.out, SCORES, config.overwrite, OWNED_FILES) as stage:
        found = _explain_all(config, study, files, rejected, stage)
        layers = _show_layers(config, loaded.model, found, stage)
        csv_files.save(os.path.join(stage, "rejected.csv"), ("path", "reason"), rejected)
        content = _content(config, loaded, study)
        atomic.save_json(stage, SCORES, content)
        run_page.write(_report(config, loaded, content, found, layers), os.path.join(stage, run_folder.REPORT))
    for line in _lines(content, rejected):
        console.info(line)
    if passed_over:
        console.info(system_files.summary(passed_over))
    console.info(
        f"overlays {os.path.join(config.out, 'overlays')}, report {os.path.join(config.out, run_folder.REPORT)}"
    )
    return content


def _study(config: ExplainConfig, loaded: model_file.TrainedModel) -> study.ExplanationRun:
    there = {layer.name for layer in loaded.model.layers}
    unknown = [name for name in config.layers if name not in there]
    every = [stage.name for stage in saliency.feature_maps(loaded.model)]
    if unknown:
        raise UserError(
            f"--layers: expected layers of {loaded.card.network}, whose stages are {', '.join(every)}; "
            f"received {', '.join(unknown)}"
        )
    among = [name for name in config.layers if name in every]
    return study.ExplanationRun(loaded, config.method, config.toward, among, config.sample, config.seed)


def _explain_all(config, study, files, rejected, stage) -> list[study.Explanation]:
    """Overlays and the table; gives the findings of the contact sheet."""
    os.makedirs(os.path.join(stage, "overlays"))
    shown, rows, classes = {True: [], False: []}, [], study.loaded.card.classes
    reading = config.patch_px, config.min_crack_fraction, config.max_megapixels, rejected
    with console.progress_bar(len(files), "explaining") as advance:
        pieces = inputs.iter_tiles(_counted(files, advance), study.loaded.card.channels, *reading)
        for number, one in enumerate(study.findings(pieces, config.batch_size), start=1):
            file = f"overlays/{number:06d}.png"
            with open(os.path.join(stage, file), "wb") as opened:
                opened.write(overlays.as_png(overlays.overlay(one.piece.pixels, one.maps[config.method[0]])))
            decided = one.probability >= study.loaded.card.threshold
            names = classes[decided], classes[one.toward]
            rows.append((one.piece.name, f"{one.probability:.6f}", *names, file))
            if len(shown[decided]) < SHEET_ROWS:
                shown[decided].append(one)
    if not rows:
        raise UserError(
            f"--images: expected photographs, none of {len(files):,} files can be used; the first: "
            + (": ".join(rejected[0]) if rejected else "no part of it is clearly cracked or clean")
        )
    csv_files.save(os.path.join(stage, "explanations.csv"), COLUMNS, rows)
    few = min(len(shown[False]), SHEET_ROWS // 2)
    chosen = shown[True][: SHEET_ROWS - few] + shown[False][: SHEET_ROWS - min(len(shown[True]), SHEET_ROWS - few)]
    grid = [_sheet_row(one, bool(config.masks), config.method) for one in chosen]
    with open(os.path.join(stage, "contact_sheet.png"), "wb") as opened:
        opened.write(overlays.as_png(overlays.sheet(grid, SHOWN_PX, _columns(config))))
    return chosen


def _counted(files, advance):
    for file in files:
        yield file
        advance(1)


def _sheet_row(one: study.Explanation, with_mask: bool, methods) -> list[np.ndarray]:
    picture = one.piece.pixels
    mask = [(one.piece.mask[..., None] * 255).astype(np.uint8)] if with_mask else []
    return [picture, *mask, *(overlays.overlay(picture, one.maps[method]) for method in methods)]


def _show_layers(config, model: keras.Model, found: list[study.Explanation], stage: str) -> list[tuple[str, bytes]]:
    """filters/*.png and activations/*.png, of the first layer and every stage, or of the layers asked for; gives
    (caption, PNG) of each."""
    shown = []
    convolutions = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    every = [one.name for one in saliency.feature_maps(model)]
    layers = config.layers or (next(name for name in convolutions if model.get_layer(name).trainable), *every)
    for name in ("filters", "activations"):
        os.makedirs(os.path.join(stage, name))
    for name in layers:
        layer = model.get_layer(name)
        if isinstance(layer, keras.layers.Conv2D) and layer.kernel.shape.rank == 4:
            shown.append((f"filters of {name}", overlays.as_png(overlays.filters(layer.kernel.numpy()))))
            _write(stage, "filters", name, shown[-1][1])
        if isinstance(layer.output_shape, tuple) and len(layer.output_shape) == 4:
            maps = keras.Model(model.inputs, layer.output)(found[0].image[None], training=False)
            drawn = overlays.activations(np.asarray(maps, np.float32)[0])
            shown.append((f"what {name} makes of {found[0].piece.name}", overlays.as_png(drawn)))
            _write(stage, "activations", name, shown[-1][1])
    return shown


def _write(stage: str, kind: str, name: str, data: bytes) -> None:
    with open(os.path.join(stage, kind, f"{name.replace('/', '_')}.png"), "wb") as opened:
        opened.write(data)


def _report(config, loaded, content, found, layers) -> run_page.Report:
    card, names = loaded.card, ", ".join(method.value.replace("_", " ") for method in config.method)
    pictures = []
    for one in found:
        row = overlays.sheet([_sheet_row(one, bool(config.masks), config.method)], SHOWN_PX)
        decided = card.classes[one.probability >= card.threshold]
        pictures.append((f"{one.piece.name}: {decided}, {one.probability:.4f}", overlays.as_png(row)))
    return run_page.Report(
        title=f"crackflow: {card.network} explained",
        headline=f"{names}: {content['explained']:,} pictures of {os.path.basename(os.path.abspath(config.images))}.",
        data={},
        evaluations=[],
        history=[],
        facts={
            "Model": f"{card.network}, {loaded.model.count_params():,} parameters",
            "Threshold": f"{card.threshold:.3f}, chosen on validation data by {card.threshold_rule}",
            "From left to right": ", ".join(_columns(config)),
        },
        flags=flags.as_flagfile(config),
        versions=runtime.versions(),
        explained=run_page.Explained(content, pictures, layers),
    )


def _columns(config) -> list[str]:
    return ["photograph", *(["mask"] if config.masks else []), *(method.value for method in config.method)]


def _content(config: ExplainConfig, loaded: model_file.TrainedModel, study: study.ExplanationRun) -> dict:
    card = loaded.card
    facts = {"network": card.network, "image_px": card.image_px, "threshold": card.threshold}
    stages = {method.value: [stage.name for stage in one.stages] for method, one in study.explainers.items()}
    return facts | {"default": config.method[0].value, "layers": stages} | study.scores()


def _lines(content: dict, rejected: list[tuple[str, str]]) -> list[str]:
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


if __name__ == "__main__":
    flags.main(ExplainConfig, run, __doc__)
