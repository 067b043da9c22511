// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/python/src/options.h"

#include <string>

#include "bindings/python/src/error.h"

namespace py = pybind11;

namespace penstock::python {

std::string option_text(py::handle value) {
  if (py::isinstance<py::bool_>(value)) return value.cast<bool>() ? "1" : "0";
  if (py::isinstance<py::list>(value) || py::isinstance<py::tuple>(value)) {
    std::string text;
    for (const py::handle item : value) {
      if (!text.empty()) text += ',';
      text += option_text(item);
    }
    return text;
  }
  return py::str(value);
}

Options::Options(const py::kwargs& given) {
  check(penstock_options_create(&options_));
  try {
    set("timeout_ms", std::to_string(timeout_ms_));
    for (const auto& [name, value] : given)
      if (!value.is_none()) set(name.cast<std::string>().c_str(), option_text(value));
    if (given.contains("timeout_ms") && !given["timeout_ms"].is_none())
      timeout_ms_ = std::stoll(option_text(given["timeout_ms"]));
  } catch (...) {
    penstock_options_destroy(options_);
    throw;
  }
}

Options::~Options() { penstock_options_destroy(options_); }

void Options::set(const char* name, const std::string& value) {
  check(penstock_options_set(options_, name, value.c_str()));
}

}  // namespace penstock::python
