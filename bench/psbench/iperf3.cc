// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/iperf3.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "bench/psbench/child_process.h"

namespace penstock::psbench {
namespace {

// Free when we looked.
int free_port() {
  const UniqueFd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (::bind(probe.get(), any, length) != 0 || ::getsockname(probe.get(), any, &length) != 0)
    return 0;
  return ntohs(address.sin_port);
}

std::string output_of(const std::string& command) {
  std::string text;
  if (std::FILE* pipe = ::popen(command.c_str(), "r")) {
    char buffer[4096];
    while (const std::size_t got = std::fread(buffer, 1, sizeof buffer, pipe))
      text.append(buffer, got);
    ::pclose(pipe);
  }
  return text;
}

}  // namespace

Result<double> measure_iperf3(unsigned streams) {
  if (output_of("command -v iperf3").empty())
    return Status(Code::kNotFound, "iperf3 is not installed");
  const std::string port = std::to_string(free_port());
  PENSTOCK_ASSIGN_OR_RETURN(const ChildProcess server, ChildProcess::start([&port] {
                              const int null = ::open("/dev/null", O_WRONLY);
                              ::dup2(null, STDOUT_FILENO);
                              ::dup2(null, STDERR_FILENO);
                              ::execlp("iperf3", "iperf3", "-s", "-1", "-B", "127.0.0.1", "-p",
                                       port.c_str(), static_cast<char*>(nullptr));
                              return 1;
                            }));
  const std::string client =
      fmt::format("timeout 10 iperf3 -c 127.0.0.1 -p {} -P {} -t 2 -J 2>/dev/null", port, streams);
  for (int attempt = 0; attempt < 20; ++attempt) {
    const nlohmann::json report = nlohmann::json::parse(output_of(client), nullptr, false);
    const auto rate = nlohmann::json::json_pointer("/end/sum_received/bits_per_second");
    if (!report.is_discarded() && report.contains(rate)) return report.at(rate).get<double>() / 8e9;
    ::poll(nullptr, 0, 100);  // the server is not listening yet
  }
  return Status(Code::kTimeout, "iperf3 gave no figure");
}

}  // namespace penstock::psbench
