"""`python -m jobs`: every job, by name. `python -m jobs JOB --help` says what it does.

The last line on stdout is one JSON object with what was done; the exit code says how it went:
0 done · 1 failed, worth a retry · 2 something must be mended · 3 a quality gate refused · 4 runs already.
"""

import sys
from pathlib import Path

# spark-submit puts this folder, not the project, on the path; a module here must never hide a library's.
_HERE = str(Path(__file__).resolve().parent)
sys.path[:] = [entry for entry in sys.path if entry not in (_HERE,)]
if str(Path(_HERE).parent) not in sys.path:
    sys.path.insert(0, str(Path(_HERE).parent))

from jobs.cli import app  # noqa: E402 - the path must be right first

if __name__ == "__main__":
    app()
