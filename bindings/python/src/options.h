// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

#include "bindings/c/penstock.h"

namespace penstock::python {

// Keyword arguments as options of the C ABI: True and False as 1 and 0, sequences joined by commas,
// None left out, everything else as str().
class Options {
 public:
  explicit Options(const pybind11::kwargs& given);
  ~Options();
  Options(const Options&) = delete;
  Options& operator=(const Options&) = delete;

  penstock_options* get() const { return options_; }
  std::int64_t timeout_ms() const { return timeout_ms_; }  // of every call

 private:
  void set(const char* name, const std::string& value);

  penstock_options* options_ = nullptr;
  std::int64_t timeout_ms_ = 30'000;  // the same as the library's, which cannot be asked
};

// A value as the C ABI writes it.
std::string option_text(pybind11::handle value);

}  // namespace penstock::python
