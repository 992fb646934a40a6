"""`camjax`, one command or several with `then` between them, from where it begins as a command and Ctrl-C is taken."""

import sys

from camjax.cli.start import main

if __name__ == "__main__":
    words = sys.argv[1:]
    while words:
        end = words.index("then") if "then" in words else len(words)
        sys.argv[1:], words = words[:end], words[end + 1 :]
        try:
            main()
        except SystemExit as ended:
            if ended.code or not words:
                raise
