"""The exception that stands for a mistake its reader can mend, and the one for a sample among many."""


class BadSampleError(Exception):
    """A sample that cannot be read; the message is the reason, without the sample's name."""


class UserError(Exception):
    """Something the user can mend: a file, a recipe key, a device.

    The message names the file, key or value and the remedy. The command line prints it without a traceback and
    exits with 2; a library caller catches this one type.

    Args:
        message: What is wrong, and the remedy.
        shared: Every training process raises this same error; the first one speaks for all.
    """

    def __init__(self, message: str, *, shared: bool = False) -> None:
        super().__init__(message)
        self.shared = shared
