"""Examples are many and machines are busy: no example fails for its wall-clock time.

The same examples come in every run, so that a change is judged by itself; `HYPOTHESIS_PROFILE=fuzz`
draws new ones.
"""

import os

from hypothesis import settings

settings.register_profile("same", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
