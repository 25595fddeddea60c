# The public functions, as `tapegrad/__init__.pyi` types them.

from tapegrad import *  # noqa: F403 - all of them
