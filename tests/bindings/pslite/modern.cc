// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// A program in the dialect of 2018 and later: every role in one main(), keys spread over all
// servers, a window of outstanding pushes, then pulls of all kinds, every value checked.

#include <cmath>

#include "ps/ps.h"

using namespace ps;

namespace {

const int kKeys = 1000;
const int kRounds = 20;

std::vector<Key> SpreadKeys(int count) {
  std::vector<Key> keys(count);
  const Key step = kMaxKey / count;
  for (int i = 0; i < count; ++i) keys[i] = step * i + MyRank() % 3 * 0;
  return keys;
}

void RunServer() {
  if (!IsServer()) return;
  auto server = new KVServer<float>(0);
  server->set_request_handle(KVServerDefaultHandle<float>());
  RegisterExitCallback([server]() { delete server; });
}

void RunWorker() {
  if (!IsWorker()) return;
  KVWorker<float> kv(0, 0);
  const std::vector<Key> keys = SpreadKeys(kKeys);
  std::vector<float> vals(kKeys);
  for (int i = 0; i < kKeys; ++i) vals[i] = static_cast<float>(i % 100 + 1);

  std::atomic<int> callbacks(0);
  std::vector<int> timestamps;
  for (int round = 0; round < kRounds; ++round) {
    timestamps.push_back(kv.Push(keys, vals, {}, 0, [&callbacks]() { ++callbacks; }));
    if (round >= 8) kv.Wait(timestamps[round - 8]);
  }
  for (int timestamp : timestamps) kv.Wait(timestamp);
  for (int timestamp : timestamps) kv.Wait(timestamp);  // an old one: at once
  CHECK_EQ(callbacks.load(), kRounds);
  Postoffice::Get()->Barrier(0, kWorkerGroup);

  const float each = static_cast<float>(kRounds * NumWorkers());
  std::vector<float> got;
  kv.Wait(kv.Pull(keys, &got));
  CHECK_EQ(got.size(), vals.size());
  for (int i = 0; i < kKeys; ++i) CHECK_EQ(got[i], vals[i] * each) << "key " << i;

  SArray<Key> zkeys(keys);
  SArray<float> zvals(kKeys, -1.0f);
  float* const place = zvals.data();
  bool called = false;
  kv.Wait(kv.ZPull(zkeys, &zvals, nullptr, 0, [&called]() { called = true; }));
  CHECK(called);
  CHECK_EQ(zvals.data(), place);
  for (int i = 0; i < kKeys; ++i) CHECK_EQ(zvals[i], vals[i] * each) << "key " << i;
  Postoffice::Get()->Barrier(0, kWorkerGroup);

  if (MyRank() == 0) {
    std::vector<float> outs;
    kv.Wait(kv.PushPull(keys, vals, &outs));
    for (int i = 0; i < kKeys; ++i) CHECK_EQ(outs[i], vals[i] * (each + 1)) << "key " << i;
  }
  bool empty = false;
  kv.Wait(kv.Push(std::vector<Key>(), std::vector<float>(), {}, 0, [&empty]() { empty = true; }));
  CHECK(empty);
}

}  // namespace

int main(int argc, char* argv[]) {
  (void)argc;
  Start(0, argv[0]);
  RunServer();
  RunWorker();
  Finalize(0, true);
  std::cout << "good" << std::endl;
  return 0;
}
