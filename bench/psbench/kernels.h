// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// `psbench kernels`: what the fused update reaches of the memory's read bandwidth, as a table
// optimizer × dtype × workers × CPU target. bench/kernels measures.

#include <string>

namespace CLI {
class App;
}

namespace penstock::psbench {

struct KernelsOptions {
  // Lists with commas; see kernel_lists.h.
  std::string optimizers = "all";
  std::string dtypes = "fp32,bf16";
  std::string workers = "1,8";
  std::string targets = "best";
  std::string elements = "16M";
  unsigned repeats = 7;
  std::string json;
};

// Adds the command to `app`; parsing fills `options`, which must live as long.
CLI::App* add_kernels_command(CLI::App& app, KernelsOptions& options);

// Measures and prints; returns an ExitCode.
int run_kernels(const KernelsOptions& options);

}  // namespace penstock::psbench
