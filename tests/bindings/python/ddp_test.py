# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""DistributedDataParallel whose gradients the servers average, in two processes."""
import os
import subprocess
import sys
import tempfile
import unittest

import torch_missing  # noqa: F401
import torch
import torch.distributed

import job
import penstock

DEADLINE_S = 100


@unittest.skipUnless(torch.distributed.is_available(), "this PyTorch has no torch.distributed")
class Hook(unittest.TestCase):
    def test_gives_the_gradients_that_ddp_gives(self):
        with tempfile.TemporaryDirectory() as folder, \
             penstock.Scheduler(workers=2, servers=2, **job.OPTIONS) as scheduler, \
             penstock.Server(scheduler=scheduler.address, **job.OPTIONS), \
             penstock.Server(scheduler=scheduler.address, **job.OPTIONS):
            ranks = [subprocess.Popen(
                [sys.executable, "ddp_rank.py", str(rank), os.path.join(folder, "store"),
                 scheduler.address], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True) for rank in range(2)]
            try:
                printed = [rank.communicate(timeout=DEADLINE_S)[0] for rank in ranks]
            finally:
                for rank in ranks:
                    rank.kill()
                    rank.wait()
            for rank, text in zip(ranks, printed):
                self.assertEqual(rank.returncode, 0, text)
                self.assertIn("equal: 6 passes, one of them spoilt", text)


if __name__ == "__main__":
    unittest.main()
