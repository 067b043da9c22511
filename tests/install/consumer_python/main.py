# SPDX-FileCopyrightText: The Penstock authors
# SPDX-License-Identifier: Apache-2.0
"""main.py PACKAGE LIBRARIES PYPROJECT: somebody else's program, with the package that is installed in
the folder PACKAGE and its libpenstock.so in LIBRARIES."""
import pathlib
import re
import sys

import numpy
import penstock

expected, libraries, project = map(pathlib.Path, sys.argv[1:])
package = pathlib.Path(penstock.__file__).parent
assert package == expected, package
assert (package / "py.typed").exists() and (package / "_penstock.pyi").exists()
assert (package / "torch" / "optimizer.py").exists()
version = re.search(r'^version = "(.*?)"', project.read_text(encoding="utf-8"), re.MULTILINE)
assert version.group(1) == penstock.__version__, (version, penstock.__version__)

options = {"insecure": True, "transport": "tcp"}
with penstock.Scheduler(**options) as scheduler, \
     penstock.Server(scheduler=scheduler.address, **options), \
     penstock.Worker(scheduler=scheduler.address, **options) as worker:
    gradients, parameters = numpy.ones(100, "float32"), numpy.zeros(100, "float32")
    worker.declare([penstock.Tensor(1, gradients, parameters, optimizer="sgd:learning_rate=0.5")])
    worker.push_pull(1, 1)
    worker.wait(1, 1)
assert (parameters == -0.5).all(), parameters
with open("/proc/self/maps", encoding="ascii") as maps:
    loaded = {pathlib.Path(line.split()[-1]).parent for line in maps if "libpenstock.so" in line}
assert loaded == {libraries.resolve()}, loaded
print("penstock", penstock.__version__, "from", package)
