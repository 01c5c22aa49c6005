"""What holds for all tests."""

from hypothesis import settings

# Time is measured by benchmarks. An example that takes long says that the machine is busy.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
