"""A module that takes a while to import."""

import time

SECONDS = 3.0
time.sleep(SECONDS)
