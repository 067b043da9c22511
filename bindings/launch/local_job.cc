// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/launch/local_job.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

namespace penstock::launch {
namespace {

constexpr TimeNs kTermPatience = 5 * kSecond;  // between SIGTERM and SIGKILL
constexpr int kNotExecuted = 127;              // as shells end when there is no such program

sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

struct Pipe {
  UniqueFd read, write;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) return Status::system("cannot make a pipe", errno);
  Pipe made{UniqueFd(ends[0]), UniqueFd(ends[1])};
  fcntl(made.read.get(), F_SETFL, O_NONBLOCK);
  return made;
}

// In the child, between fork and exec.
int become(const std::vector<std::string>& program, const Environment& variables, int out,
           int error) {
  setpgid(0, 0);
  const sigset_t set = ending_signals();
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
  const int nothing = open("/dev/null", O_RDONLY | O_CLOEXEC);
  dup2(nothing, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(error, STDERR_FILENO);
  for (const auto& [name, value] : variables) setenv(name.c_str(), value.c_str(), 1);
  std::vector<char*> words;
  for (const std::string& word : program) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  execvp(words[0], words.data());
  const std::string why = fmt::format("cannot run {}: {}\n", program[0], std::strerror(errno));
  (void)!write(STDERR_FILENO, why.data(), why.size());
  return kNotExecuted;
}

}  // namespace

struct LocalJob::Member {
  std::string name;
  ChildProcess process;
  pid_t group;
  std::array<LineOutput, 2> output;
  std::optional<ChildExit> exit{};
  bool told = false;

  void look() {
    for (LineOutput& stream : output) stream.pump();
    if (exit) return;
    if (Result<ChildExit> ended = process.wait(0); ended.ok()) exit = *ended;
  }
};

LocalJob::LocalJob() {
  const sigset_t set = ending_signals();
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_.reset(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

LocalJob::~LocalJob() {
  signal_all(SIGKILL);
  members_.clear();
  const sigset_t set = ending_signals();
  sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

Status LocalJob::start(const std::string& name, const std::vector<std::string>& program,
                       const Environment& variables) {
  CHECK(!program.empty(), "no program");
  PENSTOCK_ASSIGN_OR_RETURN(Pipe out, make_pipe());
  PENSTOCK_ASSIGN_OR_RETURN(Pipe error, make_pipe());
  PENSTOCK_ASSIGN_OR_RETURN(ChildProcess child, ChildProcess::start([&] {
                              return become(program, variables, out.write.get(), error.write.get());
                            }));
  const pid_t group = child.pid();
  setpgid(group, group);  // whoever is first
  const std::string prefix = fmt::format("[{}] ", name);
  members_.push_back(Member{name,
                            std::move(child),
                            group,
                            {LineOutput(std::move(out.read), STDOUT_FILENO, prefix),
                             LineOutput(std::move(error.read), STDERR_FILENO, prefix)}});
  return {};
}

bool LocalJob::running() const {
  return std::any_of(members_.begin(), members_.end(), [](const Member& m) { return !m.exit; });
}

bool LocalJob::failed() const {
  return std::any_of(members_.begin(), members_.end(), [](const Member& member) {
    return member.exit && (member.exit->signal != 0 || member.exit->code != 0);
  });
}

int LocalJob::step(TimeNs until_ns) {
  std::vector<pollfd> events{{signals_.get(), POLLIN, 0}};
  for (const Member& member : members_) {
    if (!member.exit) events.push_back({member.process.handle(), POLLIN, 0});
    for (const LineOutput& stream : member.output)
      if (stream.pipe() >= 0) events.push_back({stream.pipe(), POLLIN, 0});
  }
  const TimeNs left_ns = std::max<TimeNs>(0, until_ns - SystemClock().now_ns());
  const TimeNs left_ms = std::min<TimeNs>(left_ns / kMillisecond + 1, 60'000);
  poll(events.data(), events.size(), static_cast<int>(left_ms));
  for (Member& member : members_) member.look();
  signalfd_siginfo signal{};
  if (read(signals_.get(), &signal, sizeof signal) != sizeof signal) return 0;
  return static_cast<int>(signal.ssi_signo);
}

void LocalJob::signal_all(int number) {
  for (const Member& member : members_) ::kill(-member.group, number);
}

void LocalJob::end_all() {
  for (Member& member : members_) member.told = !member.exit;
  signal_all(SIGTERM);
  const TimeNs patience_ns = SystemClock().now_ns() + kTermPatience;
  while (running() && SystemClock().now_ns() < patience_ns) step(patience_ns);
  signal_all(SIGKILL);
  const TimeNs end_ns = SystemClock().now_ns() + kTermPatience;
  while (running() && SystemClock().now_ns() < end_ns) step(end_ns);
  for (Member& member : members_)
    for (LineOutput& stream : member.output) stream.finish();
}

Status LocalJob::run(TimeNs deadline_ns, TimeNs grace_ns) {
  Status why;
  std::optional<TimeNs> until_ns;
  while (running() && why.ok()) {
    if (failed() && !until_ns) until_ns = SystemClock().now_ns() + grace_ns;
    const TimeNs next_ns = std::min(deadline_ns, until_ns.value_or(deadline_ns));
    if (const int signal = step(next_ns); signal != 0)
      why = Status(Code::kCancelled, fmt::format("signal {} ended the job", signal));
    else if (running() && SystemClock().now_ns() >= deadline_ns)
      why = Status(Code::kTimeout, "the job took too long");
    else if (running() && until_ns && SystemClock().now_ns() >= *until_ns)
      break;
  }
  end_all();  // also what the processes left behind in their groups
  return why;
}

std::vector<LocalJob::End> LocalJob::ends() const {
  std::vector<End> ends;
  for (const Member& member : members_) ends.push_back({member.name, member.exit, member.told});
  return ends;
}

}  // namespace penstock::launch
