"""Writes the tables of README.md and docs/ from the JSON files in benchmarks/results/.

python -m benchmarks.report             write them
python -m benchmarks.report --check     exit 1 when a page shows other figures
"""

import json
import re
import statistics
import sys
from collections.abc import Sequence

from benchmarks import harness

RESULTS = harness.REPOSITORY / "benchmarks" / "results"
NAMES = {
    "crackflow_pack": "crackflow, pack",
    "crackflow_stream": "crackflow, stream",
    "ffcv_raw": "FFCV, raw",
    "ffcv_jpeg": "FFCV, JPEG",
    "dali": "NVIDIA DALI, CPU",
    "torch_opencv": "PyTorch DataLoader, OpenCV",
    "torch_pillow": "PyTorch DataLoader, Pillow",
    "webdataset": "WebDataset",
    "grain": "Grain, ArrayRecord",
    "tfds": "TensorFlow Datasets",
    "keras_directory": "image_dataset_from_directory",
    "turbojpeg_limit": "libjpeg-turbo alone, one core",
    "turbojpeg_accurate": "libjpeg-turbo alone, one core, accurate",
    "memcpy_limit": "plain copies in C, all cores",
}


SMALL_SETS = {"metu": "METU", "brick": "brick facades", "synthetic": "synthetic concrete"}


def load(name: str) -> dict:
    return json.loads((RESULTS / f"{name}.json").read_text())


def accuracy_table() -> str:
    """One row per run of time_to_accuracy: accuracy with its interval, mistakes, and seconds per command."""
    benchmark = load("time_to_accuracy")
    rows = [
        "| network, setting | test accuracy [95 %] | missed / false alarms | convert + train + evaluate |",
        "|---|---|---|---|",
    ]
    runs = [run for run in benchmark["results"]["runs"] if run["network"] in ("crackflow_xs", "crackflow_s", "seed")]
    for run in sorted(runs, key=lambda run: ("fast", "accurate", "baseline").index(run["setting"])):
        metrics, seconds = run["metrics"], run["seconds"]
        low, high = (100 * bound for bound in metrics["accuracy_ci95"])
        rows.append(
            f"| `{run['network']}`, {run['setting']}, seed {run['seed']} "
            f"| {100 * metrics['accuracy']:.1f} % [{low:.1f}, {high:.1f}] "
            f"| {metrics['confusion']['fn']} / {metrics['confusion']['fp']} of {metrics['n']:,} "
            f"| {seconds['convert']:.0f} + {seconds['train']:.0f} + {seconds['evaluate']:.0f} "
            f"= {run['total_seconds']:.0f} s{_timing_caveat(run, benchmark['machine']['cpu'])} |"
        )
    return "\n".join([*rows, "", _environment_line(benchmark)])


def _timing_caveat(run: dict, cpu: str) -> str:
    """Says whether a run was timed on another CPU, or while other work was running."""
    elsewhere = "" if run["cpu"] == cpu else f", on {run['cpu']}"
    return elsewhere + ("" if run.get("alone", True) else ", other work beside it")


def convert_table() -> str:
    """Speed and memory of the conversion, and how its groups of near-copies compare with the oracle."""
    convert, leaks = load("convert"), load("leaks")
    speed, oracle = convert["results"]["images_per_sec"], leaks["results"]["oracle"]
    curve = "; ".join(f"{row['images']:,}: {row['seconds']:.1f} s" for row in leaks["results"]["curve"])
    rows = [
        "| conversion | |",
        "|---|---|",
        f"| METU, 10,000 images, leak analysis included | {speed['median']:,} images/s "
        f"({speed['low']:,} to {speed['high']:,}), {convert['results']['peak_resident_mb']:,} MB |",
        f"| groups of copies in two splits | {oracle['in_two_splits']} of {oracle['oracle_groups']:,} |",
        f"| different pictures joined by mistake, at most | {oracle['joined_to_another']} "
        f"({oracle['joined_percent']} %) |",
        f"| search for near-copies, by images | {curve} |",
    ]
    return "\n".join([*rows, "", _environment_line(convert)])


