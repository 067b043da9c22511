# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""Skips a whole file, with the reason, where PyTorch is not installed."""
import unittest

try:
    import torch  # noqa: F401
except ImportError as error:
    raise unittest.SkipTest(f"{error}; install python3-torch") from error
