"""An import hook that raises: imported first in a process, it proves that nothing there imports what it names."""

import importlib.abc
import os
import sys


class Forbidden(importlib.abc.MetaPathFinder):
    """Raises when one of the packages is imported; asking whether it could be found is allowed, and answered with no."""

    def __init__(self, packages):
        self._packages = packages

    def find_spec(self, name, path, target=None):
        if name.split(".")[0] not in self._packages:
            return None
        caller = sys._getframe(1)
        while caller:
            if caller.f_code.co_name == "find_spec" and "importlib.util" in caller.f_code.co_filename.replace(os.sep, "."):
                return None
            caller = caller.f_back
        raise AssertionError(f"imported {name}")


sys.meta_path.insert(0, Forbidden(os.environ.get("FORBIDDEN", "tensorflow").split(",")))