def frames_table() -> str:
    """Time and memory of the near-duplicate search on frames and on walls, and of the whole command."""
    benchmark = load("frames")
    names = {
        "frames": "frames of a fixed camera, search",
        "walls": "photographs of a blank wall, search",
        "command": "frames of two fixed cameras, whole command",
    }
    rows = ["| nearly equal images | number | groups | s | of CPU | MB |", "|---|---|---|---|---|---|"]
    rows += [
        f"| {title} | {row['images']:,} | {row['groups']:,} | {row['seconds']:,} | {row.get('cpu_seconds', '')} "
        f"| {row['peak_resident_mb']:,} |"
        for name, title in names.items()
        for row in benchmark["results"][name]
    ]
    return "\n".join([*rows, "", f"{_environment_line(benchmark)[:-1]}; {benchmark['results']['load']}."])


def input_table() -> str:
    """Images/s of every competitor of against_peers at both sizes, sorted by the speed at 227 px."""
    benchmark = load("peers")
    sizes = benchmark["results"]["images_per_sec"]
    columns = [size for size in ("227 px", "128 px") if size in sizes]
    rows = [f"| images/s | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    first = sizes[columns[0]]
    for name in sorted(NAMES, key=lambda name: -first.get(name, {}).get("median", 0)):
        cells = [_speed(sizes[size].get(name, {})) for size in columns]
        rows.append(f"| {NAMES[name]} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", _environment_line(benchmark)])


def augment_table() -> str:
    """Microseconds per image of each augmentation, and how much longer a train step takes with crackflow's."""
    benchmark = load("augment")
    results, names = (
        benchmark["results"],
        {"keras layers": "Keras preprocessing layers", "crackflow d4": "crackflow, d4"},
    )
    names |= {"crackflow standard": "crackflow, standard", "crackflow strong": "crackflow, strong"}
    rows = ["| augmentation of 128 px | us an image | train step takes longer by |", "|---|---|---|"]
    for name, micros in results["microseconds_an_image"].items():
        step_fraction = results["share_of_step"].get(name.removeprefix("crackflow "))
        longer = f"{100 * step_fraction:.0f} %" if step_fraction is not None and name.startswith("crackflow") else ""
        rows.append(f"| {names.get(name, name.replace('crackflow ', 'crackflow, '))} | {micros:,.0f} | {longer} |")
    return "\n".join([*rows, "", _environment_line(benchmark)])


def step_table() -> str:
    """Images/s of the train step, per network and program."""
    benchmark = load("train_step")
    programs = {
        "crackflow": "crackflow",
        "torch_eager": "PyTorch",
        "torch_compiled": "PyTorch compiled",
        "keras3": "Keras 3",
        "keras3_xla": "Keras 3, XLA",
        "keras3_onednn": "Keras 3, oneDNN on",
    }
    rows = [
        f"| network, precision | parameters | px | {' | '.join(programs.values())} |",
        "|---" * (len(programs) + 3) + "|",
    ]
    for precision in ("float32", "mixed_bfloat16"):
        for name, row in benchmark["results"].get(precision, {}).items():
            speeds = [row["images_per_sec"].get(program, {}).get("median") for program in programs]
            cells = [f"{speed:,.0f}" if speed else "-" for speed in speeds]
            rows.append(f"| `{name}`, {precision} | {row['parameters']:,} | {row['image_px']} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", _environment_line(benchmark)])


def faults_table() -> str:
    """Results of the kill campaign, per command."""
    benchmark = load("faults")
    rows = [
        "| killed at random moments | kills | lost or damaged | as without kills, bit for bit |",
        "|---|---|---|---|",
    ]
    for name, tally in benchmark["results"]["campaigns"].items():
        num_lost = len(tally["damaged"]) + tally["failed"]
        rows.append(f"| {name} | {tally['kills']} | {num_lost} | {'yes' if tally['identical'] else 'NO'} |")
    return "\n".join([*rows, "", _environment_line(benchmark)])


