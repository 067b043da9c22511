// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// push_pull_loop push|pull BYTES SECONDS [same]: how fast one worker pushes to, or pulls from, one
// server, through ps/ps.h and nothing else, so that it compiles against any ps-lite of 2018 and
// later. Every role of the job runs it. The worker prints "GBps <number> messages <number>".
//
// One key per message. The window is min(16, 64 MiB / BYTES) messages, at least 2, each with memory
// of its own, touched before; with "same" they share the worker's memory, as ucx_perftest's do, so
// that more of it stays in the processor's cache. Warm-up takes 30 % of SECONDS. The server answers
// pushes with nothing and pulls from memory it already has; it sums nothing.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <unordered_map>
#include <vector>

#include "ps/ps.h"

namespace {

typedef std::chrono::steady_clock Clock;
const size_t kMostWindow = 16;
const size_t kLeastWindow = 2;
const size_t kWindowBytes = size_t(64) << 20;
const double kWarmUp = 0.3;

struct KeepsFirst {
  void operator()(const ps::KVMeta& meta, const ps::KVPairs<char>& data,
                  ps::KVServer<char>* server) {
    if (!meta.pull) {
      ps::KVPairs<char>& kept = store[data.keys[0]];
      if (kept.keys.empty()) {
        kept.keys.CopyFrom(data.keys);
        kept.vals.CopyFrom(data.vals);
        kept.lens.CopyFrom(data.lens);
      }
      server->Response(meta);
    } else {
      server->Response(meta, store[data.keys[0]]);
    }
  }
  std::unordered_map<ps::Key, ps::KVPairs<char>> store;
};

class Loop {
 public:
  Loop(bool pull, size_t bytes, bool same) : pull_(pull), same_(same), kv_(0, 0) {
    const size_t window =
        std::min(kMostWindow, std::max(kLeastWindow, kWindowBytes / std::max<size_t>(bytes, 1)));
    for (size_t i = 0; i < window; ++i) {
      keys_.push_back(ps::SArray<ps::Key>(1, static_cast<ps::Key>(i)));
      vals_.push_back(same && i > 0 ? vals_[0] : ps::SArray<char>(bytes, static_cast<char>(i + 1)));
      lens_.push_back(ps::SArray<int>(1, static_cast<int>(bytes)));
    }
    timestamps_.resize(window, -1);
    for (size_t i = 0; i < window; ++i) kv_.Wait(kv_.ZPush(keys_[i], vals_[i], lens_[i]));
  }

  // Messages in that time and what it really was; none is under way when this returns.
  size_t Run(double seconds, double* took) {
    const Clock::time_point begin = Clock::now();
    const Clock::time_point end =
        begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    size_t sent = 0;
    const size_t window = timestamps_.size();
    for (; Clock::now() < end || sent < window; ++sent) {
      const size_t slot = sent % window;
      if (sent >= window) kv_.Wait(timestamps_[slot]);
      timestamps_[slot] = pull_ ? kv_.ZPull(keys_[slot], &vals_[slot], &lens_[slot])
                                : kv_.ZPush(keys_[slot], vals_[slot], lens_[slot]);
    }
    for (size_t slot = 0; slot < window; ++slot) kv_.Wait(timestamps_[slot]);
    *took = std::chrono::duration<double>(Clock::now() - begin).count();
    return sent;
  }

  // Every byte is still what was pushed.
  bool Intact() const {
    for (size_t i = 0; i < vals_.size(); ++i)
      for (const char value : vals_[i])
        if (value != static_cast<char>(same_ ? 1 : i + 1)) return false;
    return true;
  }

 private:
  const bool pull_, same_;
  ps::KVWorker<char> kv_;
  std::vector<ps::SArray<ps::Key>> keys_;
  std::vector<ps::SArray<char>> vals_;
  std::vector<ps::SArray<int>> lens_;
  std::vector<int> timestamps_;
};

int Measure(bool pull, size_t bytes, double seconds, bool same) {
  Loop loop(pull, bytes, same);
  double took = 0;
  loop.Run(seconds * kWarmUp, &took);
  const size_t messages = loop.Run(seconds, &took);
  if (!loop.Intact()) {
    std::fprintf(stderr, "push_pull_loop: the bytes are not those that were pushed\n");
    return 1;
  }
  std::printf("GBps %.6f messages %zu\n",
              static_cast<double>(messages) * static_cast<double>(bytes) / took / 1e9, messages);
  std::fflush(stdout);
  return 0;
}

}  // namespace

int main(int argc, char* argv[]) {
  const bool same = argc == 5 && std::string(argv[4]) == "same";
  const bool right = argc == 4 || same;
  const std::string direction = right ? argv[1] : "";
  const size_t bytes = right ? static_cast<size_t>(std::strtoull(argv[2], nullptr, 10)) : 0;
  const double seconds = right ? std::atof(argv[3]) : 0;
  if ((direction != "push" && direction != "pull") || bytes == 0 || !(seconds > 0)) {
    std::fprintf(stderr, "usage: push_pull_loop push|pull BYTES SECONDS [same]\n");
    return 64;
  }
  ps::Start(0, argv[0]);
  int result = 0;
  if (ps::IsServer()) {
    ps::KVServer<char>* const server = new ps::KVServer<char>(0);
    server->set_request_handle(KeepsFirst());
    ps::RegisterExitCallback([server]() { delete server; });
  }
  if (ps::IsWorker()) result = Measure(direction == "pull", bytes, seconds, same);
  ps::Finalize(0, true);
  return result;
}
