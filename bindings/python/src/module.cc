// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/c/penstock.h"
#include "bindings/python/src/bindings.h"

// The module under the package penstock: a thin layer on the C ABI, which is all that it links.
PYBIND11_MODULE(_penstock, module) {
  module.doc() = "The C ABI of Penstock as Python objects; import penstock, not this.";
  module.def("version", &penstock_version,
             "The version of libpenstock: major*10000 + minor*100 + patch.");
  penstock::python::bind_requests(module);
  penstock::python::bind_roles(module);
  penstock::python::bind_worker(module);
  penstock::python::bind_mailbox(module);
}
