// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bench/psbench/report_pipe.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <nlohmann/json.hpp>

namespace penstock::psbench {
namespace {

using Json = nlohmann::json;

const Status kNoReport(Code::kPeerLost, "the process ended without a report");

Json json_of(const Status& status) {
  return {{"code", static_cast<int>(status.code())},
          {"what", status.what()},
          {"peer", status.peer()},
          {"hint", status.hint()},
          {"system", status.system_error()}};
}

Status status_of(const Json& json) {
  const auto code = static_cast<Code>(json.at("code").get<int>());
  if (code == Code::kOk) return {};
  return Status(code, json.at("what").get<std::string>())
      .with_peer(json.at("peer").get<std::string>())
      .with_hint(json.at("hint").get<std::string>())
      .with_system(json.at("system").get<int>());
}

Json json_of(const std::vector<Counter>& counters) {
  Json json = Json::object();
  for (const Counter& counter : counters) json[counter.name] = counter.value;
  return json;
}

std::vector<Counter> counters_of(const Json& json) {
  std::vector<Counter> counters;
  for (const auto& [name, value] : json.items())
    counters.push_back({name, value.get<std::uint64_t>()});
  return counters;
}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// `read` turns the parsed text into a report; what is not whole becomes `otherwise`.
template <class Report, class Read>
Report parse(const std::string& text, Report otherwise, Read read) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) return otherwise;
  return read(json);
}

}  // namespace

Result<Pipe> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return Status::system("make a pipe", errno);
  Pipe pipe{UniqueFd(fds[0]), UniqueFd(fds[1])};
  ::fcntl(fds[0], F_SETFL, O_NONBLOCK);
  return pipe;
}

void write_all(int fd, const std::string& text) {
  std::size_t done = 0;
  while (done < text.size()) {
    const ssize_t wrote = ::write(fd, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return;  // the parent is gone
    done += static_cast<std::size_t>(wrote);
  }
}

bool read_some(int fd, std::string& text) {
  char buffer[65536];
  while (true) {
    const ssize_t got = ::read(fd, buffer, sizeof buffer);
    if (got > 0) text.append(buffer, static_cast<std::size_t>(got));
    if (got == 0) return false;
    if (got < 0 && errno == EAGAIN) return true;
    if (got < 0 && errno != EINTR) return false;
  }
}

std::string to_text(const Status& status) { return dump(json_of(status)); }

std::string to_text(const WorkerReport& report) {
  return dump({{"status", json_of(report.status)},
               {"round_us", report.round_us},
               {"wrong", report.wrong},
               {"first_wrong", report.first_wrong},
               {"counters", json_of(report.counters)}});
}

std::string to_text(const ServerReport& report) {
  return dump({{"status", json_of(report.status)},
               {"planned_bytes", report.planned_bytes},
               {"resident_bytes", report.resident_bytes},
               {"counters", json_of(report.counters)}});
}

Status status_report(const std::string& text) {
  return parse(text, kNoReport, [](const Json& json) { return status_of(json); });
}

WorkerReport worker_report(const std::string& text) {
  WorkerReport none;
  none.status = kNoReport;
  return parse(text, none, [](const Json& json) {
    WorkerReport report;
    report.status = status_of(json.at("status"));
    report.round_us = json.at("round_us").get<std::vector<double>>();
    report.wrong = json.at("wrong").get<std::uint64_t>();
    report.first_wrong = json.at("first_wrong").get<std::string>();
    report.counters = counters_of(json.at("counters"));
    return report;
  });
}

ServerReport server_report(const std::string& text) {
  ServerReport none;
  none.status = kNoReport;
  return parse(text, none, [](const Json& json) {
    ServerReport report;
    report.status = status_of(json.at("status"));
    report.planned_bytes = json.at("planned_bytes").get<std::uint64_t>();
    report.resident_bytes = json.at("resident_bytes").get<std::uint64_t>();
    report.counters = counters_of(json.at("counters"));
    return report;
  });
}

}  // namespace penstock::psbench
