// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// `psbench raw`: without --transport the ceilings alone (raw TCP streams and memory); with it, what
// posts of that transport reach between two processes of this host, without the engine.

#include <cstdint>
#include <string>
#include <vector>

#include "transport/providers.h"

namespace CLI {
class App;
}

namespace penstock::psbench {

struct RawOptions {
  std::string bytes = "256M";
  unsigned streams = 1;
  unsigned rounds = 5;
  unsigned seconds = 60;  // deadline of each measurement

  std::string transport;  // empty: the ceilings
  DataOptions data;
  std::vector<std::string> operations{"write", "write-imm"};
  std::vector<std::string> modes{"bw", "lat"};
  std::string sizes = "8,256,4K,64K,1M";
  std::uint64_t messages = 0;  // 0: by size
  std::uint32_t depth = 128;
  bool two_way = false;
  bool peers = false;
  std::string json;
};

// Adds the command to `app`; parsing fills `options`, which must live as long.
CLI::App* add_raw_command(CLI::App& app, RawOptions& options);

// Measures and prints; returns an ExitCode.
int run_raw(const RawOptions& options);

}  // namespace penstock::psbench
