"""The command `crackflow`, which is `python -m crackflow` as well: every verb in one place.

crackflow                           the verbs
crackflow train --data=data/metu    the same as python -m crackflow.train --data=data/metu
crackflow train --help              the flags of a verb
crackflow --version
eval "$(crackflow --completion)"    completes verbs and flags in bash and zsh
"""

import difflib
import os
import runpy
import sys
from collections.abc import Sequence

from crackflow.core import console, errors, flags, verbs
from crackflow.version import __version__

COMPLETION = """_crackflow() {
  local words=%(verbs)s
  if [ "$COMP_CWORD" -gt 1 ]; then
    case "${COMP_WORDS[1]}" in
%(cases)s
      *) words="" ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
  [ "${#COMPREPLY[@]}" -ne 1 ] || [ "${COMPREPLY[0]%%=}" = "${COMPREPLY[0]}" ] || compopt -o nospace 2>/dev/null
}
if [ -n "${ZSH_VERSION:-}" ]; then autoload -U +X bashcompinit && bashcompinit; fi
complete -o default -F _crackflow crackflow"""


def overview() -> str:
    """Returns the text of `crackflow --help`: how to call it, and each verb with one sentence."""
    width = max(map(len, verbs.CONFIGS))
    lines = [f"  {verb:{width}}  {verbs.summary(verb)}" for verb in verbs.CONFIGS]
    return "\n".join(
        [
            f"crackflow {__version__}: surface-crack classification, from a folder of photographs to an H5 model",
            "",
            "  crackflow VERB --flag=value ...     or: python -m crackflow.VERB --flag=value ...",
            "  crackflow VERB --help               the flags of a verb",
            "",
            "Verbs:",
            *lines,
        ]
    )


def completion() -> str:
    """Returns a script for bash, and for zsh by its bashcompinit, that completes verbs and their flags."""
    cases = []
    for verb, config_class in verbs.CONFIGS.items():
        names = " ".join(f"--{setting.name}=" for setting in flags.settings(config_class))
        cases.append(f'      {verb}) words="{names} --flagfile= --help" ;;')
    return COMPLETION % {"verbs": f'"{" ".join(verbs.CONFIGS)}"', "cases": "\n".join(cases)}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the verb that `argv` (without the program's name; None: of this process) begins with, as its page does."""
    console.make_streams_safe()
    words = list(sys.argv[1:] if argv is None else argv)
    first = words[0] if words else "--help"
    if first in ("--help", "-h", "help"):
        console.info_lines(overview())
    elif first == "--version":
        console.info(f"crackflow {__version__}")
    elif first == "--completion":
        console.info_lines(completion())
    elif first in verbs.CONFIGS:
        sys.argv = [first, *words[1:]]
        runpy.run_module(f"crackflow.{first}", run_name="__main__", alter_sys=True)
    else:
        nearest = difflib.get_close_matches(first, verbs.CONFIGS, n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else "crackflow --help lists them"
        console.error(f"crackflow: expected a verb ({', '.join(verbs.CONFIGS)}), received {first!r}; {hint}")
        sys.exit(errors.EXIT_USER_ERROR)


def script() -> None:
    """The installed command `crackflow`, with the safeguards of `python -m` (see `crackflow/__init__.py`)."""
    sys.excepthook = errors.end_on_shortage
    os.environ["PYTHONSAFEPATH"] = "1"  # for its workers: the folder it is started in may hold a numpy.py
    main()


if __name__ == "__main__":
    main()
