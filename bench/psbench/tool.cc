// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/tool.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <sstream>

#include "bindings/launch/child_process.h"

namespace penstock::psbench {
namespace {

constexpr int kAttempts = 20;  // a server takes a moment to listen
constexpr int kAttemptDelayMs = 100;

int run_server(const std::string& program, std::vector<std::string>& arguments) {
  const int null = ::open("/dev/null", O_WRONLY);
  ::dup2(null, STDOUT_FILENO);
  ::dup2(null, STDERR_FILENO);
  arguments.insert(arguments.begin(), program);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  ::execvp(program.c_str(), argv.data());
  return 127;
}

// The numbers of the first line that starts with `first`.
std::vector<double> row(const std::string& text, const std::string& first) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word;
    if (!(words >> word) || word != first) continue;
    std::vector<double> numbers;
    for (double number = 0; words >> number;) numbers.push_back(number);
    return numbers;
  }
  return {};
}

Result<double> run_perftest(const std::string& program, const std::vector<std::string>& options,
                            std::uint64_t bytes, std::size_t column) {
  std::vector<std::string> arguments = options;
  const std::string port = std::to_string(free_port());
  arguments.insert(arguments.end(), {"-F", "-s", std::to_string(bytes), "-p", port});
  const std::string client =
      fmt::format("timeout 30 {} {} 127.0.0.1 2>/dev/null", program, fmt::join(arguments, " "));
  PENSTOCK_ASSIGN_OR_RETURN(const std::string text,
                            ask_server(program, arguments, client, [](const std::string& output) {
                              return output.find("#bytes") != std::string::npos;
                            }));
  const std::vector<double> numbers = row(text, std::to_string(bytes));
  if (numbers.size() <= column || numbers[column] <= 0)
    return Status(Code::kProtocol, program + " printed no figure where it usually does");
  return numbers[column];
}

Result<std::vector<double>> run_ucx_perftest(const std::string& test, std::uint64_t bytes,
                                             std::uint64_t messages) {
  const std::string port = std::to_string(free_port());
  const std::vector<std::string> arguments{
      "-p", port, "-t", test, "-f", "-s", std::to_string(bytes), "-n", std::to_string(messages)};
  const std::string client =
      fmt::format("timeout 30 ucx_perftest {} 127.0.0.1 2>/dev/null", fmt::join(arguments, " "));
  PENSTOCK_ASSIGN_OR_RETURN(
      const std::string text,
      ask_server("ucx_perftest", {"-p", port}, client, [](const std::string& output) {
        return output.find("Final:") != std::string::npos;
      }));
  return row(text, "Final:");
}

}  // namespace

bool installed(const std::string& program) { return !output_of("command -v " + program).empty(); }

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

Result<std::string> ask_server(const std::string& program, std::vector<std::string> arguments,
                               const std::string& client, bool (*useful)(const std::string&)) {
  if (!installed(program)) return Status(Code::kNotFound, program + " is not installed");
  PENSTOCK_ASSIGN_OR_RETURN(const ChildProcess server,
                            ChildProcess::start([&] { return run_server(program, arguments); }));
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    ::poll(nullptr, 0, kAttemptDelayMs);
    std::string text = output_of(client);
    if (useful(text)) return text;
  }
  return Status(Code::kTimeout, program + " gave no figure");
}

Result<double> perftest_GBps(const std::string& operation, std::uint64_t bytes,
                             std::uint64_t messages, bool two_way) {
  std::vector<std::string> options{"-n", std::to_string(messages), "--report_gbits"};
  if (two_way) options.emplace_back("-b");
  // "#bytes #iterations BW peak BW average MsgRate"
  PENSTOCK_ASSIGN_OR_RETURN(const double gbits,
                            run_perftest(fmt::format("ib_{}_bw", operation), options, bytes, 2));
  return gbits / 8 / (two_way ? 2 : 1);
}

Result<double> perftest_latency_us(const std::string& operation, std::uint64_t bytes,
                                   std::uint64_t messages) {
  // "#bytes #iterations t_min t_max t_typical …"
  return run_perftest(fmt::format("ib_{}_lat", operation), {"-n", std::to_string(messages)}, bytes,
                      3);
}

// "Final: #iter latency(typical, average, overall) MB/s(average, overall) …", MB = 2^20 bytes.
Result<double> ucx_perftest_GBps(std::uint64_t bytes, std::uint64_t messages) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<double> final,
                            run_ucx_perftest("ucp_am_bw", bytes, messages));
  if (final.size() < 6) return Status(Code::kProtocol, "ucx_perftest printed no bandwidth");
  return final[5] * 1048576 / 1e9;
}

Result<double> ucx_perftest_latency_us(std::uint64_t bytes, std::uint64_t messages) {
  PENSTOCK_ASSIGN_OR_RETURN(const std::vector<double> final,
                            run_ucx_perftest("ucp_am_lat", bytes, messages));
  if (final.size() < 4) return Status(Code::kProtocol, "ucx_perftest printed no latency");
  return final[3];
}

Result<double> iperf3_GBps(unsigned streams) {
  const std::string port = std::to_string(free_port());
  const std::string client =
      fmt::format("timeout 10 iperf3 -c 127.0.0.1 -p {} -P {} -t 2 -J 2>/dev/null", port, streams);
  static const auto rate = nlohmann::json::json_pointer("/end/sum_received/bits_per_second");
  const auto useful = [](const std::string& text) {
    const nlohmann::json report = nlohmann::json::parse(text, nullptr, false);
    return !report.is_discarded() && report.contains(rate);
  };
  PENSTOCK_ASSIGN_OR_RETURN(
      const std::string text,
      ask_server("iperf3", {"-s", "-1", "-B", "127.0.0.1", "-p", port}, client, useful));
  return nlohmann::json::parse(text).at(rate).get<double>() / 8e9;
}

}  // namespace penstock::psbench
