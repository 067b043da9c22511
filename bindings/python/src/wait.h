// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Waits of the C ABI without the GIL, so that other threads run, and in pieces, so that Ctrl-C and
// other signals are seen.

#include <pybind11/pybind11.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "bindings/c/penstock.h"
#include "bindings/python/src/error.h"

namespace penstock::python {

// The process that starts a role is the one that has its threads; a fork has a copy without them.
class Owner {
 public:
  Owner() : process_(::getpid()) {}
  bool here() const { return ::getpid() == process_; }
  // Raises in any other process. `what`: "this worker".
  void check(const char* what) const {
    if (here()) return;
    raise(PENSTOCK_INVALID_ARGUMENT,
          std::string(what) + " belongs to process " + std::to_string(process_) +
              ", which this one was forked from; start one here, or start processes by \"spawn\"");
  }

 private:
  pid_t process_;
};

// How long a signal may go unseen.
inline constexpr std::int64_t kPieceMs = 100;

// Seconds as Python gives them; none: `otherwise_ms`. ValueError below 0 or for a NaN. Infinity is
// allowed: for ever, but interruptibly.
std::int64_t timeout_ms(std::optional<double> timeout_s, std::int64_t otherwise_ms);

// Calls `body()`, which returns a penstock_status, without the GIL, and raises unless it is OK.
template <class Body>
void without_gil(const Body& body) {
  int status = PENSTOCK_OK;
  {
    const pybind11::gil_scoped_release released;
    status = body();
  }
  check(status);
}

// The same for `wait(piece_ms)`, again and again until it is anything but PENSTOCK_TIMEOUT or
// `limit_ms` are over.
template <class Wait>
void wait_in_pieces(std::int64_t limit_ms, const Wait& wait) {
  const auto start = std::chrono::steady_clock::now();
  std::int64_t left_ms = limit_ms;
  while (true) {
    int status = PENSTOCK_OK;
    {
      const pybind11::gil_scoped_release released;
      status = wait(std::min(left_ms, kPieceMs));
    }
    if (status == PENSTOCK_OK) return;
    if (status == PENSTOCK_TIMEOUT) {
      const auto passed = std::chrono::steady_clock::now() - start;
      left_ms = limit_ms - std::chrono::duration_cast<std::chrono::milliseconds>(passed).count();
    }
    if (status != PENSTOCK_TIMEOUT || left_ms <= 0) check(status);
    if (PyErr_CheckSignals() != 0) throw pybind11::error_already_set();
  }
}

}  // namespace penstock::python
