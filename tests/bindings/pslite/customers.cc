// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Several customers in one process, a thread each. DMLC_NUM_WORKER counts all of them when they
// start together; those that come when the job runs are not counted.

#include "ps/ps.h"

namespace {

const int kCustomers = 3;
const int kKeys = 50;

std::vector<ps::Key> Keys(int customer) {
  std::vector<ps::Key> keys;
  const auto& ranges = ps::Postoffice::Get()->GetServerKeyRanges();
  for (const ps::Range& range : ranges)
    for (int i = 0; i < kKeys; ++i)
      keys.push_back(range.begin() + static_cast<ps::Key>(customer * kKeys + i));
  return keys;
}

void RunCustomer(int customer, int times) {
  ps::Start(customer);
  {
    ps::KVWorker<double> kv(0, customer);
    const std::vector<ps::Key> keys = Keys(customer);
    std::vector<double> vals(keys.size());
    for (size_t i = 0; i < vals.size(); ++i)
      vals[i] = customer + 0.25 * static_cast<double>(i % 16);
    std::vector<int> timestamps;
    for (int i = 0; i < 10; ++i) timestamps.push_back(kv.Push(keys, vals));
    for (int timestamp : timestamps) kv.Wait(timestamp);
    ps::Postoffice::Get()->Barrier(customer, ps::kWorkerGroup);
    std::vector<double> got;
    kv.Wait(kv.Pull(keys, &got));
    CHECK_EQ(got.size(), vals.size());
    for (size_t i = 0; i < got.size(); ++i)
      CHECK_EQ(got[i], vals[i] * 10 * times) << "customer " << customer << " at " << i;
  }
  ps::Finalize(customer, true);
}

}  // namespace

int main() {
  if (!ps::IsWorker()) {
    ps::Start(0);
    if (ps::IsServer()) {
      auto server = new ps::KVServer<double>(0);
      server->set_request_handle(ps::KVServerDefaultHandle<double>());
      ps::RegisterExitCallback([server]() { delete server; });
    }
    ps::Finalize(0, true);
  } else {
    const char* processes = ps::Environment::Get()->find("TEST_WORKER_PROCESSES");
    const int times = std::atoi(processes);
    if (ps::NumWorkers() == times) ps::StartAsync(0);
    std::vector<std::thread> threads;
    for (int customer = 1; customer < kCustomers; ++customer)
      threads.emplace_back([customer, times]() { RunCustomer(customer, times); });
    RunCustomer(0, times);
    for (std::thread& thread : threads) thread.join();
  }
  std::cout << "good" << std::endl;
  return 0;
}
