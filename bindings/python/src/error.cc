// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/python/src/error.h"

#include <pybind11/pybind11.h>

#include "bindings/c/penstock.h"

namespace py = pybind11;

namespace penstock::python {
namespace {

[[noreturn]] void raise_with(int status, const std::string& sentence, const std::string& peer) {
  const py::object made =
      py::module_::import("penstock.errors").attr("from_status")(status, sentence, peer);
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(made.ptr())), made.ptr());
  throw py::error_already_set();
}

}  // namespace

void check(int status) {
  if (status != PENSTOCK_OK) raise_with(status, penstock_last_error(), penstock_last_error_peer());
}

void raise(int status, const std::string& sentence) { raise_with(status, sentence, ""); }

}  // namespace penstock::python
