// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0
#include "bindings/pslite/kvserver/server.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string_view>

#include "bindings/pslite/kvserver/store.h"

namespace penstock::kvserver {
namespace {

constexpr int kApp = 0;
constexpr int kCustomer = 0;
constexpr int kEverybody = ps::kScheduler + ps::kServerGroup + ps::kWorkerGroup;
constexpr std::chrono::seconds kLook{1};  // between looks for the dead

void say(const std::string& sentence) {
  std::fprintf(stderr, "penstock-kvserver: %s\n", sentence.c_str());
}

[[noreturn]] void end_process(const Status& why) {
  say(why.to_string());
  std::fflush(nullptr);
  std::_Exit(1);  // the other threads are in the middle of their work
}

// One role for all: handlers run on the customer's thread, one at a time.
class Server {
 public:
  Server()
      : store_(best_kernels(), best_row_kernels(),
               [this](const ps::KVMeta& meta, const ps::KVPairs<char>& pairs) {
                 server_.Response(meta, pairs);
               }),
        server_(kApp) {
    static_cast<ps::SimpleApp&>(server_).set_request_handle(
        [this](const ps::SimpleData& command, ps::SimpleApp* app) { on_command(command, app); });
    server_.set_request_handle([this](const ps::KVMeta& meta, const ps::KVPairs<char>& pairs,
                                      ps::KVServer<char>*) { on_data(meta, pairs); });
  }

  Status wait_until_stopped() {
    std::unique_lock lock(mutex_);
    while (!stopped_.wait_for(lock, kLook, [this] { return stop_; }))
      PENSTOCK_RETURN_IF_ERROR(look_for_the_dead());
    return {};
  }

 private:
  void on_command(const ps::SimpleData& command, ps::SimpleApp* app) {
    const Status done = store_.command(command.head, command.body);
    if (!done.ok()) say(fmt::format("command {}: {}", command.head, done.to_string()));
    {
      const std::lock_guard lock(mutex_);
      stop_ = stop_ || command.head == static_cast<int>(Head::kStopServer);
      sync_ = sync_ || command.head == static_cast<int>(Head::kSyncMode);
    }
    app->Response(command, done.ok() ? "" : done.to_string());
    stopped_.notify_all();
  }

  void on_data(const ps::KVMeta& meta, const ps::KVPairs<char>& pairs) {
    if (!configured_) {
      const auto& ranges = ps::Postoffice::Get()->GetServerKeyRanges();
      const Status status =
          store_.configure({static_cast<std::uint32_t>(ps::NumWorkers()),
                            ranges[static_cast<std::size_t>(ps::MyRank())].begin()});
      if (!status.ok()) end_process(status);
      configured_ = true;
    }
    Status done = store_.data(meta, pairs);
    if (!done.ok())
      end_process(std::move(done).with_peer(
          fmt::format("worker {}", ps::Postoffice::IDtoRank(meta.sender))));
  }

  Status look_for_the_dead() const {
    std::size_t dead = 0;
    const auto workers = ps::Postoffice::Get()->GetNodeIDs(ps::kWorkerGroup);
    for (const int id : ps::Postoffice::Get()->GetDeadNodes())
      if (std::find(workers.begin(), workers.end(), id) != workers.end()) ++dead;
    if (dead == 0 || (!sync_ && dead < workers.size())) return {};
    return Status(Code::kPeerLost, fmt::format("{} of {} workers are gone", dead, workers.size()));
  }

  Store store_;
  bool configured_ = false;  // of the customer's thread
  std::mutex mutex_;         // of what follows
  std::condition_variable stopped_;
  bool stop_ = false;
  bool sync_ = false;
  ps::KVServer<char> server_;  // last: its thread uses the others
};

}  // namespace

Status serve() {
  const char* const role = ps::Environment::Get()->find("DMLC_ROLE");
  const std::string_view name = role != nullptr ? role : "";
  if (name != "server" && name != "scheduler")
    return Status(Code::kInvalidArgument,
                  fmt::format("DMLC_ROLE is \"{}\"; this program is a server or a scheduler", name))
        .with_hint("start the workers as the program that trains");
  std::unique_ptr<Server> server;
  if (name == "server") server = std::make_unique<Server>();
  ps::StartAsync(kCustomer, "penstock-kvserver");
  if (!ps::Postoffice::Get()->is_recovery()) ps::Postoffice::Get()->Barrier(kCustomer, kEverybody);
  if (server != nullptr)
    if (const Status ended = server->wait_until_stopped(); !ended.ok()) end_process(ended);
  ps::Finalize(kCustomer, true);
  return {};
}

}  // namespace penstock::kvserver
