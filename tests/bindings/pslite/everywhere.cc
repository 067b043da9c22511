// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// A program that does not care where it is: whoever is no server works with the keys, the scheduler
// too, and asks by its KVWorker for turns, which the scheduler's hands out. Nobody deletes
// anything.

#include "ps/ps.h"

namespace {

const int kKeys = 500;
const int kRounds = 10;

ps::KVServer<double>* server = nullptr;
ps::KVWorker<double>* kv = nullptr;
std::atomic<int> turns(0);

void Work() {
  std::vector<ps::Key> keys(kKeys);
  std::vector<double> vals(2 * kKeys);
  std::vector<int> lens(kKeys);
  for (int i = 0; i < kKeys; ++i) keys[i] = ps::kMaxKey / kKeys * i;
  for (int i = 0; i < kKeys; ++i) lens[i] = 1 + i % 3;
  vals.resize(std::accumulate(lens.begin(), lens.end(), 0));
  for (size_t i = 0; i < vals.size(); ++i) vals[i] = static_cast<double>(i) + 0.5;
  for (int round = 0; round < kRounds; ++round) {
    kv->Wait(kv->Push(keys, vals, lens));
    kv->Wait(kv->Request(round, "turn", ps::kScheduler));
  }
  ps::Postoffice::Get()->Barrier(ps::kWorkerGroup + ps::kScheduler);
  std::vector<double> got;
  std::vector<int> got_lens;
  kv->Wait(kv->Pull(keys, &got, &got_lens));
  CHECK_EQ(got_lens, lens);
  CHECK_EQ(got.size(), vals.size());
  const double each = kRounds * (ps::NumWorkers() + 1);
  for (size_t i = 0; i < got.size(); ++i) CHECK_EQ(got[i], vals[i] * each) << "value " << i;
  if (ps::IsScheduler()) CHECK_EQ(turns.load(), kRounds * (ps::NumWorkers() + 1));
}

}  // namespace

int main() {
  if (ps::IsServer()) {
    server = new ps::KVServer<double>(0);
    server->set_request_handle(ps::KVServerDefaultHandle<double>());
  } else {
    kv = new ps::KVWorker<double>(0);
  }
  if (ps::IsScheduler())
    kv->set_request_handle([](const ps::SimpleData& request, ps::SimpleApp* app) {
      CHECK_EQ(request.body, "turn");
      ++turns;
      app->Response(request);
    });
  ps::StartAsync("everywhere\0");
  ps::Postoffice::Get()->Barrier(ps::kScheduler + ps::kServerGroup + ps::kWorkerGroup);
  if (kv != nullptr) Work();
  ps::Finalize();
  std::cout << "good" << std::endl;
  return 0;
}
