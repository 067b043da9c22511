// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// A program that fails as TEST_FAILURE says: the last worker dies, or something is asked that
// cannot be. How the others end is what job_test.py looks at.

#include <csignal>

#include "ps/ps.h"

namespace {

const char* Failure() { return ps::Environment::Get()->find("TEST_FAILURE"); }
bool Fails(const char* how) { return std::strcmp(Failure(), how) == 0; }

// Holds back answers to the last worker's partners, so that they wait for it.
void Hold(const ps::KVMeta& meta, const ps::KVPairs<float>&, ps::KVServer<float>* server) {
  if (meta.cmd != 1) server->Response(meta);
}

void AskWrongly(ps::KVWorker<float>* kv) {
  const std::vector<ps::Key> key(1, 5);
  std::vector<float> vals(3, 1);
  if (Fails("key")) kv->Wait(kv->Push({ps::kMaxKey}, {1.0f}));
  if (Fails("lens")) kv->Wait(kv->Push(key, vals, {2}));
  if (Fails("order")) {
    const auto& ranges = ps::Postoffice::Get()->GetServerKeyRanges();
    const ps::Key first = ranges[0].begin(), second = ranges[1].begin();
    kv->Wait(kv->Push({first, second, first + 1}, {1, 2, 3}));
  }
  if (Fails("size")) kv->Wait(kv->Pull(key, &vals));
  if (Fails("app")) {
    ps::KVWorker<float> stranger(9, 0);
    stranger.Wait(stranger.Push(key, vals));
  }
  if (Fails("type")) {
    ps::KVWorker<char> other(0, 1);
    other.Wait(other.Push(key, std::vector<char>(3, 'x')));
  }
}

void RunWorker(ps::KVWorker<float>* kv) {
  AskWrongly(kv);
  const std::vector<ps::Key> key(1, 5);
  if (Fails("left")) return;
  if (ps::MyRank() == ps::NumWorkers() - 1) {
    kv->Wait(kv->Push(key, {1.0f}));
    if (Fails("exit")) std::_Exit(3);
    std::raise(SIGKILL);
  }
  if (Fails("barrier")) return ps::Postoffice::Get()->Barrier(0, ps::kWorkerGroup);
  if (Fails("callback")) {  // nobody waits
    kv->Push(key, {1.0f}, {}, 1);
    std::this_thread::sleep_for(std::chrono::seconds(60));
  }
  kv->Wait(kv->Push(key, {1.0f}, {}, 1));
}

// Asks until somebody is dead.
void WatchForDead() {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (std::chrono::steady_clock::now() < deadline) {
    const std::vector<int> dead = ps::Postoffice::Get()->GetDeadNodes(1);
    if (!dead.empty()) {
      std::cout << "dead: " << dead[0] << std::endl;
      return;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

int Run() {
  ps::Start(0);
  if (ps::IsServer()) {
    auto server = new ps::KVServer<float>(0);
    server->set_request_handle(Hold);
    ps::RegisterExitCallback([server]() { delete server; });
  }
  std::unique_ptr<ps::KVWorker<float>> kv;
  if (ps::IsWorker()) {
    kv.reset(new ps::KVWorker<float>(0, 0));
    RunWorker(kv.get());
  }
  if (ps::IsScheduler() && Fails("watch")) WatchForDead();
  if (ps::IsWorker() && Fails("left") && ps::MyRank() == ps::NumWorkers() - 1) {
    ps::Finalize(0, false);
    return 0;
  }
  ps::Finalize(0, true);
  return 0;
}

}  // namespace

int main() {
  try {
    return Run();
  } catch (const ps::Error& error) {
    std::cout << "caught: " << error.what() << std::endl;
  }
  try {
    ps::Finalize(0, false);
  } catch (const ps::Error&) {
  }
  std::_Exit(7);
}
