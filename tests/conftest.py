"""What all tests share."""

import os

from hypothesis import HealthCheck, settings

# How long one example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("thorough", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=100)
# What a change is judged by must not depend on luck: the same examples each time. `make slow` looks for new ones.
settings.register_profile("same", settings.get_profile("thorough"), derandomize=True, max_examples=33)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