def across_table() -> str:
    """A model trained on METU, evaluated on each dataset: mean and range over the seeds."""
    benchmark = load("across")
    runs = benchmark["results"]["runs"]
    rows = [
        f"| trained on METU, {len(runs)} seeds | images "
        "| accuracy | recall | specificity | ROC AUC | calibration error |",
        "|---|---|---|---|---|---|---|",
    ]
    titles = {
        "metu": "METU, test split",
        "deepcrack": "DeepCrack, windows of 128 px",
        "cfd": "CFD, windows of 128 px",
    }
    for name, title in titles.items():
        evaluations = [run["datasets"][name] for run in runs]
        rates = [
            _mean_and_range([100 * evaluation[key] for evaluation in evaluations], ".1f", " %")
            for key in ("accuracy", "recall", "specificity")
        ]
        scores = [
            _mean_and_range([evaluation[key] for evaluation in evaluations], ".3f", "") for key in ("roc_auc", "ece")
        ]
        rows.append(f"| {title} | {evaluations[0]['n']:,} | {' | '.join([*rates, *scores])} |")
    return "\n".join([*rows, "", _environment_line(benchmark)])


def _mean_and_range(values: list[float], form: str, unit: str) -> str:
    """'99.8 % (99.7 to 99.9)': the mean, and the range if there are several values."""
    if len(values) == 1:
        return f"{values[0]:{form}}{unit}"
    return f"{statistics.mean(values):{form}}{unit} ({min(values):{form}} to {max(values):{form}})"


