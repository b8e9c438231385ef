"""Search for a network, and how to train it, with Keras Tuner: accuracy against images per second.

  python -m crackflow.tune --data=data/metu --out=runs/search
  python -m crackflow.tune --data=data/metu --out=runs/fast --min_images_per_sec=5000 --tuner=bayesian
  bash launch/tune_workers.sh 2 --data=data/metu --out=runs/search       # a chief and two workers on this host

Leaves best.cfg, which crackflow.train --flagfile=best.cfg trains, trials.csv, pareto.png, report.html, and under
trials/ each trial for TensorBoard. A search that was stopped or killed goes on when the same command is given again;
with a larger --max_trials an ended one does. Exit code 75: stopped by a signal, or because the chief was lost.
"""

import dataclasses
import os

from crackflow.core import console, flags
from crackflow.core.config.search import TuneConfig
from crackflow.core.errors import UserError
from crackflow.report import plots, search_page
from crackflow.search import roles, search, trial


def run(config: TuneConfig) -> search.SearchResult | None:
    """The whole search; None for a worker of a shared one. Raises: UserError when no trial was within the limits;
    TryAgain when it stopped and can go on."""
    config = dataclasses.replace(config, data=os.path.abspath(config.data), out=os.path.abspath(config.out))
    found = search.run_search(config, roles.role(os.environ))
    if found is None:
        return None
    search.write_table(config)
    plots.save_png(search_page.pareto(found.outcomes, found.best), os.path.join(config.out, search.PARETO))
    search_page.write(os.path.join(config.out, search.REPORT), found, config)
    search_page.write_hparams(os.path.join(config.out, search.TRIALS), found.outcomes)
    failed = sum(one.status == trial.FAILED for one in found.outcomes)
    if failed:
        console.warning(f"{failed} of {len(found.outcomes)} trials failed; {search.TABLE} says why")
    if not found.best:
        raise UserError(impossible(found, config))
    console.info(f"the best of {len(found.outcomes)}: {trial.describe_result(found.best)}")
    console.info(
        f"python -m crackflow.train --flagfile={os.path.join(config.out, search.BEST)}      # report: "
        f"{os.path.join(config.out, search.REPORT)}"
    )
    return found


def impossible(found: search.SearchResult, config: TuneConfig) -> str:
    """What was expected, what came nearest, and what to do, where no network was within the limits."""
    limits = []
    if config.min_images_per_sec:
        limits.append(f"--min_images_per_sec={config.min_images_per_sec:,.0f}")
    if config.max_params:
        limits.append(f"--max_params={config.max_params:,}")
    if not found.nearest:
        return f"expected a network, but all {len(found.outcomes)} trials failed; {search.TABLE} says why"
    near = found.nearest
    return (
        f"{' and '.join(limits)}: expected a network within these limits, received none in {len(found.outcomes)} "
        f"trials; the nearest, trial {near.trial}, has {near.message}; ask for less, or for a smaller --image_px"
    )


if __name__ == "__main__":
    flags.main(TuneConfig, run, __doc__)
