"""The one exception for input that the user can fix.

Its message is a single sentence that names the file, person or config key and says what to do. The command line prints
the message alone and exits with code 2; any other exception is a bug of ours and keeps its traceback.
"""


class InputError(ValueError):
    """A file, manifest, label or setting is unusable; the message says which and how to fix it."""
