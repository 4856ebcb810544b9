"""What all tests share."""

from hypothesis import settings

# Machines that run these tests may be busy: slowness is not an error, a wrong result is.
settings.register_profile("seesaw", deadline=None)
settings.load_profile("seesaw")
