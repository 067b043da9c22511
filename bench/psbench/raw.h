// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// `psbench raw`: the ceilings alone, without Penstock.

#include <string>

namespace CLI {
class App;
}

namespace penstock::psbench {

struct RawOptions {
  std::string bytes = "256M";
  unsigned streams = 1;
  unsigned rounds = 5;
  unsigned seconds = 60;  // deadline of each measurement
};

// Adds the command to `app`; parsing fills `options`, which must live as long.
CLI::App* add_raw_command(CLI::App& app, RawOptions& options);

// Measures and prints; returns an ExitCode.
int run_raw(const RawOptions& options);

}  // namespace penstock::psbench
