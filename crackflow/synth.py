"""Draw pictures of cracked and intact surfaces, with masks: for a first run, for tests, for more data.

  python -m crackflow.synth --out=photos --count=2000
  python -m crackflow.synth --out=made --surfaces=varied --donors=data/metu --image_px=128 --count=32000

Writes Positive/00000001.jpg, masks/00000001.png (white = crack), Negative/00000000.jpg and synth.json.
An image depends on --seed, --image_px, --surfaces, --donors and its number alone, not on --count or --workers.
"""

import functools
import json
import os
from collections.abc import Callable

from crackflow.core import atomic, callable_module, console, flags, process_pool
from crackflow.core.config.data import Surfaces, SynthConfig
from crackflow.synthesis import concrete, donors, varied
from crackflow.version import __version__

MARKER = "synth.json"
OURS = tuple(f"{name}/{'[0-9]' * 8}.*" for name in (concrete.POSITIVE, concrete.NEGATIVE, concrete.MASKS))
BATCH_PIXELS = 16 * 227 * 227  # a tenth of a second: the bar moves, and handing over costs nothing beside it


def run(config: SynthConfig) -> dict:
    """Fill `config.out` with `config.count` images, half of them cracked.

    Returns:
        The content of synth.json.

    Raises:
        UserError: `out` is taken.
    """
    content = facts(config, donors.fingerprint(config.donors))
    with atomic.folder(config.out, MARKER, config.overwrite, OURS) as stage:
        for name in (concrete.POSITIVE, concrete.NEGATIVE, concrete.MASKS):
            os.mkdir(os.path.join(stage, name))
        write(config, stage)
        atomic.write_text(os.path.join(stage, MARKER), json.dumps(content, indent=2) + "\n")
    console.info(
        f"{config.out}: {config.count:,} images of {config.image_px} px, {config.count // 2:,} of them cracked"
    )
    return content


def write(config: SynthConfig, folder: str) -> None:
    """Make the images in all processes, into the class folders of `folder`."""
    batch = min(64, max(1, BATCH_PIXELS // config.image_px**2))
    starts = range(0, config.count, batch)
    batches = (concrete.Batch(folder, maker(config), start, min(start + batch, config.count)) for start in starts)
    size = min(process_pool.count(config.workers), len(starts))
    with process_pool.pool(size) as pool, console.progress_bar(config.count, "making images") as advance:
        try:
            for done in process_pool.map_ordered(pool, concrete.write_images, batches, ahead=4 * size):
                advance(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # waits: a batch still being written would outlive its folder
            raise


def maker(config: SynthConfig) -> Callable[..., concrete.Example]:
    """From an index, an example."""
    settings = {"seed": config.seed, "image_px": config.image_px}
    if config.surfaces is Surfaces.VARIED:
        return functools.partial(varied.draw_example, **settings, donors_in=config.donors)
    return functools.partial(concrete.draw_example, **settings)


def facts(config: SynthConfig, lent: str) -> dict:
    """What decides every byte of the folder; its file also marks the folder as one that may be replaced."""
    return {
        "made_by": "crackflow.synth",
        "version": __version__,
        "seed": config.seed,
        "count": config.count,
        "image_px": config.image_px,
        "surfaces": config.surfaces.value,
        "donors": lent,
    }


callable_module.install(__name__, SynthConfig, run)
if __name__ == "__main__":
    flags.main(SynthConfig, run, __doc__)
