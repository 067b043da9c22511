// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// What the ucx provider leaves of UCX: the same bytes between two pinned processes through
// endpoints and through ucx_perftest's active messages, interleaved, median of repeats.
//
//   ucx_bench [repeats=5] [mib=256] [transports…]     transports as in UCX_TLS
//
// Both sides spin, keep as many messages outstanding, reuse one buffer and ask for endpoints with
// error handling (ucx_perftest -e). Bar: ≥ 0.90 of ucx_perftest at ≥ 64 KiB. The last line says
// whether it was met; exit 3 if not, 77 where UCX or ucx_perftest is absent.

#include <fmt/format.h>
#include <sched.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "transport/providers.h"

namespace penstock::bench {
namespace {

// In flight, for both: enough that neither waits for the other to be scheduled.
constexpr std::size_t kWindowBytes = std::size_t{64} << 20;
constexpr std::size_t kLeastWindow = 16, kMostWindow = 1024;
constexpr double kBar = 0.90;
constexpr std::size_t kWarmUp = 64;
constexpr double kMebibyte = 1 << 20;

struct Job {  // what the sending process is told
  std::size_t bytes = 0;
  std::size_t count = 0;
  Token token{};
  RemoteRegion region;
};

std::size_t window(std::size_t bytes) {
  return std::clamp(kWindowBytes / bytes, kLeastWindow, kMostWindow);
}

void pin(unsigned index) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(index % std::thread::hardware_concurrency(), &one);
  CHECK(sched_setaffinity(0, sizeof one, &one) == 0);
}

// Over the transports of UCX_TLS.
std::unique_ptr<Device> open(const Clock& clock) {
  DeviceOptions options;
  options.provider = "ucx";
  Result<std::unique_ptr<Device>> device = open_device(options, clock);
  if (device.ok()) return std::move(device).value();
  fmt::print(stderr, "{}\n", device.status().to_string());
  std::exit(77);
}

// Posts `count` writes with immediates, window() outstanding, and returns the seconds they took.
double send_all(Endpoint& endpoint, CompletionQueue& queue, const Clock& clock, WorkRequest write,
                std::size_t count) {
  const TimeNs start_ns = clock.now_ns();
  std::array<Completion, 64> out;
  for (std::size_t posted = 0, done = 0; done < count;) {
    for (; posted < count && posted - done < window(write.length); ++posted)
      CHECK(endpoint.post(write).ok(), "{}", endpoint.status().to_string());
    const std::size_t taken = queue.poll(out);
    for (std::size_t i = 0; i < taken; ++i) {
      CHECK(out[i].code == Code::kOk, "{}", endpoint.status().to_string());
      done += out[i].event == Event::kWriteDone;
    }
  }
  return static_cast<double>(clock.now_ns() - start_ns) / 1e9;
}

// The sending process: the job comes on standard input, the figure goes to standard output.
int run_sender(const std::string& address) {
  pin(0);
  Job job;
  if (::read(STDIN_FILENO, &job, sizeof job) != sizeof job) return 1;
  const SystemClock clock;
  const auto device = open(clock);
  const auto queue = device->create_completion_queue(256).value();
  std::vector<std::byte> bytes(job.bytes, std::byte{1});
  const auto source = device->register_memory(bytes, MemoryKind::kHost, Access::kLocal).value();
  EndpointOptions options;
  options.token = job.token;
  const auto endpoint = device->connect(*queue, address, options).value();
  std::array<Completion, 1> first;
  while (queue->poll(first) == 0) {
  }
  CHECK(endpoint->connected(), "{}", endpoint->status().to_string());
  WorkRequest write;
  write.has_immediate = true;
  write.local = source.get();
  write.length = job.bytes;
  write.remote = &job.region;
  (void)send_all(*endpoint, *queue, clock, write, kWarmUp);
  const double seconds = send_all(*endpoint, *queue, clock, write, job.count);
  const bool told = ::write(STDOUT_FILENO, &seconds, sizeof seconds) == sizeof seconds;
  return told ? 0 : 1;
}

struct Pipe {
  Pipe() { CHECK(::pipe(ends.data()) == 0); }
  ~Pipe() {
    for (const int end : ends) ::close(end);
  }
  std::array<int, 2> ends{};
};

pid_t start(std::vector<std::string> words, int in, int out) {
  posix_spawn_file_actions_t actions;
  CHECK(::posix_spawn_file_actions_init(&actions) == 0);
  CHECK(::posix_spawn_file_actions_adddup2(&actions, in, STDIN_FILENO) == 0);
  CHECK(::posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO) == 0);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t pid = -1;
  const int error =
      ::posix_spawnp(&pid, arguments[0], &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  return error == 0 ? pid : -1;
}

// MiB/s of the provider: this process receives, a second one sends.
double measure_penstock(std::size_t bytes, std::size_t count) {
  const SystemClock clock;
  const auto device = open(clock);
  const auto queue = device->create_completion_queue(256).value();
  std::vector<std::byte> target(bytes, std::byte{2});
  const auto region =
      device->register_memory(target, MemoryKind::kHost, Access::kRemoteWrite).value();
  EndpointOptions options;
  options.token = random_token();
  const auto endpoint = device->accept(*queue, options).value();
  const Pipe orders, result;
  const Job job{
      .bytes = bytes, .count = count, .token = options.token, .region = region->describe()};
  CHECK(::write(orders.ends[1], &job, sizeof job) == sizeof job);
  const pid_t sender =
      start({"/proc/self/exe", "--send", device->address()}, orders.ends[0], result.ends[1]);
  CHECK(sender > 0);
  std::array<Completion, 64> out;
  for (bool over = false; !over;) {
    if (!endpoint->connected()) device->progress();
    const std::size_t taken = queue->poll(out);
    for (std::size_t i = 0; i < taken; ++i) over |= out[i].event == Event::kDisconnected;
  }
  int status = 0;
  CHECK(::waitpid(sender, &status, 0) == sender && status == 0, "the sender failed");
  double seconds = 0;
  CHECK(::read(result.ends[0], &seconds, sizeof seconds) == sizeof seconds);
  return static_cast<double>(bytes) * static_cast<double>(count) / kMebibyte / seconds;
}

// MiB/s of ucx_perftest, whose client prints it in the sixth column of its last line.
double measure_perftest(std::size_t bytes, std::size_t count) {
  static unsigned port = 20'000 + static_cast<unsigned>(::getpid()) % 20'000;
  const std::string at = fmt::format("{}", ++port);
  const Pipe ignored;
  const pid_t server = start({"ucx_perftest", "-p", at, "-c", "1"}, 0, ignored.ends[1]);
  if (server < 0) std::exit(77);
  const std::string client = fmt::format(
      "ucx_perftest 127.0.0.1 -p {} -c 0 -t ucp_am_bw -e -O {} -s {} -n {} -w {} -f -v 2>/dev/null",
      at, window(bytes), bytes, count, kWarmUp);
  double rate = 0;
  for (int attempt = 0; attempt < 50 && rate == 0; ++attempt) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // until the server listens
    FILE* output = ::popen(client.c_str(), "r");
    CHECK(output != nullptr);
    std::array<char, 512> line{};
    while (std::fgets(line.data(), line.size(), output) != nullptr)
      (void)std::sscanf(line.data(), "%*[^,],%*[^,],%*[^,],%*[^,],%*[^,],%lf", &rate);
    ::pclose(output);
  }
  ::kill(server, SIGTERM);
  ::waitpid(server, nullptr, 0);
  CHECK(rate > 0, "ucx_perftest gave no figure");
  return rate;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

bool table(const std::string& transports, std::size_t repeats, std::size_t mib) {
  fmt::print("\n{}\n{:>10} {:>15} {:>19} {:>7} {:>15}\n", transports, "bytes", "penstock MiB/s",
             "ucx_perftest MiB/s", "ratio", "lowest-highest");
  ::setenv("UCX_TLS", transports.c_str(), 1);  // before any thread: each run is its own process
  bool met = true;
  for (std::size_t bytes = std::size_t{64} << 10; bytes <= std::size_t{4} << 20; bytes *= 4) {
    const std::size_t count = std::max<std::size_t>((mib << 20) / bytes, 64);
    std::vector<double> ours, theirs, ratios;
    for (std::size_t i = 0; i < repeats; ++i) {
      ours.push_back(measure_penstock(bytes, count));
      theirs.push_back(measure_perftest(bytes, count));
      ratios.push_back(ours.back() / theirs.back());
    }
    const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
    const double ratio = median(ours) / median(theirs);
    fmt::print("{:>10} {:>15.0f} {:>19.0f} {:>7.2f} {:>10.2f}-{:.2f}\n", bytes, median(ours),
               median(theirs), ratio, *low, *high);
    std::fflush(stdout);
    met &= ratio >= kBar;
  }
  return met;
}

int run(std::size_t repeats, std::size_t mib, const std::vector<std::string>& transports) {
  fmt::print(
      "ucx provider against ucx_perftest -t ucp_am_bw, two pinned processes of this host,\n"
      "medians of {} interleaved repeats of {} MiB\n",
      repeats, mib);
  pin(1);
  ::setenv("UCX_MM_ERROR_HANDLING", "y", 1);  // what the provider asks for, for ucx_perftest too
  ::setenv("UCX_WARN_UNUSED_ENV_VARS", "n", 1);
  bool met = true;
  for (const std::string& each : transports) met &= table(each, repeats, mib);
  fmt::print("\nbar (≥ {:.2f} of ucx_perftest at ≥ 64 KiB): {}\n", kBar, met ? "met" : "MISSED");
  return met ? 0 : 3;
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--send") == 0) return penstock::bench::run_sender(argv[2]);
  std::array<std::size_t, 2> numbers{5, 256};
  std::vector<std::string> transports;
  for (int i = 1; i < argc; ++i) {
    const long number = std::atol(argv[i]);
    if (i <= 2 && number > 0)
      numbers.at(static_cast<std::size_t>(i - 1)) = static_cast<std::size_t>(number);
    else
      transports.emplace_back(argv[i]);
  }
  if (transports.empty()) transports = {"tcp,self", "posix,sysv,cma,self"};
  return penstock::bench::run(numbers[0], numbers[1], transports);
}
