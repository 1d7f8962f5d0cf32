"""What code of ours does for itself in a worker: of Spark or of the API."""

import gc
import sys
from zipimport import zipimporter


def forget_archives() -> None:
    """Leave no archive among the places that Python has looked for modules in; an import finds it again.

    Before every task a worker calls `importlib.invalidate_caches`, and Python up to 3.12 then reads the whole
    directory of each zip and jar on its path anew, a dozen times over: 0.2 s of CPU, ten times what judging
    some hundred records takes. What an executor was given never changes, so nothing is missed.
    """
    for place, finder in list(sys.path_importer_cache.items()):
        if isinstance(finder, zipimporter):
            del sys.path_importer_cache[place]


def keep_for_good() -> None:
    """What has been loaded and made so far stays: the garbage collector need not visit it again and again."""
    gc.collect()
    gc.freeze()
