// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/launch/launch.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "bindings/launch/local_job.h"
#include "transport/control/secret.h"

namespace penstock::launch {
namespace {

constexpr const char* kHost = "127.0.0.1";

Result<std::uint16_t> free_port() {
  const UniqueFd probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  inet_pton(AF_INET, kHost, &address.sin_addr);
  socklen_t length = sizeof address;
  if (!probe.valid() ||
      bind(probe.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      getsockname(probe.get(), reinterpret_cast<sockaddr*>(&address), &length) != 0)
    return Status::system("cannot find a free port", errno);
  return ntohs(address.sin_port);
}

// A folder of the job's own, with its secret; gone with the object.
class JobFolder {
 public:
  static Result<JobFolder> make() {
    std::string path = (std::filesystem::temp_directory_path() / "penstock-XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) return Status::system("cannot make a folder", errno);
    JobFolder folder(path);
    PENSTOCK_RETURN_IF_ERROR(Secret::random().write_file(folder.secret()));
    return folder;
  }
  JobFolder(JobFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  JobFolder& operator=(JobFolder&&) = delete;
  ~JobFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  std::string secret() const { return path_ + "/secret"; }

 private:
  explicit JobFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

Status start_all(LocalJob& job, const LaunchOptions& options, const Environment& common) {
  const auto start = [&](const std::string& role, std::uint32_t rank, bool ranked) {
    Environment variables = common;
    variables.emplace_back("DMLC_ROLE", role);
    if (ranked) variables.emplace_back("DMLC_RANK", std::to_string(rank));
    return job.start(ranked ? fmt::format("{} {}", role, rank) : role, options.program, variables);
  };
  PENSTOCK_RETURN_IF_ERROR(start("scheduler", 0, false));
  for (std::uint32_t rank = 0; rank < options.joint; ++rank)
    PENSTOCK_RETURN_IF_ERROR(start("joint", rank, true));
  if (options.joint > 0) return {};
  for (std::uint32_t rank = 0; rank < options.servers; ++rank)
    PENSTOCK_RETURN_IF_ERROR(start("server", rank, true));
  for (std::uint32_t rank = 0; rank < options.workers; ++rank)
    PENSTOCK_RETURN_IF_ERROR(start("worker", rank, true));
  return {};
}

std::string words_of(const LocalJob::End& end) {
  if (!end.exit) return "would not end";
  const std::string how = end.exit->signal != 0
                              ? fmt::format("killed by signal {}", end.exit->signal)
                              : fmt::format("exit code {}", end.exit->code);
  return end.told ? "was still running; " + how : how;
}

// Whether all was good; says what was not.
bool report(const std::vector<LocalJob::End>& ends) {
  bool good = true;
  for (const LocalJob::End& end : ends) good = good && end.good();
  if (good) return true;
  for (const LocalJob::End& end : ends)
    fmt::print(stderr, "penstock launch: {}: {}\n", end.name, words_of(end));
  return false;
}

LaunchExit complain(const Status& status, LaunchExit exit) {
  fmt::print(stderr, "penstock launch: {}\n", status.to_string());
  return exit;
}

TimeNs seconds(double s) { return static_cast<TimeNs>(s * static_cast<double>(kSecond)); }

}  // namespace

LaunchExit run_local(const LaunchOptions& options) {
  Result<std::uint16_t> port = free_port();
  if (!port.ok()) return complain(port.status(), kLaunchEnvironment);
  Result<JobFolder> folder = JobFolder::make();
  if (!folder.ok()) return complain(folder.status(), kLaunchEnvironment);

  const std::uint32_t workers = options.joint > 0 ? options.joint : options.workers;
  const std::uint32_t servers = options.joint > 0 ? options.joint : options.servers;
  const Environment common{{"DMLC_NUM_WORKER", std::to_string(workers)},
                           {"DMLC_NUM_SERVER", std::to_string(servers)},
                           {"DMLC_PS_ROOT_URI", kHost},
                           {"DMLC_PS_ROOT_PORT", std::to_string(*port)},
                           {"DMLC_NODE_HOST", kHost},
                           {kSecretFileVariable, folder->secret()}};
  const TimeNs deadline_ns = SystemClock().now_ns() + seconds(options.timeout_s);
  LocalJob job;
  if (const Status started = start_all(job, options, common); !started.ok())
    return complain(started, kLaunchEnvironment);
  const Status ran = job.run(deadline_ns, seconds(options.grace_s));
  const bool good = report(job.ends());
  if (ran.code() == Code::kTimeout) return complain(ran, kLaunchTimeout);
  if (!ran.ok()) return complain(ran, kLaunchFailed);
  return good ? kLaunchGood : kLaunchFailed;
}

}  // namespace penstock::launch
