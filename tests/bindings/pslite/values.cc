// SPDX-FileCopyrightText: The Penstock authors
// SPDX-License-Identifier: Apache-2.0

// Values of all lengths: several to a key, none to some, keys twice and out of order, small and
// large, a pull right behind its push, and where they lie in memory.

#include "ps/ps.h"

namespace {

using ps::Key;
using ps::KVMeta;
using ps::KVPairs;
using ps::SArray;

// Keeps what was pushed last, by worker and key, as it came: key and its values, once per position.
class Store {
 public:
  void operator()(const KVMeta& meta, const KVPairs<int>& data, ps::KVServer<int>* server) {
    const std::pair<int, Key> name(meta.sender, data.keys[0]);
    if (meta.push) {
      if (!data.lens.empty()) CHECK_EQ(data.lens.size(), data.keys.size());
      stored_[name] = data;  // keeps the memory
      if (!meta.pull) return server->Response(meta);
    }
    CHECK(stored_.count(name) == 1) << "pull of key " << data.keys[0] << " without a push";
    KVPairs<int> answer = stored_[name];
    CHECK_EQ(answer.keys.size(), data.keys.size());
    server->Response(meta, answer);
  }

 private:
  std::map<std::pair<int, Key>, KVPairs<int>> stored_;
};

int Value(int round, size_t i) {
  return round * 1000003 + static_cast<int>(i) * 7 + ps::MyRank() * 131071;
}

class Tester {
 public:
  explicit Tester(int app) : kv_(app, 0) {}

  // Pushes, pulls behind it without waiting, and checks all that came back. `lens` empty: equal.
  void Check(const SArray<Key>& keys, const SArray<int>& lens, size_t values) {
    ++round_;
    SArray<int> vals(values, 0);
    for (size_t i = 0; i < values; ++i) vals[i] = Value(round_, i);
    const int pushed = kv_.ZPush(keys, vals, lens);
    SArray<int> fresh;
    SArray<int> fresh_lens;
    const int fresh_pull = kv_.ZPull(keys, &fresh, &fresh_lens);
    SArray<int> place(values, -1);
    int* const address = place.data();
    SArray<int> place_lens(lens);
    const int place_pull = kv_.ZPull(keys, &place, lens.empty() ? nullptr : &place_lens);
    kv_.Wait(place_pull);
    kv_.Wait(fresh_pull);
    kv_.Wait(pushed);
    CHECK_EQ(fresh.size(), values);
    CHECK_EQ(place.size(), values);
    CHECK_EQ(address, place.data());
    for (size_t i = 0; i < values; ++i) {
      CHECK_EQ(fresh[i], Value(round_, i)) << "at " << i << " of " << values;
      CHECK_EQ(place[i], Value(round_, i)) << "at " << i << " of " << values << ", in place";
    }
    if (lens.empty()) return;
    CHECK_EQ(fresh_lens.size(), lens.size());
    for (size_t i = 0; i < lens.size(); ++i) CHECK_EQ(fresh_lens[i], lens[i]);
  }

  void CheckPushPull(const SArray<Key>& keys, size_t values) {
    ++round_;
    SArray<int> vals(values, 0);
    for (size_t i = 0; i < values; ++i) vals[i] = Value(round_, i);
    int called = 0;
    kv_.Wait(kv_.ZPushPull(keys, vals, &vals, nullptr, 0, [&called]() { ++called; }));
    CHECK_EQ(called, 1);
    for (size_t i = 0; i < values; ++i) CHECK_EQ(vals[i], Value(round_, i));
  }

 private:
  ps::KVWorker<int> kv_;
  int round_ = 0;
};

SArray<Key> OnePerServer(Key within) {
  SArray<Key> keys;
  for (const ps::Range& range : ps::Postoffice::Get()->GetServerKeyRanges())
    keys.push_back(range.begin() + within);
  return keys;
}

void RunWorker() {
  Tester tester(0);
  // The work doubles in size: small ones travel with the request, large ones land.
  for (size_t each = 1; each <= 1 << 18; each *= 8) {
    const SArray<Key> keys = OnePerServer(each);
    tester.Check(keys, SArray<int>(), each * keys.size());
    tester.CheckPushPull(keys, each * keys.size());
    // Lengths that differ, and one key without any value.
    SArray<Key> more;
    SArray<int> lens;
    size_t total = 0;
    for (const Key key : keys)
      for (int i = 0; i < 3; ++i) {
        more.push_back(key + static_cast<Key>(i) + 1000);
        lens.push_back(i == 0 ? 0 : static_cast<int>(each) * i);
        total += static_cast<size_t>(lens.back());
      }
    tester.Check(more, lens, total);
  }
  // Only keys without values.
  const SArray<Key> keys = OnePerServer(77777);
  tester.Check(keys, SArray<int>(keys.size(), 0), 0);
  // A key twice, and keys of one server out of order: together is all they must be.
  SArray<Key> odd;
  SArray<int> odd_lens;
  for (const Key key : OnePerServer(88888)) {
    for (const int step : {5, 5, 9, 1}) odd.push_back(key + static_cast<Key>(step));
    for (const int length : {0, 4, 2, 3}) odd_lens.push_back(length);
  }
  tester.Check(odd, odd_lens, odd.size() / 4 * 9);
  // One server's keys alone: the others are not asked.
  const Key last = ps::Postoffice::Get()->GetServerKeyRanges().back().end() - 1;
  tester.Check(SArray<Key>(1, last), SArray<int>(), 5);
}

}  // namespace

int main(int, char* argv[]) {
  ps::StartAsync(0, argv[0]);
  ps::Postoffice::Get()->Barrier(0, ps::kWorkerGroup + ps::kServerGroup + ps::kScheduler);
  if (ps::IsServer()) {
    auto server = new ps::KVServer<int>(0);
    server->set_request_handle(Store());
    ps::RegisterExitCallback([server]() { delete server; });
  }
  if (ps::IsWorker()) RunWorker();
  ps::Finalize(0, true);
  std::cout << "good" << std::endl;
  return 0;
}