def explain_table() -> str:
    """Scores of each explanation method on DeepCrack, followed by the classical filters."""
    benchmark = load("explain")
    results = benchmark["results"]
    rows = [
        "| map | hits the crack | without tolerance | energy in mask | IoU | deletion | insertion | likeness to random "
        "weights | images/s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in (results["methods"] | results["baselines"]).items():
        random, speed = row.get("random_weights"), row.get("images_per_sec")
        cells = [f"{100 * row[key]:.1f} %" for key in ("pointing", "exact")]
        cells += [f"{row[key]:.2f}" for key in ("energy", "iou", "deletion", "insertion")]
        cells += [f"{random['likeness']:.2f}" if random else "-", f"{speed:,.0f}" if speed else "-"]
        title = name.replace("_", " ")
        rows.append(f"| {f'**{title}**' if name == results['default'] else title} | {' | '.join(cells)} |")
    timing = results["of_227_px"]
    speeds = (
        f"{timing['count']:,} maps at {timing['px']} px by the default: {statistics.median(timing['seconds']):.1f} s "
        f"in a network of that size; the whole command on {results['command']['count']:,} photographs of METU "
        f"{results['command']['seconds']:.0f} s."
    )
    return "\n".join([*rows, "", speeds, "", _environment_line(benchmark)])


def small_table() -> str:
    """Accuracy on unseen images by the number of training images per class, and how often training warned."""
    benchmark = load("small")
    runs = list(benchmark["results"].values())
    rows = [
        "| trained on, from scratch | accuracy on others, mean (lowest to highest) | ROC AUC | warned |",
        "|---|---|---|---|",
    ]
    for name, size in sorted({(run["set"], run["size"]) for run in runs}):
        group = [run for run in runs if (run["set"], run["size"]) == (name, size)]
        accuracy = [100 * run["accuracy"] for run in group]
        rows.append(
            f"| {SMALL_SETS[name]}, {size} + {size} | {statistics.mean(accuracy):.1f} % ({min(accuracy):.1f} to "
            f"{max(accuracy):.1f}) | {statistics.mean(run['roc_auc'] for run in group):.3f} "
            f"| {sum(run['warned'] for run in group)} of {len(group)} |"
        )
    return "\n".join([*rows, "", _environment_line(benchmark)])


def photographs_table() -> str:
    """Time and memory for large photographs, and dense scoring against scoring window by window."""
    benchmark = load("photographs")
    rows = [
        "| photograph | one scale | three scales (default) | whole command | its memory |",
        "|---|---|---|---|---|",
    ]
    for name, photo in benchmark["results"].items():
        cells = [f"{photo['look'][scale]['median']:.2f} s" for scale in ("one scale", "three scales")]
        rows.append(
            f"| {name}, half of it cracked | {' | '.join(cells)} "
            f"| {photo['command_seconds']:.0f} s | {photo['command_peak_mb']:,} MB |"
        )
    tiles = benchmark["results"]["12 MP"]["against_tiles"]
    footnote = (
        f"The {tiles['windows']:,} windows of 12 MP at one scale, 16 pixels apart: {tiles['dense']['median']:.2f} s "
        f"at once, one by one in batches {tiles['tiles_seconds']:.1f} s, {tiles['times_as_fast']:.0f} times as long."
    )
    return "\n".join([*rows, "", footnote, "", _environment_line(benchmark)])


def findings_table() -> str:
    """How well the findings match annotated cracks."""
    benchmark = load("findings")
    rows = [
        "| photographs | cracks found [95 %] | findings that are right [95 %] | without those for human review "
        "| crack pixels outlined | outlined pixels near a crack | cracked photographs found "
        "| clean ones left alone |",
        "|---|---|---|---|---|---|---|---|",
    ]
    titles = {"made": "synthetic surfaces, 681 px", "deepcrack": "DeepCrack, 256 px", "cfd": "CFD, 480 x 320 px"}
    for name, title in titles.items():
        scores = benchmark["results"]["sets"][name]
        cells = [
            f"{100 * scores[key]:.1f} % [{100 * scores[key + '_ci95'][0]:.1f}, {100 * scores[key + '_ci95'][1]:.1f}] "
            f"of {scores[count]:,}"
            for key, count in (("recall", "cracks"), ("precision", "findings"))
        ]
        cells.append(f"{100 * scores['precision_of_these']:.1f} % of {scores['called_cracked']:,}")
        cells += [f"{100 * scores['pixels'][key]:.0f} %" for key in ("recall", "precision")]
        for key in ("cracked_found", "clean_left_alone"):
            fraction = scores["photos"][key]  # None where there is no such photograph
            cells.append("-" if fraction is None else f"{100 * fraction:.1f} %")
        rows.append(f"| {scores['photographs']:,} of {title} | {' | '.join(cells)} |")
    return "\n".join([*rows, "", _environment_line(benchmark)])


def false_alarms_table() -> str:
    """Clean and cracked photographs by size: the decision by the peak probability alone, and the model's own."""
    results = load("false_alarms")["results"]
    rows = [
        "| photographs | clean ones left alone: before | now [95 %] | false alarms a photograph | a square metre "
        "| cracks found: before | now [95 %] |",
        "|---|---|---|---|---|---|---|",
    ]
    for size, rates in sorted(results["sizes"].items(), key=lambda item: float(item[0])):
        rows.append(_alarms_row(f"walls of {float(size):g} MP, laid", rates["laid"], rates["cracked"]))
        if "made" in rates:
            rows.append(_alarms_row("&nbsp;&nbsp;synthetic surfaces, squares as high", rates["made"], None))
    titles = {"metu": "METU, test images", "deepcrack": "DeepCrack", "cfd": "CFD", "uav75": "uav75"}
    for name, title in titles.items():
        rates = results["real"][name]
        size = f"{rates['megapixels']:.2f} MP" + (
            f", clean parts {rates['clean_megapixels']:.2f}" if "clean" in rates else ""
        )
        rows.append(_alarms_row(f"{title}, {size}", rates.get("clean"), rates["cracked"]))
    return "\n".join([*rows, "", _environment_line(load("false_alarms"))])


def _alarms_row(title: str, clean: dict | None, cracked: dict | None) -> str:
    cells = ["-"] * 4
    if clean:
        cells = [f"{100 * clean['before']['share']:.1f} %", _rate_cell(clean["after"])]
        for unit in ("photograph", "square_metre"):
            values = [clean[variant][f"alarms_a_{unit}"] for variant in ("before", "after")]
            cells.append("{:.2f}, now {:.2f}".format(*values))
    hits = [f"{100 * cracked['before']['share']:.1f} %", _rate_cell(cracked["after"])] if cracked else ["-", "-"]
    return f"| {title} | {' | '.join([*cells, *hits])} |"


def _rate_cell(rate: dict) -> str:
    low, high = rate["ci95"]
    return f"{100 * rate['share']:.1f} % [{100 * low:.0f}, {100 * high:.0f}] of {rate['n']:,}"


def lengths_table() -> str:
    """Predicted crack lengths divided by those of the masks."""
    sets = load("lengths")["results"]["sets"]
    rows = [
        "| photographs | found cracks: length over the truth | photographs within 20 % "
        "| the same, of findings on the crack alone | all lengths over all of the truth | nets, without a length |",
        "|---|---|---|---|---|---|",
    ]
    for name, title in (("deepcrack", "DeepCrack"), ("cfd", "CFD"), ("uav75", "uav75")):
        if name not in sets:
            continue
        scores = sets[name]
        rows.append(
            f"| {scores['photographs']:,} of {title} | {scores['ratio']:.2f} | {100 * scores['within_20']:.0f} % "
            f"| {scores['sure']['ratio']:.2f}, {100 * scores['sure']['within_20']:.0f} % "
            f"| {scores['overall']['ratio']:.2f} | {scores['nets']} |"
        )
    return "\n".join([*rows, "", _environment_line(load("lengths"))])


def exports_table() -> str:
    """One row per exported format of the shipped model."""
    benchmark = load("exports")
    rows = [
        "| format | runtime | largest difference | decisions changed | accuracy | MB | ms an image |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, export in benchmark["results"]["formats"].items():
        if name == "model":
            rows.append(
                f"| `model.h5` | {export['runtime']} | - | - | {export['accuracy']:.4f} | - "
                f"| {export['ms_per_image']:.2f} |"
            )
            continue
        rows.append(
            f"| {name.replace('_', ', ')} | {export['runtime']} | {export['largest_difference']:.0e} "
            f"| {export['decisions_changed']} of {export['images']} | {export['accuracy']:.4f} "
            f"| {export['bytes'] / 1e6:.2f} | {export['ms_per_image']:.2f} |"
        )
    return "\n".join([*rows, "", _environment_line(benchmark)])


def shipped_table() -> str:
    """Metrics of the shipped model on seen and unseen datasets."""
    benchmark = load("shipped")
    results = benchmark["results"]
    rows = [
        "| data | images | accuracy [95 %] | recall [95 %] | specificity [95 %] | ROC AUC [95 %] | calibration error |",
        "|---|---|---|---|---|---|---|",
    ]
    titles = {
        "metu": "METU, test split by groups of copies",
        "deepcrack": "DeepCrack, windows of 128 px, unseen",
        "cfd": "CFD, windows of 128 px, unseen",
        "made": "synthetic surfaces, 227 px, unseen",
    }
    for name, title in titles.items():
        metrics = results["datasets"][name]
        cells = [
            f"{100 * metrics[key]:.1f} % [{100 * metrics[key + '_ci95'][0]:.1f}, {100 * metrics[key + '_ci95'][1]:.1f}]"
            for key in ("accuracy", "recall", "specificity")
        ]
        low, high = metrics["roc_auc_ci95"]
        cells += [f"{metrics['roc_auc']:.3f} [{low:.3f}, {high:.3f}]", f"{metrics['ece']:.3f}"]
        rows.append(f"| {title} | {metrics['n']:,} | {' | '.join(cells)} |")
    facts = (
        f"{results['parameters']:,} parameters, {results['bytes'] / 1e6:.2f} MB, SHA-256 `{results['sha256']}`; "
        f"threshold {results['threshold']:.3f}, temperature {results['temperature']:.3f}, for human review from "
        f"{results['review'][0]:.3f} to {results['review'][1]:.3f}."
    )
    return "\n".join([*rows, "", facts, "", _environment_line(benchmark)])


def unlike_table() -> str:
    """How often the shipped model reports that a photograph is out of distribution."""
    benchmark = load("shipped")
    rows = ["| photographs | | warned |", "|---|---|---|"]
    for name, stats in benchmark["results"]["unlike"].items():
        title = {"deepcrack": "DeepCrack", "cfd": "CFD"}.get(name, name)
        rows.append(f"| {title} | {stats['n']:,} | {100 * stats['warned']:.1f} % |")
    return "\n".join([*rows, "", _environment_line(benchmark)])


UNSEEN = {
    "metu": "METU, test split",
    "deepcrack_128": "DeepCrack, 128 px, unseen",
    "deepcrack_160": "DeepCrack, 160 px, unseen",
    "cfd_128": "CFD, 128 px, unseen",
    "cfd_160": "CFD, 160 px, unseen",
    "made": "fresh synthetic surfaces",
}


def unseen_table() -> str:
    """The shipped recipe trained with three seeds, on each dataset, and the previous model."""
    benchmark = load("unseen")
    results = benchmark["results"]
    runs, before = results["runs"], results["before"]
    rows = [
        "| windows of | images | ROC AUC | balanced accuracy | recall | specificity | calibration error | to review "
        "| before: ROC AUC | balanced accuracy |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, title in UNSEEN.items():
        evaluations = [run["datasets"][name] for run in runs]
        cells = [_mean_and_range([evaluation["roc_auc"] for evaluation in evaluations], ".3f", "")]
        for key in ("balanced_accuracy", "recall", "specificity"):
            cells.append(_mean_and_range([100 * evaluation[key] for evaluation in evaluations], ".1f", " %"))
        cells.append(_mean_and_range([evaluation["ece"] for evaluation in evaluations], ".3f", ""))
        cells.append(_mean_and_range([100 * evaluation["review"] for evaluation in evaluations], ".1f", " %"))
        if before:
            earlier = before["datasets"][name]
            cells += [f"{earlier['roc_auc']:.3f}", f"{100 * earlier['balanced_accuracy']:.1f} %"]
        else:
            cells += ["-", "-"]
        rows.append(f"| {title} | {evaluations[0]['n']:,} | {' | '.join(cells)} |")
    speed = results["images_per_sec"]
    footnote = (
        f"{runs[0]['parameters']:,} parameters; {speed['shipped']:,.0f} images/s at inference against "
        f"{speed['crackflow_s']:,.0f} of `crackflow_s`, {speed['ratio']:.2f} of it (float32). {_seeds(runs)}, "
        "at each model's own threshold and temperature."
    )
    return "\n".join([*rows, "", footnote, "", _environment_line(benchmark)])


def _seeds(runs: list[dict]) -> str:
    return "One seed" if len(runs) == 1 else f"Means of {len(runs)} seeds (lowest to highest)"


def ablation_table() -> str:
    """The effect of each part of the recipe: one short training per ablation."""
    benchmark = load("unseen")
    rows = [
        "| trained in short, one seed | METU | DeepCrack, 128 px | CFD, 128 px | CFD, 160 px "
        "| fresh synthetic surfaces | images/s, share of `crackflow_s` |",
        "|---|---|---|---|---|---|---|",
    ]
    for ablation in benchmark["results"]["ablation"]:
        cells = [f"{100 * ablation['datasets']['metu']['accuracy']:.1f} %"]
        for name in ("deepcrack_128", "cfd_128", "cfd_160", "made"):
            metrics = ablation["datasets"][name]
            cells.append(f"{metrics['roc_auc']:.3f} / {100 * metrics['balanced_accuracy']:.1f} %")
        rows.append(f"| {ablation['name']} | {' | '.join(cells)} | {ablation['speed']:.2f} |")
    footnote = (
        f"About {benchmark['results']['ablation_images']:,} training images each, a sixteenth of the shipped training, "
        "with METU's once an epoch. METU: accuracy; the others: ROC AUC / balanced accuracy at the "
        "model's own threshold."
    )
    return "\n".join([*rows, "", footnote, "", _environment_line(benchmark)])


def scaling_table() -> str:
    """The measured cost of each distribution strategy, and the modelled speed on GPU clusters."""
    benchmark = load("scaling")
    results = benchmark["results"]
    rows = [f"Measured, `{results['network']}`, a global batch of {results['batch']}, the same two cores for all:", ""]
    rows += ["| devices | images/s | of one device |", "|---|---|---|"]
    for strategy, rate in results["images_per_sec"].items():
        rows.append(f"| {strategy} | {_speed(rate)} | {100 * results['of_one_device'][strategy]:.0f} % |")
    assumed = results["model"]["assumed"]
    rows += [
        "",
        "**Modelled, not measured.** H200 GPUs, eight a host, "
        f"{assumed['images_a_gpu']} images a GPU and step. Assumed: {assumed['flops'] / 1e12:g} TFLOP/s sustained, "
        f"{1e3 * assumed['overhead_s']:g} ms of launches a step; gradients in float32, sent in rings after the "
        f"backward pass, none of it hidden, at {assumed['within_host_bytes_s'] / 1e9:g} GB/s within a host and "
        f"{assumed['between_hosts_bytes_s'] / 1e9:g} GB/s between hosts, {1e6 * assumed['latency_s']:g} us a hop; "
        "input that keeps up. In brackets: of as many times one GPU.",
        "",
        "| network | all-reduce, MB a step | 1 GPU, images/s | 8 GPUs | 64 GPUs |",
        "|---|---|---|---|---|",
    ]
    for name, counted in results["counted"].items():
        cells = [results["model"]["gpus"][gpus][name] for gpus in ("1", "8", "64")]
        speeds = [f"{_two_digits(cell['images_per_sec']):,} ({100 * cell['efficiency']:.0f} %)" for cell in cells]
        rows.append(f"| `{name}` | {counted['gradient_bytes'] / 1e6:.1f} | {' | '.join(speeds)} |")
    return "\n".join([*rows, "", _environment_line(benchmark)])


def _two_digits(value: int) -> int:
    """Rounds to two significant digits: the model is no more precise than that."""
    return int(float(f"{value:.1e}"))


def _speed(rate: dict) -> str:
    return f"{rate['median']:,} ({rate['low']:,} to {rate['high']:,})" if "median" in rate else "-"


def tune_table() -> str:
    """The best network of the search next to the hand-designed ones, fastest first."""
    benchmark = load("tune")
    searched, points = benchmark["results"]["search"], benchmark["results"]["compare"]["points"]
    rows = ["| network, 96 px | parameters | images/s scored | test accuracy, three seeds |", "|---|---|---|---|"]
    for name, point in sorted(points.items(), key=lambda pair: -pair[1]["images_per_sec"]["median"]):
        label = "**found by the search**" if name == "best" else f"`{name}`"
        low, high = (100 * bound for bound in (min(point["accuracies"]), max(point["accuracies"])))
        rows.append(
            f"| {label} | {point['parameters']:,} | {point['images_per_sec']['median']:,} "
            f"| {100 * point['accuracy']:.2f} % ({low:.1f} to {high:.1f}) |"
        )
    first, last = searched["search_process_mb"]
    epochs = benchmark["results"]["compare"]["runs"][0]["epochs"]
    footnote = (
        f"{searched['trials']} trials in {searched['minutes']:.1f} minutes; the search's own process {first} MB after "
        f"five of them, {last} MB at the end. All networks of the table were trained for the same {epochs} epochs."
    )
    return "\n".join([*rows, "", footnote, "", _environment_line(benchmark)])


def _environment_line(benchmark: dict) -> str:
    machine = benchmark["machine"]
    return (
        f"{machine['cores']} cores of {machine['cpu']}, TensorFlow {benchmark['versions']['tensorflow']}, "
        f"{benchmark['date']}."
    )


SURFACE_NAMES = {
    "brick": "brickwork",
    "deepcrack": "DeepCrack",
    "cfd": "CFD, asphalt",
    "shingles": "synthetic shingles",
    "travertine": "synthetic travertine",
}
ADAPT_COLUMNS = {
    "as it is": "as it is",
    "threshold": "threshold chosen anew",
    "head": "regression on features",
    "clean alone": "adapted to the clean ones alone",
    "adapt": "adapted",
    "scratch": "crackflow.train",
    "weights": "crackflow.train, --weights=shipped",
}


def adapt_means(draws: dict[str, dict], method: str) -> dict[str, float]:
    """Mean and worst figures of a method over the draws that have it; {} where none has."""
    own = [figures[method] for figures in draws.values() if method in figures]
    if not own:
        return {}
    balanced = [figures["balanced"] for figures in own]
    return {
        "draws": len(own),
        "balanced": statistics.mean(balanced),
        "worst": min(balanced),
        "roc_auc": statistics.mean(figures["roc_auc"] for figures in own),
    }


def adapt_covered(sets: dict[str, dict]) -> list[bool]:
    """For each draw that was adapted, whether the interval of its estimate holds what it is worth on other windows."""
    adapted = [
        figures["adapt"]
        for entry in sets.values()
        for draws in entry["sizes"].values()
        for figures in draws.values()
        if "adapt" in figures
    ]
    return [figures["estimate"][1] <= figures["fitted"]["balanced"] <= figures["estimate"][2] for figures in adapted]


def adapt_table(sizes: Sequence[str] = ("20", "100")) -> str:
    """Balanced accuracy on other windows of a surface against the number of labelled ones."""
    lines = [f"| surface | windows | {' | '.join(ADAPT_COLUMNS.values())} | METU then |"]
    lines.append("|---" * (len(ADAPT_COLUMNS) + 3) + "|")
    for name, entry in load("adapt")["results"]["sets"].items():
        for size, draws in sorted(entry["sizes"].items(), key=lambda item: int(item[0])):
            if size not in sizes:
                continue
            means = {method: adapt_means(draws, method) for method in ADAPT_COLUMNS}
            cells = [f"{mean['balanced']:.1%}" if mean else "" for mean in means.values()]
            cells[list(means).index("adapt")] += f" ({means['adapt']['worst']:.1%})"
            adapted = [figures["adapt"] for figures in draws.values() if "metu" in figures.get("adapt", {})]
            metu = [figures["metu"] for figures in adapted if figures["changed"] == "weights"]
            cells.append(f"{min(metu):.1%}" if metu else "as before" if adapted else "")
            lines.append(f"| {' | '.join([SURFACE_NAMES[name], f'{size} + {size}', *cells])} |")
    return "\n".join(lines)


def adapt_table_of_all_sizes() -> str:
    """The same for every number of windows, and how many of the estimates held."""
    held = adapt_covered(load("adapt")["results"]["sets"])
    sentence = f"In {sum(held)} of {len(held)} draws the 95 % interval that adapt prints held what the model was worth."
    return adapt_table(("10", "20", "50", "100")) + f"\n\n{sentence}"


def review_table() -> str:
    """Precision and recall of findings before and after a review was learnt."""
    names = SURFACE_NAMES | {"uav75": "UAV75"}
    lines = [
        "| photographs | draw | right / wrong / unsure, marked | changed | precision on others | recall on others |",
        "|---|---|---|---|---|---|",
    ]
    for name, draws in load("review")["results"].items():
        for number, result in draws.items():
            before, after = (result["others"][state] for state in ("before", "after"))
            verdicts = result["verdicts"]
            cells = [
                names[name],
                number,
                f"{verdicts['crack']} / {verdicts['not_a_crack']} / {verdicts['unsure']}, {verdicts['drawn']}",
                result["adapt"]["changed"],
                *(f"{before[key]:.1%} to {after[key]:.1%}" for key in ("precision", "recall")),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


README = {
    "adapt": adapt_table,
    "accuracy": accuracy_table,
    "small": small_table,
    "convert": convert_table,
    "input": input_table,
    "augment": augment_table,
    "steps": step_table,
    "tune": tune_table,
    "faults": faults_table,
    "across": across_table,
    "unseen": unseen_table,
    "explain": explain_table,
    "photographs": photographs_table,
    "findings": findings_table,
    "exports": exports_table,
}
CARD = {
    "shipped": shipped_table,
    "unlike": unlike_table,
    "findings": findings_table,
    "false_alarms": false_alarms_table,
}
THEORY = {"lengths": lengths_table, "frames": frames_table}
PAGES = {
    "README.md": README,
    "docs/UNSEEN.md": {"unseen": unseen_table, "ablation": ablation_table},
    "docs/SCALING.md": {"scaling": scaling_table},
    "docs/MODEL_CARD.md": CARD,
    "docs/THEORY.md": THEORY,
    "docs/ADAPT.md": {"adapt": adapt_table_of_all_sizes, "review": review_table},
}


def render_page(page: str) -> str:
    """The text of `page`, with the text between `<!-- NAME -->` and `<!-- end -->` replaced by the table NAME."""
    text = (harness.REPOSITORY / page).read_text()
    for name, make_table in PAGES[page].items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
        if not re.search(pattern, text, re.S):
            sys.exit(f"{page}: expected a place <!-- {name} --> ... <!-- end -->")
        text = re.sub(
            pattern, lambda match, make_table=make_table: f"{match[1]}{make_table()}\n{match[2]}", text, flags=re.S
        )
    if unknown := set(re.findall(r"<!-- (\w+) -->", text)) - {"end", *PAGES[page]}:
        sys.exit(f"{page}: nothing here makes the table of <!-- {min(unknown)} -->")
    return text


def main() -> None:
    for page in PAGES:
        path = harness.REPOSITORY / page
        if "--check" not in sys.argv:
            path.write_text(render_page(page))
        elif path.read_text() != render_page(page):
            sys.exit(f"{page}: the tables are not those of benchmarks/results/")


if __name__ == "__main__":
    main()
