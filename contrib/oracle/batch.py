#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs many scripts of this directory in one process: importing torch and transformers takes longer than most of them.

  batch.py < COMMANDS

A command is a line, quoted as for a shell: `FILE SCRIPT ARGUMENT…`. What SCRIPT.py (beside this file) prints goes to FILE,
with its exit status as the last line, `exit N`. A failing script stops nothing. Exit 0: all of them exited 0.
"""
import contextlib
import os
import runpy
import shlex
import sys
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))


def status_of(script, arguments):
    sys.argv = [os.path.join(HERE, script + ".py"), *arguments]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as e:
        if isinstance(e.code, str):
            print(e.code)
        return e.code if isinstance(e.code, int) else int(e.code is not None)
    except Exception:
        traceback.print_exc()
        return 70
    return 0


def main():
    worst = 0
    for line in sys.stdin:
        words = shlex.split(line)
        if not words:
            continue
        with open(words[0], "w") as f, contextlib.redirect_stdout(f), contextlib.redirect_stderr(f):
            status = status_of(words[1], words[2:])
            print("exit", status)
        worst = max(worst, status)
    sys.exit(worst)


if __name__ == "__main__":
    main()
