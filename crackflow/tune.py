"""Search for a network, and how to train it, with Keras Tuner: accuracy against images per second.

  python -m crackflow.tune --data=data/metu --out=runs/search
  python -m crackflow.tune --data=data/metu --out=runs/fast --min_images_per_sec=5000 --tuner=bayesian
  bash launch/tune_workers.sh 2 --data=data/metu --out=runs/search       # a chief and two workers on this host

Leaves best.cfg, which crackflow.train --flagfile=best.cfg trains, trials.csv, pareto.png, report.html, and under
trials/ each trial for TensorBoard. The same command resumes a search that was stopped or killed; with a larger
--max_trials it resumes one that has ended. Exit code 75: stopped by a signal, or because the chief was lost.
"""

import dataclasses
import os

from crackflow.core import callable_module, console, flags
from crackflow.core.config.search import TuneConfig
from crackflow.core.errors import UserError
from crackflow.report import plots, search_page
from crackflow.search import roles, search, trial


def run(config: TuneConfig) -> search.SearchResult | None:
    """Runs the whole search and writes its files.

    Args:
        config: Of the search.

    Returns:
        The results of all trials; None for a worker of a shared search.

    Raises:
        UserError: No trial was within the limits, or the flags or files are wrong.
        RetryableError: The search stopped and can be resumed.
    """
    config = dataclasses.replace(config, data=os.path.abspath(config.data), out=os.path.abspath(config.out))
    result = search.run_search(config, roles.detect_role(os.environ))
    if result is None:
        return None
    search.write_table(config)
    plots.save_png(search_page.pareto(result.outcomes, result.best), os.path.join(config.out, search.PARETO))
    search_page.write(os.path.join(config.out, search.REPORT), result, config)
    search_page.write_hparams(os.path.join(config.out, search.TRIALS), result.outcomes)
    failed = sum(outcome.status == trial.FAILED for outcome in result.outcomes)
    if failed:
        console.warning(f"{failed} of {len(result.outcomes)} trials failed; {search.TABLE} says why")
    if not result.best:
        raise UserError(impossible(result, config))
    console.info(f"the best of {len(result.outcomes)}: {trial.describe_result(result.best)}")
    console.info(
        f"python -m crackflow.train --flagfile={os.path.join(config.out, search.BEST)}      # report: "
        f"{os.path.join(config.out, search.REPORT)}"
    )
    return result


def impossible(result: search.SearchResult, config: TuneConfig) -> str:
    """The message for a search without a network within the limits: expected, nearest, and what to do."""
    limits = []
    if config.min_images_per_sec:
        limits.append(f"--min_images_per_sec={config.min_images_per_sec:,.0f}")
    if config.max_params:
        limits.append(f"--max_params={config.max_params:,}")
    if not result.nearest:
        return f"expected a network, but all {len(result.outcomes)} trials failed; {search.TABLE} says why"
    nearest = result.nearest
    return (
        f"{' and '.join(limits)}: expected a network within these limits, received none in {len(result.outcomes)} "
        f"trials; the nearest, trial {nearest.trial}, has {nearest.message}; ask for less, or for a smaller --image_px"
    )


callable_module.install(__name__, TuneConfig, run)
if __name__ == "__main__":
    flags.main(TuneConfig, run, __doc__)
