// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

// Other people's measuring programs, run beside ours when they are installed.

#include <string>
#include <vector>

#include "transport/base/status.h"

namespace penstock::psbench {

bool installed(const std::string& program);
int free_port();  // of the loopback interface, free when we looked; 0 if there is none

// What a shell command prints; "" when it cannot be run.
std::string output_of(const std::string& command);

// Runs `program` with `arguments` as a server and, until it answers, `client` (a shell command that
// must end by itself). Returns the client's output once `useful` accepts it. kNotFound when the
// program is not installed, kTimeout when nothing useful came.
Result<std::string> ask_server(const std::string& program, std::vector<std::string> arguments,
                               const std::string& client, bool (*useful)(const std::string&));

// What perftest's or UCX's own program reaches on this host, for the same operation and size.
// `operation`: "write", "read" or "send". kNotFound when the program is not installed.
Result<double> perftest_GBps(const std::string& operation, std::uint64_t bytes,
                             std::uint64_t messages, bool two_way);
Result<double> perftest_latency_us(const std::string& operation, std::uint64_t bytes,
                                   std::uint64_t messages);
Result<double> ucx_perftest_GBps(std::uint64_t bytes, std::uint64_t messages);
Result<double> ucx_perftest_latency_us(std::uint64_t bytes, std::uint64_t messages);

// GB/s of iperf3 with so many streams over the loopback interface.
Result<double> iperf3_GBps(unsigned streams);

}  // namespace penstock::psbench
