"""Several commands in one process: `python verbs.py < commands`, each line a verb and its flags, as JSON.

Writes, as JSON, a list for each command: exit code, stdout, stderr.
"""

import contextlib
import io
import json
import runpy
import sys


def main():
    answers = []
    for verb, *arguments in map(json.loads, sys.stdin.read().splitlines()):
        sys.argv = [verb, *arguments]
        out, error, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
            try:
                runpy.run_module(f"crackflow.{verb}", run_name="__main__", alter_sys=True)
            except SystemExit as ended:
                code = ended.code or 0
        answers.append((code, out.getvalue(), error.getvalue()))
    sys.stdout.write(json.dumps(answers))


if __name__ == "__main__":
    main()
